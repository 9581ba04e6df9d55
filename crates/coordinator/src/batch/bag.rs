//! The bag: beside the report, the files by which any tool for BagIt (RFC 8493) can check every result.
//!
//! Results under the bag's own `data/` are its payload where they are, and the bag is complete; any other is
//! named in `fetch.txt`, from where a tool gets it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use upres_common::batch::BatchId;
use upres_common::objects::{ObjectStore, ObjectUri, sha256_hex};
use upres_common::sidecar::SUFFIX;

use super::report::ReportError;
use crate::store::batches::payload::{Payload, payload};
use crate::store::{StoreError, in_seconds, within_patience};

const MANIFEST: &str = "manifest-sha256.txt";
const FETCH: &str = "fetch.txt";
const INFO: &str = "bag-info.txt";
const BAGIT: &str = "bagit.txt";
const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
/// The files that a bag has beside the reports.
pub(super) const TAGS: [&str; 5] = [MANIFEST, FETCH, INFO, BAGIT, TAG_MANIFEST];

/// Results read at once.
const PAGE: i64 = 1000;
const TEXT: &str = "text/plain; charset=utf-8";
const DECLARATION: &str = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";

/// Where a bag lies.
#[derive(Debug, Clone)]
struct Bag {
    /// Without a slash at its end.
    folder: String,
}

/// One file of the payload.
struct File {
    address: String,
    sha256: String,
    bytes: u64,
}

impl Bag {
    fn uri(&self, name: &str) -> Result<ObjectUri, ReportError> {
        Ok(format!("{}/{name}", self.folder).parse()?)
    }

    /// The path in the bag, and whether the file is there already.
    fn place(&self, address: &str) -> (String, bool) {
        let own = address
            .strip_prefix(&self.folder)
            .filter(|rest| rest.starts_with("/data/"));
        match own {
            Some(rest) => (escape(&rest[1..]), true),
            None => {
                let path = address.strip_prefix("s3://").unwrap_or(address);
                (format!("data/{}", escape(path)), false)
            }
        }
    }

    fn manifest(&self, file: &File) -> String {
        format!("{}  {}\n", file.sha256, self.place(&file.address).0)
    }

    fn fetch(&self, file: &File) -> String {
        let (path, here) = self.place(&file.address);
        if here {
            return String::new();
        }
        // What stands between fields must not stand in one.
        let url = escape(&file.address)
            .replace(' ', "%20")
            .replace('\t', "%09");
        format!("{url} {} {path}\n", file.bytes)
    }
}

/// As paths are written in manifests: only what would break a line, and the sign itself.
fn escape(path: &str) -> String {
    path.replace('%', "%25")
        .replace('\n', "%0A")
        .replace('\r', "%0D")
}

fn files(payload: Payload) -> Vec<File> {
    let mut files = Vec::new();
    if let Some(sidecar) = &payload.sidecar {
        let bytes = sidecar.to_bytes();
        files.push(File {
            address: format!("{}{SUFFIX}", payload.output),
            sha256: sha256_hex(&bytes),
            bytes: bytes.len() as u64,
        });
    }
    files.push(File {
        address: payload.output,
        sha256: payload.result.sha256,
        bytes: u64::try_from(payload.result.bytes).unwrap_or(0),
    });
    files
}

/// Every file of the payload, a page of them at a time.
fn pages(pool: PgPool, id: BatchId) -> impl Stream<Item = Result<Vec<File>, StoreError>> {
    stream::try_unfold((pool, 0), move |(pool, after)| async move {
        let page = within_patience(async {
            let mut conn = pool.acquire().await?;
            payload(&mut conn, id, after, PAGE).await
        });
        let page = page.await?;
        let Some(last) = page.last().map(|payload| payload.line) else {
            return Ok(None);
        };
        let files = page.into_iter().flat_map(files).collect();
        Ok(Some((files, (pool, last))))
    })
}

/// Writes the bag's own files into the folder, in place of what was there. The report is there already.
///
/// - `reports`: name and SHA-256 of what else lies in the folder.
///
/// # Errors
/// [`ReportError`].
pub async fn write(
    pool: &PgPool,
    objects: &ObjectStore,
    id: BatchId,
    folder: &str,
    reports: Vec<(String, String)>,
) -> Result<(), ReportError> {
    let bag = Bag {
        folder: folder.trim_end_matches('/').to_owned(),
    };
    let mut tags = reports;
    let totals = Arc::new(Mutex::new((0_u64, 0_u64)));
    let manifest = {
        let (bag, totals) = (bag.clone(), Arc::clone(&totals));
        pages(pool.clone(), id).map(move |page| {
            let page = page?;
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.0 += page.iter().map(|file| file.bytes).sum::<u64>();
            totals.1 += page.len() as u64;
            let text: String = page.iter().map(|file| bag.manifest(file)).collect();
            Ok(Bytes::from(text))
        })
    };
    tags.push(put(objects, &bag, MANIFEST, manifest).await?);
    let fetch = {
        let bag = bag.clone();
        pages(pool.clone(), id).map(move |page| {
            let text: String = page?.iter().map(|file| bag.fetch(file)).collect();
            Ok(Bytes::from(text))
        })
    };
    tags.push(put(objects, &bag, FETCH, fetch).await?);
    let today = within_patience(async {
        let mut conn = pool.acquire().await?;
        in_seconds(&mut conn, 0.0).await
    });
    let today = today.await?;
    let (bytes, count) = *totals.lock().unwrap_or_else(PoisonError::into_inner);
    let info = format!(
        "Bagging-Date: {}\nBag-Software-Agent: upres {}\nExternal-Identifier: {id}\nPayload-Oxum: {bytes}.{count}\n",
        today.format("%F"),
        env!("CARGO_PKG_VERSION"),
    );
    tags.push(put(objects, &bag, INFO, whole(info)).await?);
    tags.push(put(objects, &bag, BAGIT, whole(DECLARATION.to_owned())).await?);
    let tagged: String = tags
        .iter()
        .map(|(name, sha256)| format!("{sha256}  {name}\n"))
        .collect();
    put(objects, &bag, TAG_MANIFEST, whole(tagged)).await?;
    Ok(())
}

fn whole(text: String) -> impl Stream<Item = Result<Bytes, StoreError>> {
    stream::iter([Ok(Bytes::from(text))])
}

async fn put(
    objects: &ObjectStore,
    bag: &Bag,
    name: &str,
    pieces: impl Stream<Item = Result<Bytes, StoreError>>,
) -> Result<(String, String), ReportError> {
    let sha256 = put_and_digest(objects, &bag.uri(name)?, TEXT, pieces).await?;
    Ok((name.to_owned(), sha256))
}

/// Writes an object and tells the SHA-256 of what was written, lower-case hex.
///
/// # Errors
/// [`ReportError`].
pub(super) async fn put_and_digest(
    objects: &ObjectStore,
    uri: &ObjectUri,
    media_type: &str,
    pieces: impl Stream<Item = Result<Bytes, StoreError>>,
) -> Result<String, ReportError> {
    let mut sha256 = Sha256::new();
    let pieces = pieces.inspect(|piece| {
        if let Ok(piece) = piece {
            sha256.update(piece);
        }
    });
    objects
        .put_pieces::<ReportError>(uri, media_type, pieces)
        .await?;
    Ok(hex::encode(sha256.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_elsewhere_is_fetched_and_one_in_the_bag_is_not() {
        let bag = Bag {
            folder: "s3://derivatives/bag".to_owned(),
        };
        let file = |address: &str| File {
            address: address.to_owned(),
            sha256: "ab".to_owned(),
            bytes: 7,
        };
        let here = file("s3://derivatives/bag/data/a/100%.png");
        assert_eq!(bag.manifest(&here), "ab  data/a/100%25.png\n");
        assert_eq!(bag.fetch(&here), "");
        let there = file("s3://other/my map.png");
        assert_eq!(bag.manifest(&there), "ab  data/other/my map.png\n");
        assert_eq!(
            bag.fetch(&there),
            "s3://other/my%20map.png 7 data/other/my map.png\n"
        );
    }
}
