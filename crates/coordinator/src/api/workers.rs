//! `/v1/workers`: who works.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Problem};
use crate::auth::{Caller, Scope};
use crate::store::{within_patience, workers};

/// A worker that works, or did in the last ten minutes.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerView {
    /// Its name.
    id: String,
    /// Leases that it holds.
    leases: i64,
    /// Attempts that it ended in the last ten minutes.
    jobs_ended: i64,
    /// Tile-steps a second in that time.
    tile_steps_per_second: f64,
    /// When it was last heard of; now, while it holds a lease.
    last_seen: DateTime<Utc>,
}

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
    let views = rows.await?.into_iter().map(|row| WorkerView {
        id: row.worker_id,
        leases: row.leases,
        jobs_ended: row.jobs_ended,
        tile_steps_per_second: row.tile_steps_per_second,
        last_seen: row.last_seen,
    });
    Ok(Json(views.collect()))
}
