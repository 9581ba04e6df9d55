//! `/v1/webhooks`: signing secrets, and what became of deliveries.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use upres_common::batch::BatchId;
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::caller::require;
use super::error::{ApiError, Body, Problem};
use super::extract::{Id, Parameters};
use crate::auth::{Caller, Scope};
use crate::store::audit::{self, Act};
use crate::store::webhooks::{AttemptRow, DeliveryRow, Filter};
use crate::store::{StoreError, webhook_secrets, webhooks, within_patience};
use crate::webhook::{Secret, target};

/// How long the secret before the newest signs beside it, unless said otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
const MAX_OVERLAP_SECS: u64 = 7 * 24 * 3600;
const MAX_ADDRESS_BYTES: usize = 2000;
const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;
const STATES: [&str; 3] = ["pending", "delivered", "failed"];

/// A secret to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRequest {
    /// For how many seconds the secret before it signs, too; a day unless given, a week at most.
    #[serde(default)]
    #[schema(example = 86400, maximum = 604_800)]
    overlap_secs: Option<u64>,
}

/// A secret just made: the only time it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewSecretView {
    /// Its name.
    id: Uuid,
    /// `whsec_…`, as libraries for Standard Webhooks take it.
    secret: String,
}

/// A secret without itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    id: Uuid,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it ends, if there is a newer one.
    expires_at: Option<DateTime<Utc>>,
}

/// A delivery and its log.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// Which; the receiver sees it as `webhook-id`.
    id: String,
    /// The job it tells of …
    job: Option<Uuid>,
    /// … or the batch.
    batch: Option<BatchId>,
    /// Where to.
    url: String,
    /// What it tells, e.g. `job.succeeded`.
    event: String,
    /// `pending`, `delivered` or `failed`.
    state: String,
    /// How many attempts were made.
    attempts: i32,
    /// When the next is due.
    due_at: Option<DateTime<Utc>>,
    /// When it was enqueued.
    created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    ended_at: Option<DateTime<Utc>>,
    /// The body that is sent. Left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<serde_json::Value>,
    /// Every attempt, oldest first. Left out of lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<DeliveryAttemptView>,
}

/// One attempt to deliver.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryAttemptView {
    /// Its number, from 1.
    attempt: i32,
    /// When it began.
    started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    duration_ms: i32,
    /// The receiver's status, if it answered.
    status: Option<i32>,
    /// Why it does not count, if it does not.
    error: Option<String>,
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryPage {
    /// Those of the newest jobs first.
    deliveries: Vec<DeliveryView>,
    /// Give it back as `?cursor=` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// Make a signing secret. It is shown in this answer and never again. The one before it signs beside it
/// for a while, so that receivers can change over; others end.
#[utoipa::path(post, path = "/v1/webhooks/secrets", tag = "webhooks", request_body = SecretRequest,
    responses((status = 201, body = NewSecretView, description = "Made"),
        (status = 422, body = Problem, description = "Not acceptable")), security(("key" = ["admin"])))]
pub async fn make_secret(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<SecretRequest>,
) -> Result<(StatusCode, Json<NewSecretView>), ApiError> {
    require(&caller, Scope::Admin)?;
    let overlap = match request.overlap_secs {
        None => OVERLAP,
        Some(seconds) if seconds <= MAX_OVERLAP_SECS => Duration::from_secs(seconds),
        Some(_) => return Err(ApiError::field("/overlap_secs", "at most 604800, a week")),
    };
    let (id, secret) = (Uuid::now_v7(), Secret::fresh());
    within_patience::<_, StoreError>(async {
        let mut tx = app.pool.begin().await?;
        webhook_secrets::insert(&mut tx, &caller.tenant, id, &secret.0, overlap).await?;
        note(&mut tx, &caller, Act::SecretCreated, id).await?;
        Ok(tx.commit().await?)
    })
    .await?;
    tracing::info!(secret.id = %id, "webhook secret made");
    let secret = secret.to_string();
    Ok((StatusCode::CREATED, Json(NewSecretView { id, secret })))
}

/// List the signing secrets in force, the newest first.
#[utoipa::path(get, path = "/v1/webhooks/secrets", tag = "webhooks",
    responses((status = 200, body = Vec<SecretView>, description = "Without the secrets themselves")),
    security(("key" = ["admin"])))]
pub async fn list_secrets(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<SecretView>>, ApiError> {
    require(&caller, Scope::Admin)?;
    let secrets = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        webhook_secrets::list(&mut conn, &caller.tenant).await
    });
    let views = secrets.await?.into_iter().map(|row| SecretView {
        id: row.secret_id,
        created_at: row.created_at,
        expires_at: row.expires_at,
    });
    Ok(Json(views.collect()))
}

/// End a signing secret at once.
#[utoipa::path(delete, path = "/v1/webhooks/secrets/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The secret's id")),
    responses((status = 204, description = "Ended"), (status = 404, body = Problem, description = "No such secret in force")),
    security(("key" = ["admin"])))]
pub async fn end_secret(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    require(&caller, Scope::Admin)?;
    let missing = ApiError::NotFound("there is no such secret in force");
    let Ok(id) = id.parse::<Uuid>() else {
        return Err(missing);
    };
    let ended = within_patience::<_, StoreError>(async {
        let mut tx = app.pool.begin().await?;
        let ended = webhook_secrets::end(&mut tx, &caller.tenant, id).await?;
        if ended {
            note(&mut tx, &caller, Act::SecretEnded, id).await?;
        }
        tx.commit().await?;
        Ok(ended)
    });
    if !ended.await? {
        return Err(missing);
    }
    tracing::info!(secret.id = %id, "webhook secret ended");
    Ok(StatusCode::NO_CONTENT)
}

async fn note(
    conn: &mut PgConnection,
    caller: &Caller,
    act: Act,
    id: Uuid,
) -> Result<(), StoreError> {
    let (by, subject) = (Some(caller.key_id.as_str()), id.to_string());
    audit::note(conn, &caller.tenant, by, act, &subject).await
}

/// List deliveries, those of the newest jobs first. They are kept for thirty days after their end.
#[utoipa::path(get, path = "/v1/webhooks/deliveries", tag = "webhooks",
    params(("state" = Option<String>, Query, description = "`pending`, `delivered` or `failed`"),
        ("job" = Option<String>, Query, description = "Only of this job"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 50 unless given"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = DeliveryPage, description = "A page"),
        (status = 422, body = Problem, description = "There is no such filter")), security(("key" = ["read"])))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Parameters(query): Parameters,
) -> Result<Json<DeliveryPage>, ApiError> {
    require(&caller, Scope::Read)?;
    let (filter, limit) = page_request(query)?;
    // One more than asked for tells whether there is another page.
    let mut rows = find(&app, &caller, &filter, limit + 1).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let next_cursor = rows
        .last()
        .filter(|_| more)
        .map(|row| row.delivery_id.clone());
    let deliveries = rows.into_iter().map(|row| view(row, None)).collect();
    Ok(Json(DeliveryPage {
        deliveries,
        next_cursor,
    }))
}

fn page_request(query: Vec<(String, String)>) -> Result<(Filter, i64), ApiError> {
    let (mut filter, mut limit) = (Filter::default(), DEFAULT_PAGE);
    for (name, value) in query {
        match name.as_str() {
            "state" if STATES.contains(&value.as_str()) => filter.state = Some(value),
            "state" => {
                let detail = "no such state; there are pending, delivered, failed";
                return Err(ApiError::field("/state", detail));
            }
            "job" => {
                let job = value.parse();
                filter.job_id = Some(job.map_err(|_| ApiError::field("/job", "not a job's id"))?);
            }
            // No text of the database's holds one.
            "cursor" if !value.contains('\0') => filter.before = Some(value),
            "limit" => {
                let n = value.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n));
                limit = n.ok_or_else(|| {
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

/// Read a delivery with its body and its log.
#[utoipa::path(get, path = "/v1/webhooks/deliveries/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, body = DeliveryView, description = "The delivery"),
        (status = 404, body = Problem, description = "No such delivery")), security(("key" = ["read"])))]
pub async fn read(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<DeliveryView>, ApiError> {
    require(&caller, Scope::Read)?;
    Ok(Json(one(&app, &caller, id).await?))
}

/// Send a delivery again, whatever became of it; under its id, with the same body.
#[utoipa::path(post, path = "/v1/webhooks/deliveries/{id}/replay", tag = "webhooks",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 202, body = DeliveryView, description = "It will be sent"),
        (status = 404, body = Problem, description = "No such delivery")), security(("key" = ["submit"])))]
pub async fn replay(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<(StatusCode, Json<DeliveryView>), ApiError> {
    require(&caller, Scope::Submit)?;
    let id = checked(id)?;
    let replayed = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        webhooks::replay(&mut conn, &caller.tenant, &id).await
    });
    if !replayed.await? {
        return Err(NO_DELIVERY);
    }
    tracing::info!(webhook.id = id, "webhook replayed");
    Ok((StatusCode::ACCEPTED, Json(one(&app, &caller, id).await?)))
}

const NO_DELIVERY: ApiError = ApiError::NotFound("there is no such delivery");

/// A NUL cannot even be asked for.
fn checked(id: String) -> Result<String, ApiError> {
    if id.contains('\0') {
        return Err(NO_DELIVERY);
    }
    Ok(id)
}

async fn one(app: &App, caller: &Caller, id: String) -> Result<DeliveryView, ApiError> {
    let filter = Filter {
        delivery_id: Some(checked(id)?),
        ..Filter::default()
    };
    let row = find(app, caller, &filter, 1)
        .await?
        .pop()
        .ok_or(NO_DELIVERY)?;
    let log = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        webhooks::attempts(&mut conn, &row.delivery_id).await
    });
    let log = log.await?;
    Ok(view(row, Some(log)))
}

async fn find(
    app: &App,
    caller: &Caller,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<DeliveryRow>, ApiError> {
    let page = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        webhooks::page(&mut conn, &caller.tenant, filter, limit).await
    });
    Ok(page.await?)
}

fn view(row: DeliveryRow, log: Option<Vec<AttemptRow>>) -> DeliveryView {
    let payload: Option<serde_json::Value> = serde_json::from_str(&row.payload).ok();
    // Of no other table: its batch may have been forgotten since.
    let batch = payload.as_ref().filter(|_| row.job_id.is_none());
    let batch = batch.and_then(|payload| payload["data"]["id"].as_str()?.parse().ok());
    let line = |row: AttemptRow| DeliveryAttemptView {
        attempt: row.attempt,
        started_at: row.started_at,
        duration_ms: row.duration_ms,
        status: row.status,
        error: row.error,
    };
    DeliveryView {
        id: row.delivery_id,
        job: row.job_id,
        batch,
        url: row.url,
        event: row.event_type,
        state: row.state,
        attempts: row.attempts,
        due_at: row.due_at,
        created_at: row.created_at,
        ended_at: row.ended_at,
        payload: payload.filter(|_| log.is_some()),
        log: log.into_iter().flatten().map(line).collect(),
    }
}

/// Refuses a job or a batch whose owner could not be told, or not so that the receiver can tell who speaks.
pub(super) async fn check(
    app: &App,
    caller: &Caller,
    webhook: Option<&str>,
) -> Result<(), ApiError> {
    let Some(webhook) = webhook else {
        return Ok(());
    };
    if webhook.len() > MAX_ADDRESS_BYTES {
        return Err(ApiError::field(
            "/webhook",
            "an address has at most 2000 characters",
        ));
    }
    target::check(webhook, app.private_webhooks)
        .map_err(|error| ApiError::field("/webhook", error.to_string()))?;
    let secrets = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        webhook_secrets::list(&mut conn, &caller.tenant).await
    });
    if secrets.await?.is_empty() {
        let detail = "webhooks are signed: first make a secret with POST /v1/webhooks/secrets";
        return Err(ApiError::field("/webhook", detail));
    }
    Ok(())
}
