//! `/v1/leases`: the workers' own door.

use axum::Json;
use axum::extract::State;
use upres_common::job::Class;
use upres_common::lease::{
    ClaimAnswer, ClaimRequest, CompleteRequest, FailRequest, HeartbeatAnswer, HeartbeatRequest,
    LeaseRef, ReleaseRequest, SettledAnswer,
};

use upres_common::objects::hand_over_address;

use super::App;
use super::caller::require;
use super::error::{ApiError, Body, Problem};
use crate::auth::{Caller, Scope};
use crate::fail::Failed;
use crate::lease;
use crate::store::jobs::TransitionError;
use crate::store::{within_patience, workers};

/// Jobs or leases in one request.
const MAX_LIST: usize = 100;

/// Claim jobs. What is not in the answer was a stale wake-up.
#[utoipa::path(post, path = "/v1/leases/claim", tag = "leases", request_body = ClaimRequest,
    responses((status = 200, body = ClaimAnswer, description = "The leases granted")), security(("key" = ["worker"])))]
pub async fn claim(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<ClaimRequest>,
) -> Result<Json<ClaimAnswer>, ApiError> {
    require(&caller, Scope::Worker)?;
    check_length("/job_ids", request.job_ids.len())?;
    let claims = match request.class {
        Class::Interactive => {
            app.bell.courtesy.somebody_waits();
            &app.claims
        }
        Class::Bulk => &app.bulk_claims,
    };
    let mut leases = claims.ask(request).await?;
    if let Some(uploads) = &app.uploads {
        for lease in &mut leases {
            let place = hand_over_address(uploads, lease.job_id).ok();
            lease.hand_over_to = place.map(|place| place.to_string());
        }
    }
    app.bell.room.ring();
    Ok(Json(ClaimAnswer { leases }))
}

/// Renew leases and report progress.
#[utoipa::path(post, path = "/v1/leases/heartbeat", tag = "leases", request_body = HeartbeatRequest,
    responses((status = 200, body = HeartbeatAnswer, description = "A verdict for each")), security(("key" = ["worker"])))]
pub async fn heartbeat(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<HeartbeatRequest>,
) -> Result<Json<HeartbeatAnswer>, ApiError> {
    require(&caller, Scope::Worker)?;
    check_length("/leases", request.leases.len())?;
    if let Some(about) = request.about {
        within_patience(async {
            let mut conn = app.pool.acquire().await?;
            workers::introduce(&mut conn, &request.worker_id, &about).await
        })
        .await?;
    }
    let verdicts = app.heartbeats.ask(request.leases).await?;
    Ok(Json(HeartbeatAnswer { verdicts }))
}

/// Publish an attempt's result. Asking again after a lost answer is safe.
#[utoipa::path(post, path = "/v1/leases/complete", tag = "leases", request_body = CompleteRequest,
    responses((status = 200, body = SettledAnswer, description = "Settled"),
        (status = 503, body = Problem, description = "Not settled yet: ask again")), security(("key" = ["worker"])))]
pub async fn complete(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<CompleteRequest>,
) -> Result<Json<SettledAnswer>, ApiError> {
    require(&caller, Scope::Worker)?;
    let CompleteRequest { lease, outcome } = request;
    // A task of its own: it goes on when the worker that asked dies, or hangs up.
    let door = app.door.clone();
    let publishing = app
        .tasks
        .spawn(async move { door.publish(lease, outcome).await });
    let settled = publishing.await.map_err(|_| ApiError::Internal)?;
    // What the tenant may have released at once counts the jobs that run.
    app.bell.room.ring();
    Ok(Json(settled?))
}

/// Report that an attempt failed.
#[utoipa::path(post, path = "/v1/leases/fail", tag = "leases", request_body = FailRequest,
    responses((status = 200, body = SettledAnswer, description = "Settled")), security(("key" = ["worker"])))]
pub async fn fail(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<FailRequest>,
) -> Result<Json<SettledAnswer>, ApiError> {
    require(&caller, Scope::Worker)?;
    let failed = Failed {
        tile_batch: request.tile_batch,
        ..Failed::reported(request.error)
    };
    let state = app.failures.ask((request.lease, failed)).await?;
    settled(&app, request.lease, state.map(|state| state.name()))
}

/// Return a job unfinished; no attempt is spent.
#[utoipa::path(post, path = "/v1/leases/release", tag = "leases", request_body = ReleaseRequest,
    responses((status = 200, body = SettledAnswer, description = "Settled")), security(("key" = ["worker"])))]
pub async fn release(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<ReleaseRequest>,
) -> Result<Json<SettledAnswer>, ApiError> {
    require(&caller, Scope::Worker)?;
    let released = lease::release(
        &app.pool,
        request.lease,
        &request.reason,
        request.resume.as_ref(),
    );
    let state = within_patience(released).await;
    if let Err(TransitionError::Refused(_)) = state {
        within_patience(lease::acquit(&app.pool, request.lease)).await?;
    }
    settled(&app, request.lease, state.map(|state| state.name()))
}

/// A refused settlement is an answer, not an error: the attempt was superseded.
fn settled(
    app: &App,
    lease: LeaseRef,
    state: Result<&'static str, TransitionError>,
) -> Result<Json<SettledAnswer>, ApiError> {
    match state {
        Ok(state) => {
            match state {
                "queued" | "scheduled" => app.bell.work.ring(),
                _ => app.bell.room.ring(),
            }
            Ok(Json(SettledAnswer {
                state: state.to_owned(),
                superseded: false,
            }))
        }
        Err(TransitionError::Refused(refusal)) => {
            tracing::info!(job.id = %lease.job_id, "a superseded attempt reported and changed nothing");
            Ok(Json(SettledAnswer {
                state: refusal.from.to_owned(),
                superseded: true,
            }))
        }
        Err(error) => Err(error.into()),
    }
}

fn check_length(pointer: &str, length: usize) -> Result<(), ApiError> {
    if length <= MAX_LIST {
        return Ok(());
    }
    Err(ApiError::field(
        pointer,
        format!("at most {MAX_LIST} in one request"),
    ))
}
