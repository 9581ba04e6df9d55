//! Where a batch's items come from, read piece by piece and from any place on: a listing, a manifest, or
//! the request itself.

use std::sync::Arc;

use glob::{MatchOptions, Pattern};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use upres_common::batch::{BatchItem, BatchRequest};
use upres_common::objects::{ObjectError, ObjectStore, UriPrefix};
use upres_common::sidecar;

use super::manifest::{Manifest, ManifestError};

/// Objects in one answer of a listing; stores give no more.
const PAGE: i32 = 1000;

/// How far a source was read. Written down with what was made of it, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last item's place in its source.
    pub line: u64,
    /// Of a listing: the last key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Of a manifest: what it was when it was first opened. Another one under the same address has other
    /// lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One item, as far as it can be read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Its place in its source, from 1.
    pub line: u64,
    /// What it names, for the report.
    pub input: String,
    /// Size of the input, where the source tells.
    pub bytes: Option<u64>,
    /// The item, or what is wrong with it.
    pub item: Result<BatchItem, String>,
}

/// Some items.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// In the order of the source.
    pub reads: Vec<Read>,
    /// Items between them that the patterns leave out.
    pub skipped: u64,
    /// Behind them.
    pub position: Position,
    /// Nothing follows.
    pub end: bool,
}

/// Why a source cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The object store; unless it refuses, trying again helps.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The manifest is none, or not the one that it was.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl SourceError {
    /// Whether trying again can help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Objects(ObjectError::Unavailable { .. }) | Self::Manifest(ManifestError::Stopped)
        )
    }
}

/// An open source.
#[derive(Debug)]
pub enum Source {
    /// Objects under a prefix.
    Listing(Box<Listing>),
    /// A file with an item a line; away while a thread reads it.
    Manifest(Option<Box<Manifest>>, Position),
    /// The request's own.
    Items(Arc<[BatchItem]>, Position),
}

/// A listing.
#[derive(Debug)]
pub struct Listing {
    objects: ObjectStore,
    prefix: UriPrefix,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    position: Position,
}

/// Reads patterns.
///
/// # Errors
/// The pattern's place in the list, and a sentence.
pub fn patterns(texts: &[String]) -> Result<Vec<Pattern>, (usize, String)> {
    let read = texts.iter().enumerate().map(|(index, text)| {
        Pattern::new(text).map_err(|error| (index, format!("`{text}` is no pattern: {error}")))
    });
    read.collect()
}

impl Source {
    /// Opens the source of a batch that was found acceptable, at `position`.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn open(
        objects: &ObjectStore,
        request: &BatchRequest,
        position: Position,
        stop: &CancellationToken,
    ) -> Result<Self, SourceError> {
        if let Some(prefix) = &request.prefix {
            let unreadable = |_| ObjectError::NotFound(prefix.clone());
            return Ok(Self::Listing(Box::new(Listing {
                objects: objects.clone(),
                prefix: prefix.parse().map_err(unreadable)?,
                include: patterns(&request.include).unwrap_or_default(),
                exclude: patterns(&request.exclude).unwrap_or_default(),
                position,
            })));
        }
        if let Some(manifest) = &request.manifest {
            let (manifest, position) = Manifest::open(objects, manifest, position, stop).await?;
            return Ok(Self::Manifest(Some(Box::new(manifest)), position));
        }
        let items = request.items.clone().unwrap_or_default();
        Ok(Self::Items(items.into(), position))
    }

    /// The items that follow, about `limit` of them at most.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn next(&mut self, limit: usize) -> Result<Chunk, SourceError> {
        match self {
            Self::Listing(listing) => Ok(listing.next().await?),
            Self::Manifest(manifest, position) => {
                let mut reading = manifest.take().ok_or(ManifestError::Abandoned)?;
                let from = position.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let chunk = reading.next(limit, from);
                    (reading, chunk)
                });
                let (reading, chunk) = read.await.map_err(|_| ManifestError::Abandoned)?;
                *manifest = Some(reading);
                let chunk = chunk?;
                *position = chunk.position.clone();
                Ok(chunk)
            }
            Self::Items(items, position) => {
                let from = usize::try_from(position.line).unwrap_or(usize::MAX);
                let some = items.iter().enumerate().skip(from).take(limit);
                let reads: Vec<_> = some
                    .map(|(index, item)| Read {
                        line: index as u64 + 1,
                        input: item.input.clone(),
                        bytes: None,
                        item: Ok(item.clone()),
                    })
                    .collect();
                position.line += reads.len() as u64;
                Ok(Chunk {
                    skipped: 0,
                    end: position.line >= items.len() as u64,
                    position: position.clone(),
                    reads,
                })
            }
        }
    }
}

impl Listing {
    async fn next(&mut self) -> Result<Chunk, ObjectError> {
        let after = self.position.after.as_deref();
        let page = self.objects.list_after(&self.prefix, after, PAGE).await?;
        let (bucket, prefix) = self.prefix.bucket_and_key().unwrap_or_default();
        let mut chunk = Chunk {
            end: !page.more,
            ..Chunk::default()
        };
        for object in page.objects {
            self.position.line += 1;
            let below = object.key.strip_prefix(prefix).unwrap_or(&object.key);
            if self.is_wanted(below.trim_start_matches('/')) {
                let input = format!("s3://{bucket}/{}", object.key);
                let item = BatchItem {
                    input: input.clone(),
                    ..BatchItem::default()
                };
                chunk.reads.push(Read {
                    line: self.position.line,
                    input,
                    bytes: Some(object.bytes),
                    item: Ok(item),
                });
            } else {
                chunk.skipped += 1;
            }
            self.position.after = Some(object.key);
        }
        chunk.position = self.position.clone();
        Ok(chunk)
    }

    /// A folder's own mark and the records that lie beside results are never wanted.
    fn is_wanted(&self, key: &str) -> bool {
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches_with(key, options));
        !key.is_empty()
            && !key.ends_with('/')
            && !key.ends_with(sidecar::SUFFIX)
            && (self.include.is_empty() || any(&self.include))
            && !any(&self.exclude)
    }
}
