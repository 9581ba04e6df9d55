//! Objects that are nobody's result: written in one go or piece by piece, found by their folder, removed.

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::pin_mut;
use futures_util::stream::{Stream, StreamExt};

use super::client::{Completion, ObjectStore, sha256_base64};
use super::error::classify;
use super::{ObjectError, ObjectUri, Ownership, UriPrefix};
use crate::lease::UploadedPart;

/// Parts of what is written piece by piece; above what stores ask for.
const PART_BYTES: usize = 8 << 20;

/// One object of a folder.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it is.
    pub uri: ObjectUri,
    /// When it was written, by the store's clock.
    pub written_at: Option<DateTime<Utc>>,
}

/// One object of a page.
#[derive(Debug, Clone)]
pub struct FoundObject {
    /// Its key, whatever is in it.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// Objects in the order of their keys.
#[derive(Debug, Clone)]
pub struct ObjectPage {
    /// The objects.
    pub objects: Vec<FoundObject>,
    /// Whether others follow.
    pub more: bool,
}

/// An upload that is given up when this is dropped, because it failed or because its caller wants it no more.
/// What escapes this the janitor finds.
struct Begun<'a> {
    objects: &'a ObjectStore,
    uri: &'a ObjectUri,
    /// `None` when it is completed.
    upload_id: Option<String>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        let (Some(upload_id), Ok(runtime)) = (self.upload_id.take(), runtime) else {
            return;
        };
        let (objects, uri) = (self.objects.clone(), self.uri.clone());
        runtime.spawn(async move { objects.abort_upload(&uri, &upload_id).await });
    }
}

impl ObjectStore {
    /// Objects under a prefix whose keys follow `after`, `limit` at most (stores give no more than 1,000).
    ///
    /// # Errors
    /// [`ObjectError`]; a bucket that is not there is `NotFound`.
    pub async fn list_after(
        &self,
        prefix: &UriPrefix,
        after: Option<&str>,
        limit: i32,
    ) -> Result<ObjectPage, ObjectError> {
        let (bucket, key_prefix) = prefix.bucket_and_key().unwrap_or_default();
        let request = self.client.list_objects_v2();
        let request = request.bucket(bucket).prefix(key_prefix).max_keys(limit);
        let page = request
            .set_start_after(after.map(str::to_owned))
            .send()
            .await;
        let page = page.map_err(|error| classify(prefix.as_str(), &error))?;
        let objects = page.contents().iter().filter_map(|object| {
            Some(FoundObject {
                key: object.key()?.to_owned(),
                bytes: object.size().and_then(|bytes| u64::try_from(bytes).ok())?,
            })
        });
        Ok(ObjectPage {
            objects: objects.collect(),
            more: page.is_truncated().unwrap_or(false),
        })
    }

    /// Writes an object, in place of what was there.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn put(&self, uri: &ObjectUri, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let request = self.client.put_object().bucket(uri.bucket()).key(uri.key());
        // Buckets that lock what is written take nothing without a checksum.
        let request = request.checksum_sha256(sha256_base64(&bytes));
        let sent = request.body(ByteStream::from(bytes)).send().await;
        sent.map_err(|error| classify(uri, &error))?;
        Ok(())
    }

    /// Writes an object from pieces, in place of what was there; it appears when all of it is there.
    ///
    /// # Errors
    /// Those of the pieces, and [`ObjectError`]; nothing became visible then, as far as is known.
    pub async fn put_pieces<E: From<ObjectError>>(
        &self,
        uri: &ObjectUri,
        media_type: &str,
        pieces: impl Stream<Item = Result<Bytes, impl Into<E>>>,
    ) -> Result<(), E> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(uri.bucket())
            .key(uri.key())
            .content_type(media_type)
            .checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256)
            .send()
            .await
            .map_err(|error| classify(uri, &error))?;
        let upload_id = begun.upload_id().unwrap_or_default().to_owned();
        let mut begun = Begun {
            objects: self,
            uri,
            upload_id: Some(upload_id.clone()),
        };
        self.put_parts::<E>(uri, &upload_id, pieces).await?;
        begun.upload_id = None;
        Ok(())
    }

    async fn put_parts<E: From<ObjectError>>(
        &self,
        uri: &ObjectUri,
        upload_id: &str,
        pieces: impl Stream<Item = Result<Bytes, impl Into<E>>>,
    ) -> Result<(), E> {
        pin_mut!(pieces);
        let mut parts: Vec<UploadedPart> = Vec::new();
        let mut waiting = BytesMut::new();
        let mut end = false;
        while !end {
            match pieces.next().await {
                Some(piece) => waiting.extend_from_slice(&piece.map_err(Into::into)?),
                None => end = true,
            }
            if waiting.len() >= PART_BYTES || (end && (!waiting.is_empty() || parts.is_empty())) {
                let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
                let bytes = std::mem::take(&mut waiting).freeze();
                parts.push(self.put_part(uri, upload_id, number, bytes).await?);
            }
        }
        match self.complete_upload(uri, upload_id, &parts, false).await? {
            Completion::Done => Ok(()),
            other => Err(E::from(ObjectError::Unavailable {
                uri: uri.to_string(),
                reason: format!("the upload could not be completed: {other:?}"),
            })),
        }
    }

    /// Writes an object that bears the job it belongs to, in place of what was there.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn put_owned(
        &self,
        uri: &ObjectUri,
        bytes: Vec<u8>,
        media_type: &str,
        ownership: &Ownership,
    ) -> Result<(), ObjectError> {
        let request = self.client.put_object().bucket(uri.bucket()).key(uri.key());
        let request = request
            .content_type(media_type)
            .set_metadata(Some(ownership.to_metadata()));
        let request = request.checksum_sha256(sha256_base64(&bytes));
        let sent = request.body(ByteStream::from(bytes)).send().await;
        sent.map_err(|error| classify(uri, &error))?;
        Ok(())
    }

    /// Removes an object; one that is gone already is no error.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn delete(&self, uri: &ObjectUri) -> Result<(), ObjectError> {
        let request = self.client.delete_object();
        let request = request.bucket(uri.bucket()).key(uri.key());
        match request.send().await.map_err(|error| classify(uri, &error)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_absence() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All objects under a prefix.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn list(&self, prefix: &UriPrefix) -> Result<Vec<Listed>, ObjectError> {
        let Some((bucket, key_prefix)) = prefix.bucket_and_key() else {
            return Ok(Vec::new());
        };
        let request = self.client.list_objects_v2();
        let mut pages = request
            .bucket(bucket)
            .prefix(key_prefix)
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify(prefix.as_str(), &error))?;
            found.extend(page.contents().iter().filter_map(|object| {
                Some(Listed {
                    uri: format!("s3://{bucket}/{}", object.key()?).parse().ok()?,
                    written_at: object
                        .last_modified()
                        .and_then(|time| DateTime::from_timestamp(time.secs(), 0)),
                })
            }));
        }
        Ok(found)
    }
}
