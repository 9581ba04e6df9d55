//! `/v1/jobs/{id}/events`: following a job without asking again, by server-sent events.
//!
//! An event's id is the job's version, so whoever lost the connection says with `Last-Event-ID` what it
//! knows and is sent the rest from `job_events`. Progress is not kept: the latest is sent when it comes.
//! The stream ends with the job. Who then connects anew is answered 204, by which browsers stop.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures_util::stream;
use serde::Serialize;
use upres_common::job::JobId;
use upres_common::job::view::Progress;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Problem};
use super::extract::Id;
use super::jobs::job_id;
use crate::auth::{Caller, Scope};
use crate::changes::Watch;
use crate::store::{StoreError, events, within_patience};

/// A comment is sent so often, lest somebody on the way take the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Even if nothing is heard of, so often is looked whether something changed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The data of an event named `state`.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateEvent {
    /// The job's version by it; also the event's id.
    version: i64,
    /// The state that followed.
    state: String,
    /// The attempt that was under way, or the last one.
    attempt: i32,
    /// When.
    at: DateTime<Utc>,
}

/// The data of an event named `progress`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressEvent {
    /// The job's version by it; also the event's id.
    version: i64,
    /// How far it is.
    progress: Progress,
}

/// Follow a job: `state` events for each change since `Last-Event-ID` (since it was accepted, without
/// one), `progress` events while it runs. Ends with the job.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that is known")),
    responses((status = 200, description = "Events; the data of those named `state` look like this, of those named `progress` like ProgressEvent",
            body = StateEvent, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended and that is known"),
        (status = 404, body = Problem, description = "No such job")),
    security(("key" = ["read"])))]
pub async fn follow(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Read)?;
    let id = job_id(&id)?;
    let known = headers.get("last-event-id");
    let known = known.and_then(|known| known.to_str().ok()?.trim().parse().ok());
    let mut follower = Follower {
        watch: app.changes.watch(id.0),
        app,
        tenant: caller.tenant.clone(),
        id,
        known: known.unwrap_or(0),
        pending: VecDeque::new(),
        ended: false,
    };
    // Looked at once before anything is answered: what is not there is an answer of its own.
    if !follower.look().await? {
        return Err(ApiError::NotFound("there is no such job"));
    }
    if follower.ended && follower.pending.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // For proxies that would otherwise collect a page first.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    Ok(response)
}

/// One who follows a job.
struct Follower {
    app: App,
    watch: Watch,
    tenant: String,
    id: JobId,
    /// The version up to which all was told.
    known: i64,
    pending: VecDeque<Event>,
    ended: bool,
}

impl Follower {
    /// The next event; `None` when the job has ended, or the process is about to.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            // Before the look, so that no change falls between the two.
            let change = self.watch.change();
            // Removed meanwhile, or the database is away: the client comes again.
            if !self.look().await.unwrap_or(false) {
                return None;
            }
            if self.pending.is_empty() && !self.ended {
                tokio::select! {
                    () = change => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = self.app.stop.cancelled() => return None,
                }
            }
        }
    }

    /// Looks for what is not known yet. Returns whether there is such a job.
    async fn look(&mut self) -> Result<bool, StoreError> {
        let (tenant, id, known) = (&self.tenant, self.id, self.known);
        let looked = within_patience(async {
            let mut conn = self.app.pool.acquire().await?;
            // In this order: a change that comes between is told by the next look.
            let following = events::following(&mut conn, tenant, id).await?;
            Ok::<_, StoreError>((
                following,
                events::since(&mut conn, tenant, id, known).await?,
            ))
        });
        let (Some(following), events) = looked.await? else {
            return Ok(false);
        };
        self.ended = following.ended;
        for event in events {
            let version = event.version;
            let data = StateEvent {
                version,
                state: event.state,
                attempt: event.attempt,
                at: event.happened_at,
            };
            self.push("state", version, &data);
        }
        if let Some(progress) = following.progress
            && following.version > self.known
            && !self.ended
        {
            let version = following.version;
            self.push("progress", version, &ProgressEvent { version, progress });
        }
        Ok(true)
    }

    fn push(&mut self, name: &str, version: i64, data: &impl Serialize) {
        self.known = version;
        let text = serde_json::to_string(data).expect("plain data becomes JSON");
        let event = Event::default().event(name).id(version.to_string());
        self.pending.push_back(event.data(text));
    }
}
