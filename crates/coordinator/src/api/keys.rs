//! `/v1/keys`: making, listing, rotating and ending API keys.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use upres_common::job::request::FieldError;
use upres_common::objects::UriPrefix;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Body, Problem};
use super::extract::Id;
use crate::auth::{self, Caller, NewKey, Scope};
use crate::store::audit::{self, Act};
use crate::store::keys::{self, StoredKey};
use crate::store::{StoreError, within_patience};

/// How long a rotated key is good beside its successor, unless said otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
const MAX_OVERLAP_SECS: u64 = 7 * 24 * 3600;
const MAX_LIFETIME_SECS: u64 = 10 * 365 * 24 * 3600;
const NO_KEY: ApiError = ApiError::NotFound("there is no such key in force");

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
    /// For how many seconds it is good; for ever, unless given. Ten years at most.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in_secs: Option<u64>,
}

/// How a key is rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// For how many seconds the old key is good beside the new one; a day unless given, a week at most.
    #[serde(default)]
    #[schema(maximum = 604_800)]
    overlap_secs: Option<u64>,
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
    /// When it ends, if it does.
    expires_at: Option<DateTime<Utc>>,
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
        (status = 403, body = Problem, description = "More than the caller's own key may do"),
        (status = 422, body = Problem, description = "Not acceptable")), security(("key" = ["admin"])))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<KeyRequest>,
) -> Result<(StatusCode, Json<NewKeyView>), ApiError> {
    require(&caller, Scope::Admin)?;
    let new = new_key(&caller, request)?;
    let (key, id) = within_patience::<_, StoreError>(async {
        let mut tx = app.pool.begin().await?;
        let (key, id) = auth::create(&mut tx, new).await?;
        let by = Some(caller.key_id.as_str());
        audit::note(&mut tx, &caller.tenant, by, Act::KeyCreated, &id).await?;
        tx.commit().await?;
        Ok((key, id))
    })
    .await?;
    tracing::info!(key.id = id, "API key made");
    let key = key.to_string();
    Ok((StatusCode::CREATED, Json(NewKeyView { key, id })))
}

/// Make a key in another's place, with the same rights and without an end. The old one is good for a while
/// longer.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", tag = "keys", request_body = RotateRequest,
    params(("id" = String, Path, description = "The old key's public half")),
    responses((status = 201, body = NewKeyView, description = "Made"),
        (status = 404, body = Problem, description = "No such key"),
        (status = 422, body = Problem, description = "Not acceptable")), security(("key" = ["admin"])))]
pub async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Body(request): Body<RotateRequest>,
) -> Result<(StatusCode, Json<NewKeyView>), ApiError> {
    require(&caller, Scope::Admin)?;
    let overlap = match request.overlap_secs {
        None => OVERLAP,
        Some(seconds) if seconds <= MAX_OVERLAP_SECS => Duration::from_secs(seconds),
        Some(_) => return Err(ApiError::field("/overlap_secs", "at most 604800, a week")),
    };
    let old = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        keys::find(&mut conn, checked(&id)).await
    });
    let old = old.await?.filter(|old| old.tenant == caller.tenant);
    let old = old.ok_or(NO_KEY)?;
    let new = successor(old);
    check_grant(&caller, &new)?;
    let (key, new_id) = within_patience::<_, StoreError>(async {
        let mut tx = app.pool.begin().await?;
        let made = auth::create(&mut tx, new).await?;
        keys::end_after(&mut tx, &id, overlap).await?;
        let by = Some(caller.key_id.as_str());
        audit::note(&mut tx, &caller.tenant, by, Act::KeyRotated, &id).await?;
        audit::note(&mut tx, &caller.tenant, by, Act::KeyCreated, &made.1).await?;
        tx.commit().await?;
        Ok(made)
    })
    .await?;
    app.keys.forget(&id);
    tracing::info!(key.id = id, successor = new_id, "API key rotated");
    let (key, id) = (key.to_string(), new_id);
    Ok((StatusCode::CREATED, Json(NewKeyView { key, id })))
}

/// A key with the rights of `old`.
fn successor(old: StoredKey) -> NewKey {
    let prefixes = |words: &[String]| words.iter().flat_map(|word| word.parse()).collect();
    let scopes = Scope::ALL.into_iter();
    NewKey {
        scopes: scopes
            .filter(|scope| old.scopes.iter().any(|held| held == scope.as_str()))
            .collect(),
        read_prefixes: prefixes(&old.read_prefixes),
        write_prefixes: prefixes(&old.write_prefixes),
        tenant: old.tenant,
        label: old.label,
        lifetime: None,
    }
}

fn check_grant(caller: &Caller, new: &NewKey) -> Result<(), ApiError> {
    let scopes = new.scopes.iter().map(|scope| scope.as_str().to_owned());
    let scopes: Vec<String> = scopes.collect();
    if caller.may_grant(&scopes, &new.read_prefixes, &new.write_prefixes) {
        return Ok(());
    }
    let detail = "a key can hand out no more than it has: these scopes or prefixes go beyond it";
    Err(ApiError::Forbidden(vec![], detail.to_owned()))
}

fn new_key(caller: &Caller, request: KeyRequest) -> Result<NewKey, ApiError> {
    let mut errors = Vec::new();
    if request.scopes.is_empty() {
        errors.push(FieldError::new("/scopes", "give at least one"));
    }
    if request.label.chars().count() > 100 || request.label.contains('\0') {
        errors.push(FieldError::new(
            "/label",
            "at most 100 characters, none of them NUL",
        ));
    }
    let lifetime = request.expires_in_secs;
    if lifetime.is_some_and(|secs| !(1..=MAX_LIFETIME_SECS).contains(&secs)) {
        let detail = "1 second to 315360000, ten years; leave it out for a key without end";
        errors.push(FieldError::new("/expires_in_secs", detail));
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
    let new = NewKey {
        tenant: caller.tenant.clone(),
        label: request.label,
        scopes: request.scopes,
        read_prefixes,
        write_prefixes,
        lifetime: lifetime.map(Duration::from_secs),
    };
    check_grant(caller, &new)?;
    Ok(new)
}

/// What the database cannot hold it does not know.
fn checked(id: &str) -> &str {
    if id.contains('\0') { "" } else { id }
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
        expires_at: key.expires_at,
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
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    require(&caller, Scope::Admin)?;
    let revoked = within_patience::<_, StoreError>(async {
        let mut tx = app.pool.begin().await?;
        let revoked = keys::revoke(&mut tx, &caller.tenant, checked(&id)).await?;
        if revoked {
            let by = Some(caller.key_id.as_str());
            audit::note(&mut tx, &caller.tenant, by, Act::KeyRevoked, &id).await?;
        }
        tx.commit().await?;
        Ok(revoked)
    });
    if !revoked.await? {
        return Err(NO_KEY);
    }
    app.keys.forget(&id);
    tracing::info!(key.id = id, "API key revoked");
    Ok(StatusCode::NO_CONTENT)
}
