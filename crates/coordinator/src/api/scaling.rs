//! `/scaling`: how much work there is, in seconds of one worker, for whatever starts and stops workers.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::error::{ApiError, Problem};
use crate::store::{StoreError, listing, within_patience};

/// The work there is. Divided by the seconds in which it is to be done, `backlog_seconds` is the number of
/// workers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Scaling {
    /// Seconds that one worker would need for all that is due, and for what is left of what runs.
    pub backlog_seconds: f64,
    /// Tile-steps of the jobs that are due and wait; not those of paused batches.
    pub waiting_tile_steps: f64,
    /// Tile-steps that are left of the jobs that run.
    pub running_tile_steps: f64,
    /// What one worker does, by the last jobs that succeeded within ten minutes; if there are none, what
    /// `--scaling-pace` assumes.
    pub worker_tile_steps_per_second: f64,
    /// Whether that was measured.
    pub measured: bool,
}

/// The backlog, for autoscalers. Read anew for every answer: when the database is away there is no answer
/// rather than an old one, or zero.
#[utoipa::path(get, path = "/scaling", tag = "operation",
    responses((status = 200, body = Scaling, description = "The work there is"),
        (status = 503, body = Problem, description = "The database does not answer: keep the workers that there are")))]
pub async fn scaling(State(app): State<App>) -> Result<Json<Scaling>, ApiError> {
    let (work, measured) = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        let work = listing::work(&mut conn).await?;
        Ok::<_, StoreError>((work, listing::pace_of_a_worker(&mut conn).await?))
    })
    .await?;
    let pace = measured.unwrap_or(app.assumed_pace);
    Ok(Json(Scaling {
        backlog_seconds: (work.waiting + work.running) / pace,
        waiting_tile_steps: work.waiting,
        running_tile_steps: work.running,
        worker_tile_steps_per_second: pace,
        measured: measured.is_some(),
    }))
}
