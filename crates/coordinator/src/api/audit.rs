//! `/v1/audit`: who did what to the tenant's keys and secrets.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Problem};
use super::extract::Parameters;
use crate::auth::{Caller, Scope};
use crate::store::{audit, within_patience};

const PAGE: i64 = 100;

/// One act.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActView {
    /// When.
    at: DateTime<Utc>,
    /// The public half of the key that was used; absent when the operator did it beside the API.
    key: Option<String>,
    /// What was done, e.g. `key.created`.
    act: String,
    /// To what: the public half of a key, or a secret's id.
    subject: String,
}

/// A page of acts.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// The newest first.
    acts: Vec<ActView>,
    /// Give it back as `?cursor=` for the next page; absent on the last.
    next_cursor: Option<String>,
}

/// List what was done to the tenant's keys and secrets, the newest first, a hundred at a time.
#[utoipa::path(get, path = "/v1/audit", tag = "keys",
    params(("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")),
    responses((status = 200, body = AuditPage, description = "A page"),
        (status = 422, body = Problem, description = "Not a cursor")), security(("key" = ["admin"])))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Parameters,
) -> Result<Json<AuditPage>, ApiError> {
    require(&caller, Scope::Admin)?;
    let not_one = || ApiError::field("/cursor", "not a cursor: give back `next_cursor` as it was");
    let before = query.only("cursor")?.map(|text| text.parse::<i64>());
    let before = before.transpose().map_err(|_| not_one())?;
    // One more than is shown tells whether there is another page.
    let lines = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        audit::page(&mut conn, &caller.tenant, before, PAGE + 1).await
    });
    let mut lines = lines.await?;
    let more = lines.len() > usize::try_from(PAGE).unwrap_or(usize::MAX);
    if more {
        lines.pop();
    }
    let next_cursor = lines
        .last()
        .filter(|_| more)
        .map(|line| line.audit_id.to_string());
    let acts = lines.into_iter().map(|line| ActView {
        at: line.happened_at,
        key: line.key_id,
        act: line.act,
        subject: line.subject,
    });
    Ok(Json(AuditPage {
        acts: acts.collect(),
        next_cursor,
    }))
}
