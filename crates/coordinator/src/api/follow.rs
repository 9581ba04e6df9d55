//! Following jobs by asking: one, with `ETag` and `?wait=`, or many at once.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use upres_common::job::JobId;
use upres_common::job::view::JobView;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Body, Problem};
use super::extract::{Id, Parameters};
use super::jobs::{find, job_id};
use crate::auth::{Caller, Scope};
use crate::store::events::Glance;
use crate::store::{events, listing, within_patience};

/// Longest `?wait=`.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Who waits looks so often even if nothing is heard of, lest the listener be deaf.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Jobs in one lookup.
const MAX_LOOKUP: usize = 1000;

/// A job as it was just seen, or was seen a while ago and has not changed.
pub(super) struct Seen {
    glance: Glance,
    ago: Duration,
}

/// Read a job. With `If-None-Match` an unchanged job is answered with 304; with `?wait=30` the answer
/// comes when the version differs from `If-None-Match` (or from now), or when the time is over.
/// `Retry-After` is an estimate of when the job will have come further.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"),
        ("wait" = Option<u64>, Query, description = "Seconds to wait for a change, at most 60"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer")),
    responses((status = 200, description = "The job; `ETag` is its version", body = JobView),
        (status = 304, description = "Unchanged"), (status = 404, body = Problem, description = "No such job"),
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
    let id = job_id(&id)?;
    let known = known_versions(&headers);
    let seen = match query.only("wait")? {
        // What may wait is on the heap: the answer from memory, which is nearly all there is, stays small.
        Some(wait) => Box::pin(wait_for_change(&app, &caller, id, &known, seconds(&wait)?)).await?,
        None => glance(&app, &caller, id).await?,
    };
    if known.contains(&seen.glance.version) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        mark(&app, &mut response, seen.glance.version, &seen).await;
        return Ok(response);
    }
    let job = Box::pin(find(&app, &caller, id)).await?;
    let version = job.version;
    let mut response = Json(job).into_response();
    mark(&app, &mut response, version, &seen).await;
    Ok(response)
}

/// `ETag`, and when to ask again.
async fn mark(app: &App, response: &mut Response, version: i64, seen: &Seen) {
    let tag = HeaderValue::from_str(&format!("\"{version}\""))
        .expect("a number is made of harmless characters");
    response.headers_mut().insert(header::ETAG, tag);
    if let Some(wait) = app.estimate.ask_again_after(&seen.glance, seen.ago).await {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

pub(super) fn seconds(wait: &str) -> Result<Duration, ApiError> {
    let seconds = wait.parse().ok().map(Duration::from_secs);
    seconds
        .filter(|wait| *wait <= MAX_WAIT)
        .ok_or_else(|| ApiError::field("/wait", "give whole seconds, at most 60"))
}

/// The versions that `If-None-Match` names.
fn known_versions(headers: &HeaderMap) -> Vec<i64> {
    let tags = known_tags(headers).into_iter();
    tags.filter_map(|tag| tag.parse().ok()).collect()
}

/// The tags that `If-None-Match` names.
pub(super) fn known_tags(headers: &HeaderMap) -> Vec<&str> {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter();
    tags.filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .filter_map(|tag| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag.strip_prefix('"')?.strip_suffix('"')
        })
        .collect()
}

/// Looks at the job, or remembers what was seen.
pub(super) async fn glance(app: &App, caller: &Caller, id: JobId) -> Result<Seen, ApiError> {
    if let Some((glance, since)) = app.changes.remembered(&caller.tenant, id.0) {
        let ago = since.elapsed();
        return Ok(Seen { glance, ago });
    }
    let look = app.changes.look(id.0);
    let looked = Box::pin(within_patience(async {
        let mut conn = app.pool.acquire().await?;
        events::glance(&mut conn, &caller.tenant, id).await
    }));
    let looked = looked.await?;
    app.changes
        .remember(&caller.tenant, id.0, look, looked.as_ref());
    let glance = looked.ok_or(ApiError::NotFound("there is no such job"))?;
    let ago = Duration::ZERO;
    Ok(Seen { glance, ago })
}

/// Without a known version, waits for a change from now on. What has ended is not waited for.
async fn wait_for_change(
    app: &App,
    caller: &Caller,
    id: JobId,
    known: &[i64],
    wait: Duration,
) -> Result<Seen, ApiError> {
    let deadline = Instant::now() + wait;
    let watch = app.changes.watch(id.0);
    let mut first = None;
    loop {
        let change = watch.change();
        let seen = glance(app, caller, id).await?;
        let version = seen.glance.version;
        let unchanged = match known {
            [] => *first.get_or_insert(version) == version,
            known => known.contains(&version),
        };
        if seen.glance.ended || !unchanged || Instant::now() >= deadline {
            return Ok(seen);
        }
        tokio::select! {
            () = change => {}
            () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_AGAIN)) => {}
            () = app.stop.cancelled() => return Ok(seen),
        }
    }
}

/// Jobs to be read together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// Up to 1,000 ids.
    ids: Vec<String>,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct LookupAnswer {
    /// The jobs, without their attempts, in the order in which they were asked for.
    jobs: Vec<JobView>,
    /// Those that do not exist.
    missing: Vec<String>,
}

/// Read many jobs at once.
#[utoipa::path(post, path = "/v1/jobs/lookup", tag = "jobs", request_body = LookupRequest,
    responses((status = 200, description = "Those that exist, and the ids of the others", body = LookupAnswer),
        (status = 400, description = "Not such a body", body = Problem),
        (status = 422, description = "Too many ids", body = Problem)), security(("key" = ["read"])))]
pub async fn lookup(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<LookupRequest>,
) -> Result<Json<LookupAnswer>, ApiError> {
    require(&caller, Scope::Read)?;
    if request.ids.len() > MAX_LOOKUP {
        return Err(ApiError::field("/ids", "at most 1000 ids in one request"));
    }
    let ids: Vec<JobId> = request.ids.iter().flat_map(|id| id.parse()).collect();
    let found = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        listing::lookup(&mut conn, &caller.tenant, &ids).await
    });
    let found = found.await?.into_iter().map(|job| (job.id, job));
    let mut found: BTreeMap<JobId, JobView> = found.collect();
    let (mut jobs, mut missing) = (Vec::new(), Vec::new());
    for id in request.ids {
        match id.parse().ok().and_then(|id| found.remove(&id)) {
            Some(job) => jobs.push(job),
            // Asked for twice, it is answered once.
            None if (id.parse()).is_ok_and(|id: JobId| jobs.iter().any(|job| job.id == id)) => {}
            None => missing.push(id),
        }
    }
    Ok(Json(LookupAnswer { jobs, missing }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_tag_is_understood() {
        let mut headers = HeaderMap::new();
        let tags = HeaderValue::from_static("\"3\", W/\"4\" , 5, \"x\", *");
        headers.append(header::IF_NONE_MATCH, tags);
        headers.append(header::IF_NONE_MATCH, HeaderValue::from_static("\"7\""));
        assert_eq!(known_versions(&headers), [3, 4, 7]);
    }
}
