//! Who calls: the bearer key, checked before anything else.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::App;
use super::error::ApiError;
use crate::auth::{Caller, PresentedKey, Scope};

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let key = bearer(&parts.headers)?;
        app.keys
            .authenticate(&app.pool, &key)
            .await?
            .ok_or(ApiError::Unauthenticated(
                "this API key is unknown or was revoked",
            ))
    }
}

fn bearer(headers: &HeaderMap) -> Result<PresentedKey, ApiError> {
    let missing = ApiError::Unauthenticated("send `Authorization: Bearer upres_<id>_<secret>`");
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(missing);
    };
    let text = value.to_str().unwrap_or_default();
    let Some(key) = text.strip_prefix("Bearer ") else {
        return Err(missing);
    };
    key.trim()
        .parse()
        .map_err(|_| ApiError::Unauthenticated("this is no API key: expected upres_<id>_<secret>"))
}

/// Refuses a caller whose key lacks `scope`.
pub(super) fn require(caller: &Caller, scope: Scope) -> Result<(), ApiError> {
    if caller.has(scope) {
        return Ok(());
    }
    Err(ApiError::Forbidden(
        vec![],
        format!("this needs a key with the scope `{}`", scope.as_str()),
    ))
}
