//! From a request's body to a finished draft, in pieces: memory does not grow with the object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use http::HeaderMap;
use s3s::dto::StreamingBlob;
use s3s::{S3Result, TrailingHeaders, s3_error};
use tokio::sync::mpsc;

use super::Api;
use crate::checksums::{self, Checksums};
use crate::draft::{Draft, Finished};
use crate::object::Given;
use crate::store::StoreError;

/// Pieces between the network and the disk; each is at most what the network gave in one go.
const IN_FLIGHT: usize = 16;

/// An object's or a part's data, and all that was said about it.
pub struct Delivery {
    pub body: Option<StreamingBlob>,
    pub headers: HeaderMap,
    pub trailers: Option<TrailingHeaders>,
    pub content_md5: Option<String>,
    pub given: Given,
}

impl Api {
    /// Writes the data to a draft and holds it against its checksums.
    pub async fn receive(&self, delivery: Delivery) -> S3Result<Finished> {
        let Some(mut body) = delivery.body else {
            return Err(s3_error!(IncompleteBody));
        };
        let mut draft = Draft::create(
            &self.store.drafts(),
            checksums::hasher_for(&delivery.headers),
        )
        .map_err(StoreError::from)?;

        let (pieces, mut arrived) = mpsc::channel::<bytes::Bytes>(IN_FLIGHT);
        let given = delivery.given;
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = arrived.blocking_recv() {
                draft.write(&piece)?;
            }
            Ok::<_, std::io::Error>(draft)
        });
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| s3_error!(IncompleteBody, "{error}"))?;
            // A writer that has given up says why below.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let draft = writing
            .await
            .map_err(|error| s3_error!(error, InternalError))?;
        let draft = draft.map_err(StoreError::from)?;
        let finished = self.ask(move |_| Ok(draft.finish(given, None)?)).await?;

        let mut claimed = Checksums::claimed(&delivery.headers);
        claimed.claim_trailers(delivery.trailers.as_ref());
        if let Some(wrong) = claimed.refuted_by(&finished.metadata.checksums) {
            return Err(StoreError::BadDigest(wrong.to_owned()).into());
        }
        if let Some(md5) = delivery.content_md5 {
            let md5 = STANDARD
                .decode(md5)
                .map_err(|error| s3_error!(error, InvalidDigest))?;
            if hex::encode(md5) != finished.metadata.etag {
                return Err(StoreError::BadDigest("MD5".to_owned()).into());
            }
        }
        Ok(finished)
    }
}
