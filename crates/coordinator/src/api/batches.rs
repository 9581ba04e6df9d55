//! `/v1/batches`: submit, read, list, and what their owners ask for afterwards.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use upres_common::batch::view::{BatchPage, BatchPrice};
use upres_common::batch::{BatchId, BatchRequest, BatchView};
use upres_common::job::Class;
use upres_common::job::request::{FieldError, PRIORITIES};
use upres_common::job::view::JobPage;
use utoipa::ToSchema;

use super::caller::require;
use super::error::{self, ApiError, Body, Problem};
use super::extract::{Id, Parameters};
use super::jobs::{REPLAYED, idempotency_key, validate_only};
use super::{App, webhooks};
use crate::auth::{Caller, Scope};
use crate::batch::report::{Form, pieces};
use crate::batch::{self, Created, estimate::estimate, parent, view::view};
use crate::store::batches::promised::{self, Failure};
use crate::store::batches::{self, BatchRow};
use crate::store::{StoreError, within_patience};

const DEFAULT_PAGE: i64 = 20;
const MAX_PAGE: i64 = 100;

/// Submit a batch: a prefix, a manifest or a list of items. Its items become jobs in the background; those
/// that are not acceptable are in the report. Sent again with the same `Idempotency-Key` within a day, it is
/// still one batch. With `?validate_only=true` nothing is stored, and the answer says what the batch would be.
#[utoipa::path(post, path = "/v1/batches", tag = "batches", request_body = BatchRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Any text of at most 255 characters that is this request's alone"),
        ("validate_only" = Option<bool>, Query, description = "Price it and store nothing")),
    responses((status = 202, description = "Accepted; every item will be a job or a line in the report", body = BatchView),
        (status = 200, description = "What it would be (`validate_only`)", body = BatchPrice),
        (status = 403, description = "The key's prefixes do not cover its source or report", body = Problem),
        (status = 409, description = "A report is there already, or the same request is under way", body = Problem),
        (status = 422, description = "Not acceptable; `errors` names each field", body = Problem),
        (status = 429, description = "The tenant's limit is reached; `Retry-After` says when to come back", body = Problem)),
    security(("key" = ["submit"])))]
pub async fn submit(
    State(app): State<App>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    Body(body): Body<serde_json::Value>,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Submit)?;
    let validate_only = validate_only(parameters)?;
    let key = idempotency_key(&headers)?.filter(|_| !validate_only);
    let key = key.map(|key| batch::key(key, &body));
    // Before anything else is looked at: by now its parent may have gone.
    if let Some(key) = &key
        && let Some(id) = batch::earlier(&app.pool, &caller.tenant, key).await?
    {
        return accepted(&app, &caller, Created::Earlier(id)).await;
    }
    let admitted = app.limits.admit_batch(&caller.tenant);
    let standing = admitted.map_err(ApiError::TooMany)?;
    check_items(&body)?;
    let request: BatchRequest = error::read(parent::inherit(&app.pool, &caller, body).await?)?;
    webhooks::check(&app, &caller, request.webhook.as_deref()).await?;
    if validate_only {
        let price: BatchPrice = estimate(&app.pool, &app.objects, &caller, request).await?;
        return Ok(Json(price).into_response());
    }
    let created = batch::create(&app.pool, &app.objects, &caller, request, key).await?;
    let mut response = accepted(&app, &caller, created).await?;
    if let Some(standing) = standing {
        response.headers_mut().extend(standing.headers());
    }
    Ok(response)
}

/// A list would do for an item's fields, too.
fn check_items(body: &serde_json::Value) -> Result<(), ApiError> {
    let items = body["items"].as_array().into_iter().flatten();
    match items.enumerate().find(|(_, item)| !item.is_object()) {
        None => Ok(()),
        Some((index, _)) => {
            let pointer = format!("/items/{index}");
            let error = FieldError::new(&pointer, "an item is a JSON object with an `input`");
            Err(ApiError::Malformed(vec![error], String::new()))
        }
    }
}

async fn accepted(app: &App, caller: &Caller, created: Created) -> Result<Response, ApiError> {
    let (Created::Fresh(id) | Created::Earlier(id)) = created;
    let location = HeaderValue::from_str(&format!("/v1/batches/{id}"))
        .expect("an id is made of harmless characters");
    let shown = show(app, caller, id).await?;
    let headers = [(header::LOCATION, location)];
    let mut response = (StatusCode::ACCEPTED, headers, Json(shown)).into_response();
    if created == Created::Earlier(id) {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// List batches, newest first.
#[utoipa::path(get, path = "/v1/batches", tag = "batches",
    params(("limit" = Option<i64>, Query, description = "1 to 100, 20 unless given"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, description = "A page", body = BatchPage)), security(("key" = ["read"])))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<BatchPage>, ApiError> {
    require(&caller, Scope::Read)?;
    let (mut limit, mut before) = (DEFAULT_PAGE, None);
    for (name, value) in query {
        match name.as_str() {
            "limit" => {
                let read = value.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n));
                limit = read.ok_or_else(|| {
                    ApiError::field("/limit", "give a whole number from 1 to 100")
                })?;
            }
            "cursor" => {
                let read = value.parse();
                before = Some(read.map_err(|_| {
                    ApiError::field("/cursor", "not a cursor: give back `next_cursor` as it was")
                })?);
            }
            other => {
                return Err(ApiError::field(
                    &format!("/{other}"),
                    "there is no such filter",
                ));
            }
        }
    }
    let page = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        let mut rows = batches::page(&mut conn, &caller.tenant, before, limit + 1).await?;
        let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            batches.push(view(&mut conn, &app.figures, row).await?);
        }
        let next_cursor = batches
            .last()
            .filter(|_| more)
            .map(|batch| batch.id.to_string());
        Ok::<_, StoreError>(BatchPage {
            batches,
            next_cursor,
        })
    });
    Ok(Json(page.await?))
}

/// List the jobs of a batch, newest first; takes what `GET /v1/jobs` takes.
#[utoipa::path(get, path = "/v1/batches/{id}/jobs", tag = "batches",
    params(("id" = String, Path, description = "The batch's id"),
        ("state" = Option<String>, Query, description = "Only this state"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 50 unless given"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, description = "A page", body = JobPage),
        (status = 404, body = Problem, description = "No such batch")),
    security(("key" = ["read"])))]
pub async fn jobs(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Parameters(mut query): Parameters,
) -> Result<Json<JobPage>, ApiError> {
    require(&caller, Scope::Read)?;
    find(&app, &caller, batch_id(&id)?).await?;
    query.push(("batch".to_owned(), id));
    super::jobs::list(State(app), caller, Parameters(query)).await
}

/// Read the report: one line an input, at any time; complete when the batch is finished.
#[utoipa::path(get, path = "/v1/batches/{id}/report", tag = "batches",
    params(("id" = String, Path, description = "The batch's id"),
        ("format" = Option<String>, Query, description = "`jsonl` (unless given) or `csv`")),
    responses((status = 200, description = "One line an input, in the order of the source", body = String,
        content_type = "application/jsonl"),
        (status = 422, body = Problem, description = "Another format"),
        (status = 404, body = Problem, description = "No such batch")),
    security(("key" = ["read"])))]
pub async fn report(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    query: Parameters,
) -> Result<Response, ApiError> {
    require(&caller, Scope::Read)?;
    let form = match query.only("format")?.as_deref() {
        None | Some("jsonl") => Form::JsonLines,
        Some("csv") => Form::Csv,
        Some(_) => return Err(ApiError::field("/format", "give jsonl or csv")),
    };
    let id = BatchId(find(&app, &caller, batch_id(&id)?).await?.batch_id);
    let body = HttpBody::from_stream(pieces(app.pool.clone(), id, form));
    Ok(([(header::CONTENT_TYPE, form.media_type())], body).into_response())
}

/// Pause a batch: what runs goes on, nothing more is started.
#[utoipa::path(post, path = "/v1/batches/{id}/pause", tag = "batches",
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 200, description = "Paused", body = BatchView),
        (status = 409, description = "It is over", body = Problem)), security(("key" = ["cancel"])))]
pub async fn pause(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<BatchView>, ApiError> {
    set_paused(&app, &caller, &id, true).await
}

/// Resume a paused batch.
#[utoipa::path(post, path = "/v1/batches/{id}/resume", tag = "batches",
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 200, description = "Goes on", body = BatchView),
        (status = 409, description = "It is over", body = Problem)), security(("key" = ["cancel"])))]
pub async fn resume(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<BatchView>, ApiError> {
    set_paused(&app, &caller, &id, false).await
}

async fn set_paused(
    app: &App,
    caller: &Caller,
    id: &str,
    paused: bool,
) -> Result<Json<BatchView>, ApiError> {
    require(caller, Scope::Cancel)?;
    let row = find(app, caller, batch_id(id)?).await?;
    let id = BatchId(row.batch_id);
    let is_finished = row.finished_at.is_some() && !row.is_retried;
    if row.cancelled_at.is_some() || is_finished {
        let how = if is_finished { "finished" } else { "cancelled" };
        return Err(ApiError::Conflict(vec![], format!("the batch is {how}")));
    }
    within_patience(async {
        let mut conn = app.pool.acquire().await?;
        batches::set_paused(&mut conn, id, paused).await
    })
    .await?;
    app.bell.work.ring();
    Ok(Json(show(app, caller, id).await?))
}

/// Cancel a batch: final; its jobs are cancelled within seconds, waiting and running ones.
#[utoipa::path(post, path = "/v1/batches/{id}/cancel", tag = "batches",
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 200, description = "Being cancelled", body = BatchView),
        (status = 409, description = "It is finished", body = Problem)), security(("key" = ["cancel"])))]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<BatchView>, ApiError> {
    require(&caller, Scope::Cancel)?;
    let id = BatchId(find(&app, &caller, batch_id(&id)?).await?.batch_id);
    let cancelled = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        batches::cancel(&mut conn, id).await
    });
    if !cancelled.await? {
        let detail = "the batch is finished, there is nothing left to cancel".to_owned();
        return Err(ApiError::Conflict(vec![], detail));
    }
    Ok(Json(show(&app, &caller, id).await?))
}

/// Which failed jobs are to be tried anew.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryFailed {
    /// Only those whose error's type begins with this; without it, all that another attempt can help:
    /// neither `input/…` nor `output/…`.
    #[serde(default)]
    #[schema(example = "transient/")]
    error_type: Option<String>,
}

/// Try failed jobs of a batch anew, each under its id. Those with broken inputs or taken outputs only when
/// asked for by their type. Where none is to be tried, the answer says which failed of what.
#[utoipa::path(post, path = "/v1/batches/{id}/retry-failed", tag = "batches", request_body = RetryFailed,
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 202, description = "They wait again within seconds", body = BatchView),
        (status = 409, description = "It was cancelled, its time is over, another retry is under way, or none of its jobs failed of that", body = Problem)),
    security(("key" = ["submit"])))]
pub async fn retry_failed(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(asked): Body<RetryFailed>,
) -> Result<(StatusCode, Json<BatchView>), ApiError> {
    require(&caller, Scope::Submit)?;
    let id = BatchId(find(&app, &caller, batch_id(&id)?).await?.batch_id);
    let error_type = asked.error_type.as_deref();
    let refused = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        let failures = promised::failures(&mut conn, id, error_type).await?;
        if !failures.iter().any(|failure| failure.is_meant) {
            return Ok(Some(none_to_retry(&failures, error_type)));
        }
        let refused = batches::ask_retry(&mut conn, id, error_type).await?;
        Ok::<_, StoreError>(refused.map(str::to_owned))
    });
    if let Some(detail) = refused.await? {
        return Err(ApiError::Conflict(vec![], detail));
    }
    Ok((StatusCode::ACCEPTED, Json(show(&app, &caller, id).await?)))
}

/// Why nothing is to be tried anew.
fn none_to_retry(failures: &[Failure], error_type: Option<&str>) -> String {
    if failures.is_empty() {
        return "no job of this batch has failed".to_owned();
    }
    let counted = failures
        .iter()
        .map(|failure| format!("{} {}", failure.jobs, failure.error_type));
    let counted = counted.collect::<Vec<_>>().join(", ");
    match error_type {
        Some(wanted) => {
            format!("no job of this batch failed of {wanted}; what they failed of: {counted}")
        }
        None => format!(
            "another attempt alone would help none of the failed jobs ({counted}): mend inputs or outputs, then ask for them by `error_type`, or submit a batch with this one as its `parent`"
        ),
    }
}

/// What is to be changed about a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchChange {
    /// `interactive` or `bulk`; waiting jobs follow within seconds.
    #[serde(default)]
    class: Option<Class>,
    /// -100 to 100; acts at once on all that was not released.
    #[serde(default)]
    priority: Option<i32>,
}

/// Change the class or the priority of a batch.
#[utoipa::path(patch, path = "/v1/batches/{id}", tag = "batches", request_body = BatchChange,
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 200, description = "Changed", body = BatchView),
        (status = 422, description = "Nothing to change, or not so", body = Problem)), security(("key" = ["submit"])))]
pub async fn change(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(change): Body<BatchChange>,
) -> Result<Json<BatchView>, ApiError> {
    require(&caller, Scope::Submit)?;
    let id = BatchId(find(&app, &caller, batch_id(&id)?).await?.batch_id);
    if change.priority.is_some_and(|p| !PRIORITIES.contains(&p)) {
        return Err(ApiError::field("/priority", "must be -100 to 100"));
    }
    if change.class.is_none() && change.priority.is_none() {
        let detail = "say what to change: give `class` or `priority`";
        return Err(ApiError::field("", detail));
    }
    within_patience(async {
        let mut conn = app.pool.acquire().await?;
        batches::change(&mut conn, id, change.class, change.priority).await
    })
    .await?;
    Ok(Json(show(&app, &caller, id).await?))
}

/// The batch as it stands.
pub(super) async fn show(app: &App, caller: &Caller, id: BatchId) -> Result<BatchView, ApiError> {
    let row = find(app, caller, id).await?;
    let shown = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        view(&mut conn, &app.figures, row).await
    });
    Ok(shown.await?)
}

/// The batch, if the caller's tenant has it.
pub(super) async fn find(app: &App, caller: &Caller, id: BatchId) -> Result<BatchRow, ApiError> {
    let found = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        batches::find(&mut conn, &caller.tenant, id).await
    });
    found
        .await?
        .ok_or(ApiError::NotFound("there is no such batch"))
}

/// An id that cannot be one names no batch.
pub(super) fn batch_id(text: &str) -> Result<BatchId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::NotFound("there is no such batch"))
}
