//! The record beside a result. Written when the result is visible and before the job says so: there is
//! no record without its image, and none of an attempt that does not publish. A crash in between writes
//! it again.

use upres_common::objects::{ObjectError, ObjectStore, ObjectUri, Ownership};
use upres_common::sidecar::SUFFIX;

use crate::store::publications::Publication;

/// Writes the record, if there is to be one. What somebody else has put under its name is left alone,
/// and a store that forbids it costs the record, not the result.
///
/// # Errors
/// [`ObjectError`] when the store does not answer; doing it again is safe.
pub(super) async fn write(
    objects: &ObjectStore,
    publication: &Publication,
) -> Result<(), ObjectError> {
    let Some(sidecar) = &publication.outcome.sidecar else {
        return Ok(());
    };
    let Ok(uri) = format!("{}{SUFFIX}", publication.output).parse::<ObjectUri>() else {
        tracing::warn!(object.key = %publication.output, "no record: its name would be too long");
        return Ok(());
    };
    let mut sidecar = sidecar.clone();
    sidecar
        .output
        .sha256
        .clone_from(&publication.outcome.sha256);
    let ownership = Ownership {
        job_id: publication.job_id,
        attempt: publication.attempt,
        token: publication.token,
    };
    match put(objects, &uri, sidecar.to_bytes(), &ownership).await {
        Err(error) if error.is_refusal() => {
            tracing::warn!(object.key = %uri, error = &error as &dyn std::error::Error, "no record: the store refuses it");
            Ok(())
        }
        written => written,
    }
}

async fn put(
    objects: &ObjectStore,
    uri: &ObjectUri,
    bytes: Vec<u8>,
    ownership: &Ownership,
) -> Result<(), ObjectError> {
    let there = objects.head(uri).await?;
    if there.is_some_and(|there| there.ownership.is_none()) {
        tracing::warn!(object.key = %uri, "no record: somebody else has put an object there");
        return Ok(());
    }
    objects
        .put_owned(uri, bytes, "application/json", ownership)
        .await
}
