//! `/v1/workers`: who works.

use axum::Json;
use axum::extract::State;
use upres_common::lease::WorkerView;

use super::App;
use super::caller::require;
use super::error::{ApiError, Problem};
use crate::auth::{Caller, Scope};
use crate::store::{within_patience, workers};

/// List the workers of the last ten minutes. They serve all tenants, so this needs `admin`.
#[utoipa::path(get, path = "/v1/workers", tag = "operation",
    responses((status = 200, description = "By name", body = Vec<WorkerView>),
        (status = 403, description = "Not for this key", body = Problem)),
    security(("key" = ["admin"])))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<WorkerView>>, ApiError> {
    require(&caller, Scope::Admin)?;
    let rows = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        workers::list(&mut conn).await
    });
    Ok(Json(rows.await?))
}
