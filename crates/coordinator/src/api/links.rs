//! `/v1/jobs/{id}/links`: links to a job's pictures, for programs that cannot follow a redirect with a key.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use upres_common::objects::ObjectUri;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Problem, cannot_sign};
use super::extract::Id;
use super::jobs::{find, job_id};
use crate::auth::{Caller, Scope};

/// How long the links work.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Links that work for an hour.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinksView {
    /// To the input; null when the key's prefixes do not cover it.
    input: Option<String>,
    /// To the result; null until there is one, and when the key's prefixes do not cover it.
    result: Option<String>,
}

/// Get links to a job's input and result, as far as the key may read them.
#[utoipa::path(get, path = "/v1/jobs/{id}/links", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "Links that work for an hour", body = LinksView),
        (status = 404, description = "No such job", body = Problem)),
    security(("key" = ["read"])))]
pub async fn read(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<LinksView>, ApiError> {
    require(&caller, Scope::Read)?;
    let job = find(&app, &caller, job_id(&id)?).await?;
    let input: Option<ObjectUri> = job.input.parse().ok();
    let input = input.filter(|uri| caller.may_read(uri));
    let result = job.result.filter(|_| job.state == "succeeded");
    let result: Option<ObjectUri> = result.and_then(|result| result.uri.parse().ok());
    let result = result.filter(|uri| caller.may_read(uri) || caller.may_write(uri));
    Ok(Json(LinksView {
        input: sign(&app, input).await?,
        result: sign(&app, result).await?,
    }))
}

async fn sign(app: &App, uri: Option<ObjectUri>) -> Result<Option<String>, ApiError> {
    let Some(uri) = uri else { return Ok(None) };
    let link = app.objects.presign_get(&uri, LIFETIME).await;
    link.map(Some).map_err(|error| cannot_sign(&error))
}
