//! Following a batch by asking, with `ETag` and `?wait=`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use upres_common::batch::BatchView;
use upres_common::batch::view::Phase;

use super::App;
use super::batches::{batch_id, show};
use super::caller::require;
use super::error::{ApiError, Problem};
use super::extract::{Id, Parameters};
use super::follow::{known_tags, seconds};
use crate::auth::{Caller, Scope};

/// As often as the figures of a batch are counted anew.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of the digest that make a tag.
const TAG_BYTES: usize = 12;

/// Read a batch: how far it is, and when it will be done. With `If-None-Match` an unchanged batch is answered
/// with 304; with `?wait=30` the answer comes when anything differs from `If-None-Match` (or from now), when
/// the batch is finished, or when the time is over.
#[utoipa::path(get, path = "/v1/batches/{id}", tag = "batches",
    params(("id" = String, Path, description = "The batch's id"),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for a change, at most 60"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer")),
    responses((status = 200, description = "The batch; `ETag` stands for all of it", body = BatchView),
        (status = 304, description = "Unchanged"), (status = 404, body = Problem, description = "No such batch"),
        (status = 422, body = Problem, description = "`wait` is no number of seconds up to 60")),
    security(("key" = ["read"])))]
pub async fn read(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Read)?;
    let id = batch_id(&id)?;
    let wait = query.only("wait")?;
    let wait = wait.map(|wait| seconds(&wait)).transpose()?;
    let deadline = Instant::now() + wait.unwrap_or_default();
    let known = known_tags(&headers);
    let mut first = None;
    let (batch, tag) = loop {
        let batch = Box::pin(show(&app, &caller, id)).await?;
        let tag = tag(&batch);
        let unchanged = match known.as_slice() {
            [] => *first.get_or_insert_with(|| tag.clone()) == tag,
            known => known.contains(&tag.as_str()),
        };
        let is_over = batch.phase == Phase::Finished;
        if is_over || !unchanged || Instant::now() >= deadline {
            break (batch, tag);
        }
        tokio::select! {
            () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_EVERY)) => {}
            () = app.stop.cancelled() => break (batch, tag),
        }
    };
    let mut response = match known.contains(&tag.as_str()) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Json(batch).into_response(),
    };
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("a digest is harmless");
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

fn tag(batch: &BatchView) -> String {
    let text = serde_json::to_vec(batch).expect("a batch is plain data");
    hex::encode(&Sha256::digest(text)[..TAG_BYTES])
}
