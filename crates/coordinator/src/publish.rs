//! Publish: the one door through which an object becomes visible.
//!
//! A worker uploads its result as a multipart upload, which nobody can see. Publication has three
//! steps: (1) a transaction notes what is to be published and marks the job as publishing, which only
//! the holder of the lease can do, and from then on nobody can cancel it, reap it or claim it;
//! (2) without a transaction, the store is told to complete the upload; (3) a transaction records the
//! result. A crash between 2 and 3 leaves the job publishing: the reaper calls [`finish`] again,
//! which looks at the object itself. Its metadata say which job and lease wrote it, so the question
//! "did that completion happen?" has an answer, and completing twice is harmless.

use sqlx::PgPool;
use upres_common::job::{ErrorType, JobError, JobEvent, JobId, JobState};
use upres_common::lease::{LeaseRef, Outcome, SettledAnswer};
use upres_common::objects::{Completion, ObjectError, ObjectInfo, ObjectStore};

use crate::config::RetryConfig;
use crate::lease::{self, Failed};
use crate::store::attempts::{self, AttemptOutcome};
use crate::store::jobs::{self, TransitionError, transition};
use crate::store::publications::{self, Publication};
use crate::store::{StoreError, in_seconds};

/// Why a publication came to no end. It is taken up again: by the worker, which asks again, or by
/// the reaper.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The object store did not answer; whether the object is visible is open.
    #[error("the object store did not answer")]
    Objects(#[from] ObjectError),
    /// Another job is publishing under the same address right now.
    #[error("the output is being written by another job")]
    OutputBusy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PublishError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Publishes the result of the attempt that holds the lease. From a superseded attempt it changes
/// nothing and says so.
///
/// # Errors
/// [`PublishError`]; asking again is safe.
pub async fn publish(
    pool: &PgPool,
    objects: &ObjectStore,
    retry: &RetryConfig,
    lease: LeaseRef,
    outcome: &Outcome,
) -> Result<SettledAnswer, PublishError> {
    if !begin(pool, retry, lease, outcome).await? {
        let repeated = lease::has_succeeded(pool, lease.job_id, lease.token).await?;
        let state = if repeated { "succeeded" } else { "superseded" };
        return Ok(SettledAnswer {
            state: state.to_owned(),
            superseded: !repeated,
        });
    }
    let state = finish(pool, objects, retry, lease.job_id).await?;
    Ok(SettledAnswer {
        state,
        superseded: false,
    })
}

/// Step 1. Returns whether the attempt may publish: it holds the lease.
async fn begin(
    pool: &PgPool,
    retry: &RetryConfig,
    lease: LeaseRef,
    outcome: &Outcome,
) -> Result<bool, PublishError> {
    let mut tx = pool.begin().await?;
    let LeaseRef { job_id, token } = lease;
    match jobs::lock(&mut tx, job_id).await {
        // Asked again while, or after, somebody was at it: carry on from the object.
        Ok(JobState::Running {
            token: held,
            publishing: true,
            ..
        }) => return Ok(held == token),
        Ok(_) => {}
        Err(TransitionError::Store(error)) => return Err(error.into()),
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => return Ok(false),
    }
    // A submission that names this output as its input is committed by now, or sees that we publish.
    publications::lock_output(&mut tx, job_id).await?;
    let lease_until = in_seconds(&mut tx, retry.publish_again_after.as_secs_f64()).await?;
    publications::record_publication(&mut tx, job_id, outcome).await?;
    match transition(
        &mut tx,
        job_id,
        &JobEvent::PublicationBegun { token, lease_until },
    )
    .await
    {
        Ok(_) => tx.commit().await?,
        // The note above is rolled back with the transaction.
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => return Ok(false),
        Err(TransitionError::Store(error)) if error.is_unique_violation() => {
            return Err(PublishError::OutputBusy);
        }
        Err(TransitionError::Store(error)) => return Err(error.into()),
    }
    Ok(true)
}

/// Steps 2 and 3, from wherever an earlier try stopped. Returns the job's state.
///
/// # Errors
/// [`PublishError`]; the job stays as it is then.
pub async fn finish(
    pool: &PgPool,
    objects: &ObjectStore,
    retry: &RetryConfig,
    id: JobId,
) -> Result<String, PublishError> {
    let mut conn = pool.acquire().await?;
    let Some(publication) = publications::publication(&mut conn, id).await? else {
        // Somebody else finished it between the caller's look and ours.
        let state = jobs::state_name(&mut conn, id).await?;
        return Ok(state.unwrap_or_else(|| "superseded".to_owned()));
    };
    let master = jobs::is_input(&mut conn, &publication.output).await?;
    drop(conn);
    let made_visible = match master {
        true => Err(JobError::new(
            ErrorType::OutputIsInput,
            "the output has become the input of a job, and a master is never overwritten",
        )),
        false => make_visible(objects, &publication).await?,
    };
    match made_visible {
        Ok(()) => record(pool, objects, &publication).await,
        Err(error) => give_up(pool, objects, retry, &publication, &error).await,
    }
}

/// Step 2. The inner error ends the attempt; the outer one leaves everything open.
async fn make_visible(
    objects: &ObjectStore,
    publication: &Publication,
) -> Result<Result<(), JobError>, ObjectError> {
    let exists = || {
        JobError::new(
            ErrorType::OutputExists,
            format!(
                "{} was written by somebody else meanwhile",
                publication.output
            ),
        )
    };
    match objects.head(&publication.output).await? {
        Some(there) if is_ours(&there, publication) => return Ok(Ok(())),
        Some(_) if !publication.overwrite => return Ok(Err(exists())),
        _ => {}
    }
    let outcome = &publication.outcome;
    let completion = objects
        .complete_upload(
            &publication.output,
            &outcome.upload_id,
            &outcome.parts,
            !publication.overwrite,
        )
        .await;
    let completion = match completion {
        Ok(completion) => completion,
        Err(error @ ObjectError::Forbidden(_)) => {
            return Ok(Err(JobError::new(
                ErrorType::OutputForbidden,
                error.to_string(),
            )));
        }
        Err(error) => return Err(error),
    };
    // Believe the object, not the answer: a store may have lost the upload because an earlier try
    // had completed it, and an answer of success must stand for the very bytes that were uploaded.
    let there = objects.head(&publication.output).await?;
    if there.is_some_and(|there| is_ours(&there, publication)) {
        return Ok(Ok(()));
    }
    Ok(Err(match completion {
        Completion::Exists => exists(),
        Completion::Done => JobError::new(
            ErrorType::Storage,
            "the store reported success, but shows another object, or none, under the output's address",
        ),
        // Two attempts wrote to the upload: one that was believed dead, and the one that went on from it.
        Completion::PartsRefused => JobError::new(
            ErrorType::Storage,
            "the store has other parts than those that the result was to be made of",
        ),
        Completion::NoSuchUpload => JobError::new(
            ErrorType::Storage,
            "the uploaded result has vanished from the store",
        ),
    }))
}

/// Whether the visible object is the one this publication makes.
fn is_ours(there: &ObjectInfo, publication: &Publication) -> bool {
    let size = u64::try_from(publication.outcome.bytes).unwrap_or_default();
    there.bytes == size
        && there.ownership.as_ref().is_some_and(|owner| {
            owner.job_id == publication.job_id
                && owner.token == publication.outcome.upload_token
        })
}

/// Step 3, after success.
async fn record(
    pool: &PgPool,
    objects: &ObjectStore,
    publication: &Publication,
) -> Result<String, PublishError> {
    let sha256 = match &publication.outcome.sha256 {
        Some(sha256) => sha256.clone(),
        None => objects.sha256(&publication.output).await?,
    };
    let mut tx = pool.begin().await?;
    let id = publication.job_id;
    jobs::lock(&mut tx, id).await.map_err(only_store)?;
    publications::record_result(&mut tx, publication, &sha256).await?;
    match transition(
        &mut tx,
        id,
        &JobEvent::Completed {
            token: publication.token,
        },
    )
    .await
    {
        Ok(state) => {
            attempts::end(&mut tx, id, AttemptOutcome::Succeeded, None, false).await?;
            tx.commit().await?;
            tracing::info!(job.id = %id, job.attempt = publication.attempt, object.key = %publication.output, "result published");
            metrics::counter!("upres_jobs_total", "outcome" => "succeeded").increment(1);
            Ok(state.name().to_owned())
        }
        // Two finished it side by side; the other was first and recorded the same.
        Err(TransitionError::Refused(refusal)) => Ok(refusal.from.to_owned()),
        Err(error) => Err(only_store(error).into()),
    }
}

/// Step 3, after failure: the attempt failed. First the upload is aborted, so that nobody can complete
/// it any more, neither another coordinator nor an earlier try of our own whose answer was lost; then
/// the object is looked at once more. Only after that is it certain that nothing became visible; a
/// store that refuses either leaves the publication open until it does not.
async fn give_up(
    pool: &PgPool,
    objects: &ObjectStore,
    retry: &RetryConfig,
    publication: &Publication,
    error: &JobError,
) -> Result<String, PublishError> {
    let (output, upload_id) = (&publication.output, &publication.outcome.upload_id);
    objects.abort_upload(output, upload_id).await?;
    let there = objects.head(output).await?;
    if there.is_some_and(|there| is_ours(&there, publication)) {
        return record(pool, objects, publication).await;
    }
    let lease = LeaseRef {
        job_id: publication.job_id,
        token: publication.token,
    };
    let mut tx = pool.begin().await?;
    let ended = JobEvent::PublicationEnded { token: lease.token };
    match transition(&mut tx, lease.job_id, &ended).await {
        Ok(_) => tx.commit().await?,
        Err(TransitionError::Refused(refusal)) => return Ok(refusal.from.to_owned()),
        Err(error) => return Err(only_store(error).into()),
    }
    let failed = Failed::reported(error.clone());
    match lease::fail(pool, lease, &failed, retry).await {
        Ok(state) => Ok(state.name().to_owned()),
        Err(TransitionError::Refused(refusal)) => Ok(refusal.from.to_owned()),
        Err(error) => Err(only_store(error).into()),
    }
}

/// Gives up an upload that nobody will complete. A failure here costs storage, not correctness.
pub async fn abort(objects: &ObjectStore, output: &str, upload_id: &str) {
    let Ok(uri) = output.parse() else { return };
    if let Err(error) = objects.abort_upload(&uri, upload_id).await {
        tracing::warn!(object.key = %uri, error = &error as &dyn std::error::Error, "an abandoned upload was left behind");
    }
}

fn only_store(error: TransitionError) -> StoreError {
    match error {
        TransitionError::Store(error) => error,
        TransitionError::Refused(_) | TransitionError::NoSuchJob(_) => {
            StoreError::Database(sqlx::Error::RowNotFound)
        }
    }
}
