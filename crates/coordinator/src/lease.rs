//! Leases: claim, renew, hand back, each under its fencing token and on the database's clock. How an
//! attempt fails is in [`fail`](crate::fail), how it succeeds in [`publish`](crate::publish).

use std::collections::HashMap;

use sqlx::{Connection as _, PgConnection, PgPool};
use upres_common::job::state::LeaseToken;
use upres_common::job::{JobEvent, JobId, JobState};
use upres_common::lease::{Beat, ClaimRequest, Lease, LeaseRef, ResumePoint, Verdict};

use crate::store::attempts::{self, AttemptOutcome, Ended};
use crate::store::batches::promised;
use crate::store::jobs::{self, TransitionError, transition};
use crate::store::{StoreError, in_seconds, leases, outbox};

/// Grants what can be granted of what workers ask for, in one transaction; the rest were stale
/// wake-ups. One answer a request, in order.
///
/// # Errors
/// [`StoreError`]; nothing was granted then.
pub async fn claim(
    conn: &mut PgConnection,
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
    let mut tx = conn.begin().await?;
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
    conn: &mut PgConnection,
    beats: &[Beat],
    ttl_secs: u32,
) -> Result<Vec<Verdict>, StoreError> {
    let mut tx = conn.begin().await?;
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
    jobs::save_within(&mut tx, &renewed).await?;
    jobs::record_progress(&mut tx, &held).await?;
    if !alive.is_empty() {
        attempts::acquit(&mut tx, &alive).await?;
    }
    tx.commit().await?;
    Ok(verdicts)
}

/// Why a failed job is not tried anew.
#[derive(Debug, thiserror::Error)]
pub enum ReviveError {
    /// It could only end again at once, and for good.
    #[error("{0}")]
    Closed(&'static str),
    /// Its state.
    #[error(transparent)]
    Transition(#[from] TransitionError),
}

impl From<StoreError> for ReviveError {
    fn from(error: StoreError) -> Self {
        Self::Transition(error.into())
    }
}

impl From<sqlx::Error> for ReviveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Transition(error.into())
    }
}

/// Tries a failed job anew under its id, with all its attempts before it.
///
/// # Errors
/// [`TransitionError::Refused`] when the job has not failed, [`ReviveError::Closed`] when its batch was
/// cancelled or its time is over; nothing was changed then.
pub async fn revive(pool: &PgPool, id: JobId) -> Result<(), ReviveError> {
    let mut tx = pool.begin().await?;
    promised::reopen(&mut tx, &[id]).await?;
    // The batch is locked now, and will not be cancelled before this is done.
    if let Some(why) = promised::closed(&mut tx, id).await? {
        return Err(ReviveError::Closed(why));
    }
    transition(&mut tx, id, &JobEvent::Revived).await?;
    jobs::forgive(&mut tx, &[id]).await?;
    outbox::insert(&mut tx, &[(id, 0.0)]).await?;
    tx.commit().await?;
    tracing::info!(job.id = %id, "failed job tried anew");
    Ok(())
}

/// The same for many; those that have not failed stay as they are.
///
/// # Errors
/// [`StoreError`]; nothing was changed then.
pub async fn revive_all(conn: &mut PgConnection, ids: &[JobId]) -> Result<(), StoreError> {
    let mut tx = conn.begin().await?;
    promised::reopen(&mut tx, ids).await?;
    let states = jobs::lock_all(&mut tx, ids).await?;
    let revived: Vec<_> = states
        .iter()
        .filter_map(|(id, state)| Some((*id, state.apply(&JobEvent::Revived).ok()?)))
        .collect();
    jobs::save(&mut tx, &revived).await?;
    let ids: Vec<_> = revived.iter().map(|(id, _)| *id).collect();
    jobs::forgive(&mut tx, &ids).await?;
    let waiting: Vec<_> = ids.iter().map(|id| (*id, 0.0)).collect();
    outbox::insert(&mut tx, &waiting).await?;
    tx.commit().await?;
    tracing::info!(jobs = ids.len(), "failed jobs tried anew");
    Ok(())
}

/// A superseded attempt's worker reports: it was given up for dead and is alive, which is not held against the job.
///
/// # Errors
/// [`StoreError`].
pub async fn acquit(pool: &PgPool, lease: LeaseRef) -> Result<(), StoreError> {
    let mut conn = pool.acquire().await?;
    attempts::acquit(&mut conn, &[lease]).await
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
    if let Some(resume) = resume {
        // Undone if the transition below is refused.
        jobs::record_resume(&mut tx, lease.job_id, resume).await?;
    }
    let state = transition(
        &mut tx,
        lease.job_id,
        &JobEvent::HandedBack { token: lease.token },
    )
    .await?;
    let ended = Ended::well(lease.job_id, AttemptOutcome::HandedBack);
    attempts::end(&mut tx, &[ended]).await?;
    outbox::insert(&mut tx, &[(lease.job_id, 0.0)]).await?;
    tx.commit().await?;
    tracing::info!(job.id = %lease.job_id, reason, "job handed back");
    Ok(state)
}

/// What a job leaves behind that ended before its result was whole.
#[derive(Debug)]
pub struct LeftUpload {
    /// Where its result would have gone.
    pub output: String,
    /// The upload to abort.
    pub upload_id: String,
}

/// Cancels a job, whether it waits or runs. Cancelling a cancelled job changes nothing.
///
/// # Errors
/// [`TransitionError::Refused`] when the job has ended otherwise or its result is being published.
pub async fn cancel(pool: &PgPool, id: JobId) -> Result<Option<LeftUpload>, TransitionError> {
    let mut tx = pool.begin().await?;
    if jobs::lock(&mut tx, id).await? == JobState::Cancelled {
        return Ok(None);
    }
    let left = leases::uploads(&mut tx, &[id.0]).await?.pop();
    transition(&mut tx, id, &JobEvent::Cancelled).await?;
    let ended = Ended::well(id, AttemptOutcome::Cancelled);
    attempts::end(&mut tx, &[ended]).await?;
    outbox::delete(&mut tx, &[id.0]).await?;
    tx.commit().await?;
    tracing::info!(job.id = %id, "job cancelled");
    metrics::counter!("upres_jobs_total", "outcome" => "cancelled").increment(1);
    Ok(left.map(|(output, upload_id)| LeftUpload { output, upload_id }))
}

/// Ends many with this event, which needs nobody's lease; those that it does not apply to stay as they are.
/// Returns what the others leave behind.
///
/// # Errors
/// [`StoreError`]; nothing was changed then.
pub async fn end_all(
    conn: &mut PgConnection,
    ids: &[JobId],
    event: &JobEvent,
) -> Result<Vec<LeftUpload>, StoreError> {
    let mut tx = conn.begin().await?;
    let states = jobs::lock_all(&mut tx, ids).await?;
    let ended: Vec<_> = states
        .iter()
        .filter_map(|(id, state)| Some((*id, state.apply(event).ok()?)))
        .collect();
    let ids: Vec<_> = ended.iter().map(|(id, _)| id.0).collect();
    let left = leases::uploads(&mut tx, &ids).await?;
    jobs::save(&mut tx, &ended).await?;
    let attempts: Vec<_> = ended
        .iter()
        .map(|(id, _)| Ended::well(*id, AttemptOutcome::Cancelled))
        .collect();
    attempts::end(&mut tx, &attempts).await?;
    outbox::delete(&mut tx, &ids).await?;
    tx.commit().await?;
    if let Some((_, state)) = ended.first() {
        let state = state.name();
        tracing::info!(jobs = ids.len(), state, "jobs ended");
        metrics::counter!("upres_jobs_total", "outcome" => state).increment(ids.len() as u64);
    }
    let left = left
        .into_iter()
        .map(|(output, upload_id)| LeftUpload { output, upload_id });
    Ok(left.collect())
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
