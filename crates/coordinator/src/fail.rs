//! How an attempt comes to nothing: another follows, or the job fails. Reports of many workers are one
//! transaction; each is taken only under the token that is held.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::task::TaskTracker;
use upres_common::job::state::InvalidTransition;
use upres_common::job::{Consequence, ErrorType, JobError, JobEvent, JobId, JobState};
use upres_common::lease::LeaseRef;

use crate::config::RetryConfig;
use crate::group::Group;
use crate::store::attempts::{self, AttemptOutcome, Ended};
use crate::store::jobs::{self, Charge, Spent, TransitionError};
use crate::store::kept::Kept;
use crate::store::{StoreError, in_seconds, outbox};

/// Deaths that are not held against a job, because the work had not begun or the worker turned up
/// alive, count after all when there are so many times more of them.
const UNBLAMED_FACTOR: i64 = 10;

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

/// What becomes of the job, or why the report changes nothing.
pub type Answer = Result<JobState, TransitionError>;
/// Takes the reports of workers.
pub type Failures = Group<(LeaseRef, Failed), Answer>;

/// Starts the task behind [`Failures`].
pub fn group(tasks: &TaskTracker, pool: &PgPool, retry: RetryConfig) -> Failures {
    let kept = Arc::new(Kept::new(pool));
    Group::start(tasks, move |reports: Vec<(LeaseRef, Failed)>| {
        let kept = Arc::clone(&kept);
        async move {
            let mut conn = kept.take().await?;
            let answers = fail_all(&mut conn, &reports, &retry).await?;
            kept.keep(conn);
            Ok(answers)
        }
    })
}

/// Ends one attempt that came to nothing.
///
/// # Errors
/// [`TransitionError::Refused`] when the token is no longer held.
pub async fn fail(
    pool: &PgPool,
    lease: LeaseRef,
    failed: &Failed,
    retry: &RetryConfig,
) -> Result<JobState, TransitionError> {
    let mut conn = pool.acquire().await?;
    let report = (lease, failed.clone());
    let mut answers = fail_all(&mut conn, &[report], retry).await?;
    answers
        .pop()
        .unwrap_or(Err(TransitionError::NoSuchJob(lease.job_id)))
}

/// Ends attempts that came to nothing, in one transaction. One answer a report, in order: the state
/// that follows, or why the report changes nothing.
///
/// # Errors
/// [`StoreError`]; nothing was changed then.
pub async fn fail_all(
    conn: &mut PgConnection,
    reports: &[(LeaseRef, Failed)],
    retry: &RetryConfig,
) -> Result<Vec<Answer>, StoreError> {
    let mut tx = conn.begin().await?;
    let ids: Vec<_> = reports.iter().map(|(lease, _)| lease.job_id).collect();
    let mut states = jobs::lock_all(&mut tx, &ids).await?;
    let now = in_seconds(&mut tx, 0.0).await?;

    // The rows are locked: what is accepted here holds until the commit. Of two reports on one lease
    // the second finds what the first has made of the job.
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(reports.len());
    let mut accepted = Vec::new();
    let mut met = HashSet::new();
    for (lease, failed) in reports {
        let answer = match states.get(&lease.job_id) {
            None => Some(Err(TransitionError::NoSuchJob(lease.job_id))),
            Some(state) => match check(state, *lease, failed, now) {
                Err(refused) => Some(Err(refused.into())),
                Ok(()) => {
                    if met.insert(lease.job_id) {
                        accepted.push((*lease, failed));
                    }
                    None
                }
            },
        };
        answers.push(answer);
    }
    let next = consequences(&mut tx, &accepted, retry).await?;
    let (mut ended, mut waiting) = (Vec::new(), Vec::new());
    for (lease, _) in &accepted {
        let (id, token) = (lease.job_id, lease.token);
        let event = match next[&id] {
            Next::Again { pause } => {
                waiting.push((id, pause.as_secs_f64()));
                JobEvent::Retried { token }
            }
            Next::GiveUp => JobEvent::GivenUp { token },
        };
        let state = states[&id]
            .apply(&event)
            .expect("whoever may give up may try again");
        states.insert(id, state.clone());
        ended.push((id, state));
    }
    jobs::save(&mut tx, &ended).await?;
    let alive = alive(reports, &answers);
    if !alive.is_empty() {
        attempts::acquit(&mut tx, &alive).await?;
    }
    if !waiting.is_empty() {
        outbox::insert(&mut tx, &waiting).await?;
    }
    tx.commit().await?;
    for (lease, failed) in &accepted {
        log(lease.job_id, &failed.error, &states[&lease.job_id]);
    }
    let mut first = HashSet::new();
    let answers = reports.iter().zip(answers).map(|((lease, _), answer)| {
        let state = states.get(&lease.job_id);
        answer.unwrap_or_else(|| match state {
            Some(state) if first.insert(lease.job_id) => Ok(state.clone()),
            Some(state) => Err(repeated(state).into()),
            None => Err(TransitionError::NoSuchJob(lease.job_id)),
        })
    });
    Ok(answers.collect())
}

fn log(id: JobId, error: &JobError, state: &JobState) {
    tracing::warn!(job.id = %id, error = %error.error_type, detail = error.detail, state = state.name(), "attempt failed");
    if state.is_terminal() {
        metrics::counter!("upres_jobs_total", "outcome" => "failed").increment(1);
    }
}

/// Superseded attempts whose workers report themselves, and not that they die of it.
fn alive(reports: &[(LeaseRef, Failed)], answers: &[Option<Answer>]) -> Vec<LeaseRef> {
    let refused = reports.iter().zip(answers).filter(|((_, failed), answer)| {
        matches!(answer, Some(Err(_)))
            && failed.outcome == AttemptOutcome::Failed
            && failed.error.error_type.consequence() != Consequence::Death
    });
    refused.map(|((lease, _), _)| *lease).collect()
}

/// Whether the report is of the attempt that holds the lease.
fn check(
    state: &JobState,
    lease: LeaseRef,
    failed: &Failed,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), InvalidTransition> {
    let token = lease.token;
    state.apply(&JobEvent::GivenUp { token })?;
    match state {
        // The worker was heard of between the reaper's look and its act.
        JobState::Running { lease_until, .. }
            if failed.outcome == AttemptOutcome::Lost && *lease_until > now =>
        {
            Err(InvalidTransition {
                from: "running",
                event: "lost: its lease was renewed",
            })
        }
        _ => Ok(()),
    }
}

fn repeated(state: &JobState) -> InvalidTransition {
    InvalidTransition {
        from: state.name(),
        event: "failed: it was already",
    }
}

#[derive(Debug, Clone, Copy)]
enum Next {
    Again { pause: Duration },
    GiveUp,
}

/// Writes the attempts' ends and what they cost their jobs, and says whether others follow.
async fn consequences(
    conn: &mut PgConnection,
    accepted: &[(LeaseRef, &Failed)],
    retry: &RetryConfig,
) -> Result<HashMap<JobId, Next>, StoreError> {
    if accepted.is_empty() {
        return Ok(HashMap::new());
    }
    let ended: Vec<_> = accepted
        .iter()
        .map(|(lease, failed)| Ended {
            job_id: lease.job_id,
            outcome: failed.outcome,
            error: Some(&failed.error),
            blame: failed.error.error_type.consequence() == Consequence::Death,
        })
        .collect();
    attempts::end(conn, &ended).await?;
    let charges: Vec<_> = accepted
        .iter()
        .filter_map(|(lease, failed)| charge(lease.job_id, failed))
        .collect();
    let spent = match charges.is_empty() {
        true => HashMap::new(),
        false => jobs::charge(conn, &charges).await?,
    };
    let mut next = HashMap::new();
    for (lease, failed) in accepted {
        let id = lease.job_id;
        let follows = match failed.error.error_type.consequence() {
            Consequence::Final => Next::GiveUp,
            Consequence::Attempt => after_failure(spent[&id], retry),
            Consequence::Death => after_death(conn, id, retry).await?,
        };
        next.insert(id, follows);
    }
    Ok(next)
}

/// What a failure leaves on its job; a death leaves nothing.
fn charge(job_id: JobId, failed: &Failed) -> Option<Charge<'_>> {
    let attempt = match failed.error.error_type.consequence() {
        Consequence::Final => false,
        Consequence::Attempt => true,
        Consequence::Death => return None,
    };
    let half = |tiles: u32| i32::try_from(tiles / 2).unwrap_or(i32::MAX).max(1);
    let ran_out = failed.error.error_type == ErrorType::OutOfMemory;
    Some(Charge {
        job_id,
        error: &failed.error,
        attempt,
        tile_batch: failed.tile_batch.filter(|_| ran_out).map(half),
    })
}

fn after_failure(spent: Spent, retry: &RetryConfig) -> Next {
    if spent.failures >= spent.max_attempts {
        return Next::GiveUp;
    }
    let pause = backoff(spent.failures, retry.base, retry.cap, random_fraction());
    Next::Again { pause }
}

async fn after_death(
    conn: &mut PgConnection,
    id: JobId,
    retry: &RetryConfig,
) -> Result<Next, StoreError> {
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
    let held_back = Charge {
        job_id: id,
        error: &JobError::new(ErrorType::Quarantined, detail),
        attempt: false,
        tile_batch: None,
    };
    jobs::charge(conn, &[held_back]).await?;
    Ok(Next::GiveUp)
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
