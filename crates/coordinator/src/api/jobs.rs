//! `/v1/jobs`: submit, list, cancel, retry, fetch the result. How jobs are followed is in `follow`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use upres_common::job::state::STATE_NAMES;
use upres_common::job::view::{Explanation, JobPage, JobPrice, JobView};
use upres_common::job::{Class, JobId, JobRequest};

use super::caller::require;
use super::error::{ApiError, Body, Problem, cannot_sign};
use super::extract::{Id, Parameters};
use super::{App, webhooks};
use crate::auth::{Caller, Scope};
use crate::store::listing::{self, Filter};
use crate::store::within_patience;
use crate::submit::{self, Submission, Submitted};
use crate::{explain, lease, publish};

/// What a client that polls plainly is told to wait at first, in seconds.
const POLL_AFTER: HeaderValue = HeaderValue::from_static("1");
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Marks the answer to a repeated request.
pub(super) const REPLAYED: &str = "idempotency-replayed";
const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;
/// How long a cancellation waits for the object store.
const ABORT_TIME: Duration = Duration::from_secs(5);
/// How long a link to a result works.
const LINK_LIFETIME: Duration = Duration::from_secs(3600);

/// Submit a job. Everything that is wrong with it is named at once. Sent again with the same
/// `Idempotency-Key` within a day, it is still one job. With `?validate_only=true` nothing is stored, and the
/// answer is what it would take.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = JobRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters that is this request's alone"),
        ("validate_only" = Option<bool>, Query, description = "Price it and store nothing")),
    responses((status = 200, description = "What it would be (`validate_only`)", body = JobPrice),
        (status = 202, description = "Accepted; it will reach an end", body = JobView),
        (status = 409, description = "The output exists, or is a master; or the same request is under way", body = Problem),
        (status = 422, description = "Not acceptable; `errors` names each field", body = Problem),
        (status = 429, description = "The tenant's limit is reached; `Retry-After` says when to come back", body = Problem)),
    security(("key" = ["submit"])))]
pub async fn submit(
    State(app): State<App>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    Body(request): Body<JobRequest>,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Submit)?;
    let validate_only = validate_only(parameters)?;
    let key = idempotency_key(&headers)?.map(|key| submit::key(key, &request));
    if !validate_only && let Some(id) = submit::earlier(&app.pool, &caller, key.as_ref()).await? {
        return Ok(accepted(find(&app, &caller, id).await?, true));
    }
    let admitted = app.limits.admit(&app.pool, &caller.tenant).await?;
    let standing = admitted.map_err(ApiError::TooMany)?;
    webhooks::check(&app, &caller, request.webhook.as_deref()).await?;
    if validate_only {
        return Ok(Json(price(&app, &caller, request).await?).into_response());
    }
    if request.class == Class::Interactive {
        app.bell.courtesy.somebody_waits();
    }
    let traceparent = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok());
    let traceparent = traceparent.filter(|text| is_traceparent(text));
    let submission = Submission {
        request,
        traceparent,
        key,
    };
    let submitted =
        submit::submit(&app.pool, &app.objects, &app.accept, &caller, submission).await?;
    let mut response = match submitted {
        Submitted::Fresh(job) => accepted(*job, false),
        Submitted::Earlier(id) => accepted(find(&app, &caller, id).await?, true),
    };
    if let Some(standing) = standing {
        response.headers_mut().extend(standing.headers());
    }
    Ok(response)
}

fn accepted(job: JobView, replayed: bool) -> Response {
    let location = HeaderValue::from_str(&format!("/v1/jobs/{}", job.id))
        .expect("an id is made of harmless characters");
    let headers = [
        (header::LOCATION, location),
        (header::RETRY_AFTER, POLL_AFTER),
    ];
    let mut response = (StatusCode::ACCEPTED, headers, Json(job)).into_response();
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    } else {
        metrics::counter!("upres_jobs_submitted_total").increment(1);
    }
    response
}

async fn price(app: &App, caller: &Caller, request: JobRequest) -> Result<JobPrice, ApiError> {
    let (tile_steps, warnings) = submit::validate(&app.objects, caller, request).await?;
    let pace = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        listing::pace(&mut conn).await
    });
    let pace = pace.await?.filter(|pace| *pace > 0.0);
    Ok(JobPrice {
        tile_steps,
        seconds: pace.map(|pace| f64::from(tile_steps) / pace),
        warnings,
    })
}

/// The only parameter that a submission has.
pub(super) fn validate_only(parameters: Parameters) -> Result<bool, ApiError> {
    match parameters.only("validate_only")?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ApiError::field("/validate_only", "give true or false")),
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()))
        .map(Some)
        .ok_or_else(|| {
            ApiError::field(
                "/Idempotency-Key",
                "give 1 to 255 plain characters in this header, e.g. a UUID",
            )
        })
}

/// List jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs",
    params(("state" = Option<String>, Query, description = "Only this state"),
        ("batch" = Option<String>, Query, description = "Only jobs of this batch"),
        ("label.NAME" = Option<String>, Query, description = "Only jobs whose label NAME has this value; may be repeated"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 50 unless given"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, description = "A page", body = JobPage)), security(("key" = ["read"])))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Parameters(query): Parameters,
) -> Result<Json<JobPage>, ApiError> {
    require(&caller, Scope::Read)?;
    let (filter, limit) = page_request(query)?;
    // One more than asked for tells whether there is another page.
    let page = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        listing::page(&mut conn, &caller.tenant, &filter, limit + 1).await
    });
    let mut jobs = page.await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = jobs.len() > wanted;
    jobs.truncate(wanted);
    let next_cursor = jobs.last().filter(|_| more).map(|job| job.id.to_string());
    Ok(Json(JobPage { jobs, next_cursor }))
}

fn page_request(query: Vec<(String, String)>) -> Result<(Filter, i64), ApiError> {
    let mut filter = Filter::default();
    let mut limit = DEFAULT_PAGE;
    for (name, value) in query {
        if let Some(label) = name.strip_prefix("label.") {
            if name.contains('\0') || value.contains('\0') {
                return Err(ApiError::field("/label", "no label has the character NUL"));
            }
            filter.labels.insert(label.to_owned(), value);
            continue;
        }
        match name.as_str() {
            "state" if STATE_NAMES.contains(&value.as_str()) => filter.state = Some(value),
            "state" => {
                let known = STATE_NAMES.join(", ");
                return Err(ApiError::field(
                    "/state",
                    format!("no such state; there are {known}"),
                ));
            }
            "batch" => {
                let batch = value.parse();
                filter.batch =
                    Some(batch.map_err(|_| ApiError::field("/batch", "this is no id of a batch"))?);
            }
            "cursor" => {
                let before = value.parse();
                filter.before = Some(before.map_err(|_| {
                    ApiError::field("/cursor", "not a cursor: give back `next_cursor` as it was")
                })?);
            }
            "limit" => {
                limit = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=MAX_PAGE).contains(n))
                    .ok_or_else(|| {
                        ApiError::field("/limit", "give a whole number from 1 to 500")
                    })?;
            }
            _ => {
                return Err(ApiError::field(
                    &format!("/{name}"),
                    "there is no such filter",
                ));
            }
        }
    }
    Ok((filter, limit))
}

/// Cancel a job, waiting or running. Final, and harmless to repeat.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "Cancelled", body = JobView),
        (status = 409, description = "It has ended otherwise, or its result is being published", body = Problem)),
    security(("key" = ["cancel"])))]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<JobView>, ApiError> {
    require(&caller, Scope::Cancel)?;
    let id = find(&app, &caller, job_id(&id)?).await?.id;
    let left = within_patience(lease::cancel(&app.pool, id)).await?;
    app.changes.tell(id.0);
    if let Some(left) = left {
        let abort = publish::abort(&app.objects, &left.output, &left.upload_id);
        // Of a store that hangs the caller need not hear: worker and janitor abort it, too.
        let _ = tokio::time::timeout(ABORT_TIME, abort).await;
    }
    Ok(Json(find(&app, &caller, id).await?))
}

/// Try a failed job anew, under its id and with all its attempts. Releases a quarantined one.
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 202, description = "It waits again", body = JobView),
        (status = 409, description = "It has not failed, its batch was cancelled, or its time is over", body = Problem)),
    security(("key" = ["submit"])))]
pub async fn retry(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    require(&caller, Scope::Submit)?;
    let id = find(&app, &caller, job_id(&id)?).await?.id;
    within_patience(lease::revive(&app.pool, id)).await?;
    app.changes.tell(id.0);
    app.bell.work.ring();
    Ok((StatusCode::ACCEPTED, Json(find(&app, &caller, id).await?)))
}

/// Ask why a job is not running yet.
#[utoipa::path(get, path = "/v1/jobs/{id}/explain", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The reason, as a word and as a sentence", body = Explanation),
        (status = 404, body = Problem, description = "No such job")),
    security(("key" = ["read"])))]
pub async fn explain(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Explanation>, ApiError> {
    require(&caller, Scope::Read)?;
    let job = find(&app, &caller, job_id(&id)?).await?;
    let explained = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        explain::explain(&mut conn, &job, app.of_a_tenant).await
    });
    Ok(Json(explained.await?))
}

/// Fetch the result: a redirect to a link that works for an hour.
#[utoipa::path(get, path = "/v1/jobs/{id}/result", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 302, description = "`Location` is the link"),
        (status = 403, description = "The key's prefixes do not cover it", body = Problem),
        (status = 409, description = "It has not succeeded (yet)", body = Problem)),
    security(("key" = ["read"])))]
pub async fn result(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Read)?;
    let job = find(&app, &caller, job_id(&id)?).await?;
    let Some(result) = job.result.filter(|_| job.state == "succeeded") else {
        return Err(ApiError::Conflict(
            vec![],
            format!("the job is {}, it has no result", job.state),
        ));
    };
    let uri = result.uri.parse().map_err(|_| ApiError::Internal)?;
    if !caller.may_read(&uri) && !caller.may_write(&uri) {
        let detail = "this key's prefixes do not cover the result".to_owned();
        return Err(ApiError::Forbidden(vec![], detail));
    }
    let link = app
        .objects
        .presign_get(&uri, LINK_LIFETIME)
        .await
        .map_err(|error| cannot_sign(&error))?;
    let location = HeaderValue::from_str(&link).map_err(|_| ApiError::Internal)?;
    Ok((StatusCode::FOUND, [(header::LOCATION, location)]).into_response())
}

/// The job with its attempts.
pub(super) async fn find(app: &App, caller: &Caller, id: JobId) -> Result<JobView, ApiError> {
    let found = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        listing::find(&mut conn, &caller.tenant, id).await
    });
    found
        .await?
        .ok_or(ApiError::NotFound("there is no such job"))
}

/// An id that cannot be one names no job.
pub(super) fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::NotFound("there is no such job"))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; anything else is not passed on.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let hex =
        |part: &str, length| part.len() == length && part.chars().all(|c| c.is_ascii_hexdigit());
    matches!(parts[..], [version, trace, parent, flags]
        if hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_is_passed_on() {
        assert!(is_traceparent(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
        for bad in [
            "",
            "00-x-y-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn a_page_request_names_what_it_does_not_know() {
        let query =
            |name: &str, value: &str| page_request(vec![(name.to_owned(), value.to_owned())]);
        assert!(query("state", "queued").is_ok() && query("label.box", "12").is_ok());
        for (name, value) in [
            ("state", "lost"),
            ("limit", "0"),
            ("limit", "501"),
            ("cursor", "x"),
            ("statee", "queued"),
        ] {
            assert!(
                matches!(query(name, value), Err(ApiError::Invalid(_))),
                "{name}={value}"
            );
        }
    }
}
