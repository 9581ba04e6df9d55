//! `/v1/batches/{id}/events`: following a batch by server-sent events.
//!
//! Each event is the batch as it stands, so whoever lost the connection needs nothing of what it missed.
//! Figures are counted at most every two seconds however many follow. The stream ends with the batch; who
//! knows its end by `Last-Event-ID` is answered 204, by which browsers stop.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use upres_common::batch::{BatchId, BatchView};

use super::App;
use super::batches::{batch_id, find, show};
use super::caller::require;
use super::error::{ApiError, Problem};
use super::extract::Id;
use crate::auth::{Caller, Scope};
use crate::store::batches::BatchRow;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follow a batch: a `batch` event with all that `GET /v1/batches/{id}` shows, at first and whenever
/// something of it has changed. Ends with the batch.
#[utoipa::path(get, path = "/v1/batches/{id}/events", tag = "batches",
    params(("id" = String, Path, description = "The batch's id"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that is known")),
    responses((status = 200, description = "Events, their data like this", body = BatchView, content_type = "text/event-stream"),
        (status = 204, description = "The batch is finished and that is known"),
        (status = 404, body = Problem, description = "No such batch")),
    security(("key" = ["read"])))]
pub async fn follow(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Read)?;
    let id = batch_id(&id)?;
    let row = find(&app, &caller, id).await?;
    let known = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    if has_ended(&row) && known == Some(end_mark(row.completions).as_str()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = Follower {
        app,
        caller,
        id,
        sent: String::new(),
        events: 0,
        ended: false,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // For proxies that would otherwise collect a page first.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Not while its failed jobs are to be tried anew and are not yet.
fn has_ended(row: &BatchRow) -> bool {
    row.finished_at.is_some() && !row.is_retried
}

/// The id of the event that tells of a batch's end, which may come again when failed jobs are retried.
fn end_mark(completions: i32) -> String {
    format!("end-{completions}")
}

struct Follower {
    app: App,
    caller: Caller,
    id: BatchId,
    /// What was sent last.
    sent: String,
    events: u64,
    ended: bool,
}

impl Follower {
    /// The next event; `None` after the end, or when the process is about to stop.
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        loop {
            if self.events > 0 {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = self.app.stop.cancelled() => return None,
                }
            }
            // Removed meanwhile, or the database is away: the client comes again.
            let row = find(&self.app, &self.caller, self.id).await.ok()?;
            let view = show(&self.app, &self.caller, self.id).await.ok()?;
            let text = serde_json::to_string(&view).expect("plain data becomes JSON");
            self.ended = has_ended(&row);
            if text == self.sent && !self.ended {
                continue;
            }
            self.events += 1;
            let id = match self.ended {
                true => end_mark(row.completions),
                false => self.events.to_string(),
            };
            self.sent.clone_from(&text);
            return Some(Event::default().event("batch").id(id).data(text));
        }
    }
}
