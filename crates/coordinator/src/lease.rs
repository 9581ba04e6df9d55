//! Leases: claim, renew, settle, each under its fencing token and on the database's clock.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use upres_common::job::state::{InvalidTransition, LeaseToken};
use upres_common::job::{Consequence, ErrorType, JobError, JobEvent, JobId, JobState};
use upres_common::lease::{Beat, ClaimRequest, Lease, LeaseRef, ResumePoint, Verdict};

use crate::config::RetryConfig;
use crate::store::attempts::{self, AttemptOutcome};
use crate::store::jobs::{self, TransitionError, transition};
use crate::store::{StoreError, in_seconds, leases, outbox};

/// Deaths that are not held against a job, because the work had not begun or the worker turned up
/// alive, count after all when there are so many times more of them.
const UNBLAMED_FACTOR: i64 = 10;

/// Grants what can be granted of what workers ask for, in one transaction; the rest were stale
/// wake-ups. One answer a request, in order.
///
/// # Errors
/// [`StoreError`]; nothing was granted then.
pub async fn claim(
    pool: &PgPool,
    requests: &[ClaimRequest],
    ttl_secs: u32,
) -> Result<Vec<Vec<Lease>>, StoreError> {
    // Of two that ask for the same job, one gets it.
    let mut asked = HashMap::new();
    let mut asker = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        for id in &request.job_ids {
            asked.insert(*id, request.worker_id.clone());
            asker.insert(*id, index);
        }
    }
    let mut tx = pool.begin().await?;
    let granted = leases::claim(&mut tx, &asked, ttl_secs).await?;
    tx.commit().await?;
    let mut answers = vec![Vec::new(); requests.len()];
    for lease in granted {
        let index = asker[&lease.job_id];
        tracing::info!(job.id = %lease.job_id, job.attempt = lease.attempt, worker.id = requests[index].worker_id, "lease claimed");
        answers[index].push(lease);
    }
    Ok(answers)
}

/// Renews leases and notes progress, in one transaction. One verdict a beat, in order.
///
/// # Errors
/// [`StoreError`]; nothing was renewed then.
pub async fn heartbeat(
    pool: &PgPool,
    beats: &[Beat],
    ttl_secs: u32,
) -> Result<Vec<Verdict>, StoreError> {
    let mut tx = pool.begin().await?;
    let ids: Vec<_> = beats.iter().map(|beat| beat.lease.job_id).collect();
    let states = jobs::lock_all(&mut tx, &ids).await?;
    let lease_until = in_seconds(&mut tx, f64::from(ttl_secs)).await?;
    let (mut renewed, mut held, mut alive) = (Vec::new(), Vec::new(), Vec::new());
    let mut verdicts = Vec::with_capacity(beats.len());
    for beat in beats {
        let LeaseRef { job_id, token } = beat.lease;
        let state = states.get(&job_id);
        let event = JobEvent::Renewed { token, lease_until };
        let next = state.and_then(|state| state.apply(&event).ok());
        verdicts.push(match (next, state) {
            (Some(next), _) => {
                renewed.push((job_id, next));
                held.push(beat);
                Verdict::Held
            }
            (None, Some(JobState::Cancelled)) => Verdict::Cancelled,
            (None, _) => {
                alive.push(beat.lease);
                Verdict::Lost
            }
        });
    }
    jobs::save(&mut tx, &renewed).await?;
    jobs::record_progress(&mut tx, &held).await?;
    if !alive.is_empty() {
        attempts::acquit(&mut tx, &alive).await?;
    }
    tx.commit().await?;
    Ok(verdicts)
}

/// How an attempt came to nothing.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Why.
    pub error: JobError,
    /// Whether the worker said so, or was not heard of again.
    pub outcome: AttemptOutcome,
    /// Tiles at once, for an attempt that ran out of memory.
    pub tile_batch: Option<u32>,
}

impl Failed {
    /// The worker reported it.
    #[must_use]
    pub fn reported(error: JobError) -> Self {
        Self {
            error,
            outcome: AttemptOutcome::Failed,
            tile_batch: None,
        }
    }

    /// The lease lapsed.
    #[must_use]
    pub fn lost() -> Self {
        Self {
            error: JobError::new(
                ErrorType::WorkerLost,
                "the worker stopped renewing its lease",
            ),
            outcome: AttemptOutcome::Lost,
            tile_batch: None,
        }
    }
}

/// Ends an attempt that came to nothing: another follows, or the job fails.
///
/// # Errors
/// [`TransitionError::Refused`] when the token is no longer held.
pub async fn fail(
    pool: &PgPool,
    lease: LeaseRef,
    failed: &Failed,
    retry: &RetryConfig,
) -> Result<JobState, TransitionError> {
    let mut tx = pool.begin().await?;
    let id = lease.job_id;
    // The row is locked: what is noted here is undone if the transition below is refused.
    let next = match jobs::lock(&mut tx, id).await? {
        JobState::Running { lease_until, .. } => {
            if failed.outcome == AttemptOutcome::Lost
                && lease_until > in_seconds(&mut tx, 0.0).await?
            {
                return Err(renewed_since().into());
            }
            after_failure(&mut tx, id, failed, retry).await?
        }
        _ => Next::GiveUp,
    };
    let event = match next {
        Next::Again { .. } => JobEvent::Retried { token: lease.token },
        Next::GiveUp => JobEvent::GivenUp { token: lease.token },
    };
    if failed.error.error_type.consequence() != Consequence::Death {
        // What was made so far may be what the attempt failed of, and its worker has aborted the upload.
        jobs::record_resume(&mut tx, id, None).await?;
    }
    let state = transition(&mut tx, id, &event).await?;
    if let Next::Again { pause } = next {
        outbox::insert(&mut tx, &[(id, pause.as_secs_f64())]).await?;
    }
    tx.commit().await?;
    let error = &failed.error;
    tracing::warn!(job.id = %id, error = %error.error_type, detail = error.detail, state = state.name(), "attempt failed");
    if state.is_terminal() {
        metrics::counter!("upres_jobs_total", "outcome" => "failed").increment(1);
    }
    Ok(state)
}

/// The worker was heard of between the reaper's look and its act.
fn renewed_since() -> InvalidTransition {
    InvalidTransition {
        from: "running",
        event: "lost: its lease was renewed",
    }
}

enum Next {
    Again { pause: Duration },
    GiveUp,
}

/// Writes the attempt's end and what it costs the job, and says whether another follows.
async fn after_failure(
    conn: &mut PgConnection,
    id: JobId,
    failed: &Failed,
    retry: &RetryConfig,
) -> Result<Next, StoreError> {
    let Failed { error, outcome, .. } = failed;
    let consequence = error.error_type.consequence();
    let blame = consequence == Consequence::Death;
    attempts::end(conn, id, *outcome, Some(error), blame).await?;
    match consequence {
        Consequence::Final => {
            jobs::record_error(conn, id, error).await?;
            Ok(Next::GiveUp)
        }
        Consequence::Attempt => {
            if let Some(tiles) = failed.tile_batch {
                let half = i32::try_from(tiles / 2).unwrap_or(i32::MAX).max(1);
                jobs::limit_tile_batch(conn, id, half).await?;
            }
            let (failures, max_attempts) = jobs::record_failure(conn, id, error).await?;
            if failures >= max_attempts {
                return Ok(Next::GiveUp);
            }
            let pause = backoff(failures, retry.base, retry.cap, random_fraction());
            Ok(Next::Again { pause })
        }
        Consequence::Death => {
            let deaths = attempts::deaths(conn, id).await?;
            if deaths.blamed < retry.quarantine_after
                && deaths.all < retry.quarantine_after * UNBLAMED_FACTOR
            {
                let pause = Duration::ZERO;
                return Ok(Next::Again { pause });
            }
            let detail = format!(
                "{} attempts ended with the death of their worker or device, {} of them while it worked on this job; it is held back until it is retried",
                deaths.all, deaths.blamed
            );
            let error = JobError::new(ErrorType::Quarantined, detail);
            jobs::record_error(conn, id, &error).await?;
            Ok(Next::GiveUp)
        }
    }
}

/// Tries a failed job anew under its id, with all its attempts before it.
///
/// # Errors
/// [`TransitionError::Refused`] when the job has not failed.
pub async fn revive(pool: &PgPool, id: JobId) -> Result<(), TransitionError> {
    let mut tx = pool.begin().await?;
    transition(&mut tx, id, &JobEvent::Revived).await?;
    jobs::forgive(&mut tx, id).await?;
    outbox::insert(&mut tx, &[(id, 0.0)]).await?;
    tx.commit().await?;
    tracing::info!(job.id = %id, "failed job tried anew");
    Ok(())
}

/// Returns a job unfinished. No attempt is spent, another worker may start at once, from where this one
/// stopped if it says where that is.
///
/// # Errors
/// [`TransitionError::Refused`] when the token is no longer held.
pub async fn release(
    pool: &PgPool,
    lease: LeaseRef,
    reason: &str,
    resume: Option<&ResumePoint>,
) -> Result<JobState, TransitionError> {
    let mut tx = pool.begin().await?;
    jobs::lock(&mut tx, lease.job_id).await?;
    if resume.is_some() {
        // Undone if the transition below is refused.
        jobs::record_resume(&mut tx, lease.job_id, resume).await?;
    }
    let state = transition(
        &mut tx,
        lease.job_id,
        &JobEvent::HandedBack { token: lease.token },
    )
    .await?;
    attempts::end(
        &mut tx,
        lease.job_id,
        AttemptOutcome::HandedBack,
        None,
        false,
    )
    .await?;
    outbox::insert(&mut tx, &[(lease.job_id, 0.0)]).await?;
    tx.commit().await?;
    tracing::info!(job.id = %lease.job_id, reason, "job handed back");
    Ok(state)
}

/// What was left behind by a job that was cancelled while it ran.
#[derive(Debug)]
pub struct CancelledWork {
    /// Where its result would have gone.
    pub output: String,
    /// The upload to abort.
    pub upload_id: String,
}

/// Cancels a job, whether it waits or runs. Cancelling a cancelled job changes nothing.
///
/// # Errors
/// [`TransitionError::Refused`] when the job has ended otherwise or its result is being published.
pub async fn cancel(pool: &PgPool, id: JobId) -> Result<Option<CancelledWork>, TransitionError> {
    let mut tx = pool.begin().await?;
    if jobs::lock(&mut tx, id).await? == JobState::Cancelled {
        return Ok(None);
    }
    let left = leases::upload(&mut tx, id).await?;
    transition(&mut tx, id, &JobEvent::Cancelled).await?;
    attempts::end(&mut tx, id, AttemptOutcome::Cancelled, None, false).await?;
    outbox::delete(&mut tx, &[id.0]).await?;
    tx.commit().await?;
    tracing::info!(job.id = %id, "job cancelled");
    metrics::counter!("upres_jobs_total", "outcome" => "cancelled").increment(1);
    Ok(left.map(|(output, upload_id)| CancelledWork { output, upload_id }))
}

/// Whether the attempt of this lease already succeeded: its completion was answered, but the answer
/// was lost on the way.
///
/// # Errors
/// [`StoreError`].
pub async fn has_succeeded(
    pool: &PgPool,
    id: JobId,
    token: LeaseToken,
) -> Result<bool, StoreError> {
    let mut conn = pool.acquire().await?;
    attempts::has_succeeded(&mut conn, id, token).await
}

/// Exponential with full jitter: anything from nothing up to `base` doubled with every failure, at
/// most `cap`. Jobs that failed together do not come back together.
fn backoff(failures: i32, base: Duration, cap: Duration, fraction: f64) -> Duration {
    let doublings = failures.clamp(1, 30) - 1;
    let ceiling = base.saturating_mul(1 << doublings).min(cap);
    ceiling.mul_f64(fraction)
}

fn random_fraction() -> f64 {
    let random = getrandom::u32().expect("the operating system hands out randomness");
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn backoff_stays_within_its_bounds(failures in 0..1000, fraction in 0.0..1.0f64) {
            let (base, cap) = (Duration::from_secs(2), Duration::from_secs(300));
            let pause = backoff(failures, base, cap, fraction);
            proptest::prop_assert!(pause <= cap);
            if failures <= 1 {
                proptest::prop_assert!(pause <= base);
            }
        }
    }

    #[test]
    fn backoff_doubles_up_to_the_cap() {
        let (base, cap) = (Duration::from_secs(2), Duration::from_secs(300));
        let ceilings: Vec<_> = (1..=9)
            .map(|failures| backoff(failures, base, cap, 1.0).as_secs())
            .collect();
        assert_eq!(ceilings, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }
}
