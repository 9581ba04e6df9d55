//! `/v1/keys`: making, listing and ending API keys.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use upres_common::job::request::FieldError;
use upres_common::objects::UriPrefix;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Body, Problem};
use crate::auth::{self, Caller, NewKey, Scope};
use crate::store::{keys, within_patience};

/// A key to be made, in the caller's tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What it is for.
    #[serde(default)]
    label: String,
    /// What it may do.
    scopes: Vec<Scope>,
    /// What its jobs may read: `*`, or addresses that begin with one of these.
    #[serde(default)]
    #[schema(example = json!(["s3://masters/box-12/"]))]
    read_prefixes: Vec<String>,
    /// Where its jobs may write.
    #[serde(default)]
    #[schema(example = json!(["s3://derivatives/"]))]
    write_prefixes: Vec<String>,
}

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    /// The public half.
    id: String,
    /// What it is for.
    label: String,
    /// What it may do.
    scopes: Vec<String>,
    /// What its jobs may read.
    read_prefixes: Vec<String>,
    /// Where its jobs may write.
    write_prefixes: Vec<String>,
    /// When it was made.
    created_at: DateTime<Utc>,
}

/// A key just made: the only time it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKeyView {
    /// The whole key.
    key: String,
    /// Its public half.
    id: String,
}

/// Make a key. It is shown in this answer and never again.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = KeyRequest,
    responses((status = 201, body = NewKeyView, description = "Made"),
        (status = 422, body = Problem, description = "Not acceptable")), security(("key" = ["admin"])))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<KeyRequest>,
) -> Result<(StatusCode, Json<NewKeyView>), ApiError> {
    require(&caller, Scope::Admin)?;
    let new = new_key(caller.tenant, request)?;
    let (key, id) = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        auth::create(&mut conn, new).await
    })
    .await?;
    tracing::info!(key.id = id, "API key made");
    Ok((
        StatusCode::CREATED,
        Json(NewKeyView {
            key: key.to_string(),
            id,
        }),
    ))
}

fn new_key(tenant: String, request: KeyRequest) -> Result<NewKey, ApiError> {
    let mut errors = Vec::new();
    if request.scopes.is_empty() {
        errors.push(FieldError::new("/scopes", "give at least one"));
    }
    if request.label.chars().count() > 100 {
        errors.push(FieldError::new("/label", "at most 100 characters"));
    }
    let mut prefixes = |field: &str, words: Vec<String>| -> Vec<UriPrefix> {
        let mut parsed = Vec::new();
        for (index, word) in words.iter().enumerate() {
            match word.parse::<UriPrefix>() {
                Ok(prefix) => parsed.push(prefix),
                Err(error) => {
                    errors.push(FieldError::new(
                        &format!("/{field}/{index}"),
                        error.to_string(),
                    ));
                }
            }
        }
        parsed
    };
    let read_prefixes = prefixes("read_prefixes", request.read_prefixes);
    let write_prefixes = prefixes("write_prefixes", request.write_prefixes);
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let scopes = request.scopes;
    Ok(NewKey {
        tenant,
        label: request.label,
        scopes,
        read_prefixes,
        write_prefixes,
    })
}

/// List the keys in force.
#[utoipa::path(get, path = "/v1/keys", tag = "keys",
    responses((status = 200, body = Vec<KeyView>, description = "Oldest first")), security(("key" = ["admin"])))]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<KeyView>>, ApiError> {
    require(&caller, Scope::Admin)?;
    let keys = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        keys::list(&mut conn, &caller.tenant).await
    });
    let keys = keys.await?.into_iter().map(|key| KeyView {
        id: key.key_id,
        label: key.label,
        scopes: key.scopes,
        read_prefixes: key.read_prefixes,
        write_prefixes: key.write_prefixes,
        created_at: key.created_at,
    });
    Ok(Json(keys.collect()))
}

/// End a key: here at once, at other coordinators within two seconds.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key's public half")),
    responses((status = 204, description = "Ended"), (status = 404, body = Problem, description = "No such key")),
    security(("key" = ["admin"])))]
pub async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    require(&caller, Scope::Admin)?;
    let revoked = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        keys::revoke(&mut conn, &caller.tenant, &id).await
    });
    if !revoked.await? {
        return Err(ApiError::NotFound("there is no such key in force"));
    }
    app.keys.forget(&id);
    tracing::info!(key.id = id, "API key revoked");
    Ok(StatusCode::NO_CONTENT)
}
