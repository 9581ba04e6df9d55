//! Objects that are nobody's result: written in one go, found by their folder, removed.

use aws_sdk_s3::primitives::ByteStream;
use chrono::{DateTime, Utc};

use super::client::{ObjectStore, classify};
use super::{ObjectError, ObjectUri, UriPrefix};

/// One object of a folder.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it is.
    pub uri: ObjectUri,
    /// When it was written, by the store's clock.
    pub written_at: Option<DateTime<Utc>>,
}

impl ObjectStore {
    /// Writes an object, in place of what was there.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn put(&self, uri: &ObjectUri, bytes: Vec<u8>) -> Result<(), ObjectError> {
        let request = self.client.put_object().bucket(uri.bucket()).key(uri.key());
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
            Ok(_) | Err(ObjectError::NotFound(_)) => Ok(()),
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
