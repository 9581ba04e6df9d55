//! Write back: the result goes to the store as a multipart upload of this attempt's own. Nobody sees
//! it until the coordinator completes it.

use bytes::Bytes;
use upres_common::lease::UploadedPart;
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri, Ownership, sha256_hex};

use crate::lease::Held;

/// Stores ask for 5 MiB at least and 10,000 parts at most; this allows results of 156 GiB.
const PART_BYTES: usize = 16 << 20;

/// An upload with all its parts, not yet visible.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) upload_id: String,
    pub(crate) parts: Vec<UploadedPart>,
    pub(crate) sha256: String,
    pub(crate) bytes: i64,
}

/// Uploads `file`. What fails half-way is aborted.
pub(crate) async fn write_back(
    objects: &ObjectStore,
    held: &Held,
    output: &ObjectUri,
    media_type: &str,
    file: Bytes,
) -> Result<Uploaded, ObjectError> {
    let ownership = Ownership {
        job_id: held.lease.job_id,
        attempt: held.lease.attempt,
        token: held.lease.token,
    };
    let sha256 = sha256_hex(&file);
    let upload_id = objects.begin_upload(output, media_type, &ownership).await?;
    held.upload_id.send_replace(Some(upload_id.clone()));
    let bytes = i64::try_from(file.len()).unwrap_or(i64::MAX);
    match put_parts(objects, output, &upload_id, file).await {
        Ok(parts) => Ok(Uploaded {
            upload_id,
            parts,
            sha256,
            bytes,
        }),
        Err(error) => {
            abort(objects, output, &upload_id).await;
            Err(error)
        }
    }
}

async fn put_parts(
    objects: &ObjectStore,
    output: &ObjectUri,
    upload_id: &str,
    file: Bytes,
) -> Result<Vec<UploadedPart>, ObjectError> {
    let mut parts = Vec::new();
    let mut rest = file;
    let mut number = 1;
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PART_BYTES));
        parts.push(objects.put_part(output, upload_id, number, part).await?);
        number += 1;
    }
    Ok(parts)
}

/// Gives an upload up. A failure here costs storage, not correctness.
pub(crate) async fn abort(objects: &ObjectStore, output: &ObjectUri, upload_id: &str) {
    if let Err(error) = objects.abort_upload(output, upload_id).await {
        tracing::warn!(object.key = %output, error = &error as &dyn std::error::Error, "an abandoned upload was left behind");
    }
}
