//! Leases: claim, renew, settle, each under its fencing token and on the database's clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use upres_common::job::state::LeaseToken;
use upres_common::job::{JobError, JobEvent, JobId, JobState};
use upres_common::lease::{Beat, Lease, LeaseRef, Verdict};

use crate::config::RetryConfig;
use crate::store::attempts::{self, AttemptOutcome};
use crate::store::jobs::{self, TransitionError, transition};
use crate::store::{StoreError, in_seconds, leases, outbox};

/// Grants what can be granted of `job_ids`; the rest were stale wake-ups.
///
/// # Errors
/// [`StoreError`]; nothing was granted then.
pub async fn claim(
    pool: &PgPool,
    worker_id: &str,
    job_ids: &[JobId],
    ttl_secs: u32,
) -> Result<Vec<Lease>, StoreError> {
    let mut tx = pool.begin().await?;
    let mut granted = Vec::new();
    for id in job_ids {
        if let Some(lease) = leases::claim(&mut tx, *id, worker_id, ttl_secs).await? {
            granted.push(lease);
        }
    }
    tx.commit().await?;
    for lease in &granted {
        tracing::info!(job.id = %lease.job_id, job.attempt = lease.attempt, worker.id = worker_id, "lease claimed");
    }
    Ok(granted)
}

/// Renews leases and notes progress. One verdict a beat, in order.
///
/// # Errors
/// [`StoreError`]; nothing was renewed then.
pub async fn heartbeat(
    pool: &PgPool,
    beats: &[Beat],
    ttl_secs: u32,
) -> Result<Vec<Verdict>, StoreError> {
    let mut tx = pool.begin().await?;
    let mut verdicts = Vec::with_capacity(beats.len());
    for beat in beats {
        verdicts.push(renew(&mut tx, beat, ttl_secs).await?);
    }
    tx.commit().await?;
    Ok(verdicts)
}

async fn renew(conn: &mut PgConnection, beat: &Beat, ttl_secs: u32) -> Result<Verdict, StoreError> {
    let LeaseRef { job_id, token } = beat.lease;
    let lease_until = in_seconds(conn, f64::from(ttl_secs)).await?;
    match transition(conn, job_id, &JobEvent::Renewed { token, lease_until }).await {
        Ok(_) => {
            let upload_id = beat.upload_id.as_deref();
            jobs::record_progress(conn, job_id, beat.progress.as_ref(), upload_id).await?;
            Ok(Verdict::Held)
        }
        Err(TransitionError::Refused(refusal)) if refusal.from == JobState::Cancelled.name() => {
            Ok(Verdict::Cancelled)
        }
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => Ok(Verdict::Lost),
        Err(TransitionError::Store(error)) => Err(error),
    }
}

/// Ends an attempt with an error: another follows after a pause, or the job fails.
///
/// # Errors
/// [`TransitionError::Refused`] when the token is no longer held.
pub async fn fail(
    pool: &PgPool,
    lease: LeaseRef,
    error: &JobError,
    outcome: AttemptOutcome,
    retry: &RetryConfig,
) -> Result<JobState, TransitionError> {
    let mut tx = pool.begin().await?;
    let (failures, max_attempts) = match jobs::lock(&mut tx, lease.job_id).await? {
        // The row is locked: what is noted here is undone if the transition below is refused.
        JobState::Running { .. } => jobs::record_failure(&mut tx, lease.job_id, error).await?,
        _ => (0, 0),
    };
    let again = error.error_type.retryable() && failures < max_attempts;
    let event = match again {
        true => JobEvent::Retried { token: lease.token },
        false => JobEvent::GivenUp { token: lease.token },
    };
    let state = transition(&mut tx, lease.job_id, &event).await?;
    attempts::end(&mut tx, lease.job_id, outcome, Some(error)).await?;
    if again {
        let pause = backoff(failures, retry.base, retry.cap, random_fraction());
        let due_at: DateTime<Utc> = in_seconds(&mut tx, pause.as_secs_f64()).await?;
        outbox::insert(&mut tx, lease.job_id, Some(due_at)).await?;
    }
    tx.commit().await?;
    let job = lease.job_id;
    match again {
        true => {
            tracing::warn!(job.id = %job, error = %error.error_type, detail = error.detail, "attempt failed, another will follow")
        }
        false => {
            tracing::warn!(job.id = %job, error = %error.error_type, detail = error.detail, "job failed")
        }
    }
    if !again {
        metrics::counter!("upres_jobs_total", "outcome" => "failed").increment(1);
    }
    Ok(state)
}

/// Returns a job unfinished. No attempt is spent, another worker may start at once.
///
/// # Errors
/// [`TransitionError::Refused`] when the token is no longer held.
pub async fn release(
    pool: &PgPool,
    lease: LeaseRef,
    reason: &str,
) -> Result<JobState, TransitionError> {
    let mut tx = pool.begin().await?;
    let state = transition(
        &mut tx,
        lease.job_id,
        &JobEvent::HandedBack { token: lease.token },
    )
    .await?;
    attempts::end(&mut tx, lease.job_id, AttemptOutcome::HandedBack, None).await?;
    outbox::insert(&mut tx, lease.job_id, None).await?;
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
    attempts::end(&mut tx, id, AttemptOutcome::Cancelled, None).await?;
    outbox::delete(&mut tx, id).await?;
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
