//! Publish: the one door through which an object becomes visible.
//!
//! A worker uploads its result as a multipart upload, which nobody can see. Publication has three
//! steps: (1) a transaction notes what is to be published and marks the job as publishing, which only
//! the holder of the lease can do, and from then on nobody can cancel it, reap it or claim it;
//! (2) without a transaction, the store is told to complete the upload; (3) a transaction records the
//! result. A crash between 2 and 3 leaves the job publishing: the reaper calls [`Door::finish`] again,
//! which looks at the object itself. Its metadata say which job and lease wrote it, so the question
//! "did that completion happen?" has an answer, and completing twice is harmless.
//!
//! Steps 1 and 3 are done for many results at once, see `steps`; the store is asked for each alone.

mod sidecar;
pub mod steps;

use sqlx::PgPool;
use tokio_util::task::TaskTracker;
use upres_common::job::{ErrorType, JobError, JobEvent, JobId};
use upres_common::lease::{LeaseRef, Outcome, SettledAnswer};
use upres_common::objects::{Completion, ObjectError, ObjectInfo, ObjectStore};

use crate::config::RetryConfig;
use crate::fail::{Failed, fail_all};
use crate::group::{Group, NotDone};
use crate::lease;
use crate::store::jobs::{self, TransitionError, transition};
use crate::store::publications::{self, Publication};
use crate::store::{StoreError, within_patience};
use steps::Begun;

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
    /// The database did not do it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

impl From<sqlx::Error> for PublishError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The only place where results become visible.
#[derive(Debug, Clone)]
pub struct Door {
    pool: PgPool,
    objects: ObjectStore,
    retry: RetryConfig,
    begin: Group<(LeaseRef, Outcome), Begun>,
    record: Group<Publication, String>,
}

impl Door {
    /// Starts the tasks that do what the database has to do for many results at once.
    pub fn new(
        tasks: &TaskTracker,
        pool: &PgPool,
        objects: &ObjectStore,
        retry: RetryConfig,
    ) -> Self {
        Self {
            pool: pool.clone(),
            objects: objects.clone(),
            retry,
            begin: steps::group_begin(tasks, pool, retry.publish_again_after),
            record: steps::group_record(tasks, pool),
        }
    }

    /// Publishes the result of the attempt that holds the lease. From a superseded attempt it changes
    /// nothing and says so.
    ///
    /// # Errors
    /// [`PublishError`]; asking again is safe.
    pub async fn publish(
        &self,
        lease: LeaseRef,
        outcome: Outcome,
    ) -> Result<SettledAnswer, PublishError> {
        match self.begin.ask((lease, outcome)).await? {
            Begun::Yes(publication) => Ok(SettledAnswer {
                state: self.make_and_record(*publication).await?,
                superseded: false,
            }),
            Begun::OutputBusy => Err(PublishError::OutputBusy),
            Begun::Superseded => {
                let repeated = lease::has_succeeded(&self.pool, lease.job_id, lease.token);
                let repeated = within_patience(repeated).await?;
                if !repeated {
                    within_patience(lease::acquit(&self.pool, lease)).await?;
                }
                let state = if repeated { "succeeded" } else { "superseded" };
                Ok(SettledAnswer {
                    state: state.to_owned(),
                    superseded: !repeated,
                })
            }
        }
    }

    /// Steps 2 and 3, from wherever an earlier try stopped. Returns the job's state.
    ///
    /// # Errors
    /// [`PublishError`]; the job stays as it is then.
    pub async fn finish(&self, id: JobId) -> Result<String, PublishError> {
        let looked = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            let found = publications::under_way(&mut conn, &[id]).await?.pop();
            match found {
                Some(publication) => Ok(Ok(publication)),
                None => jobs::state_name(&mut conn, id).await.map(Err),
            }
        });
        match looked.await? {
            Ok(publication) => self.make_and_record(publication).await,
            // Somebody else finished it between the caller's look and ours.
            Err(state) => Ok(state.unwrap_or_else(|| "superseded".to_owned())),
        }
    }

    async fn make_and_record(&self, publication: Publication) -> Result<String, PublishError> {
        let made_visible = match publication.output_is_input {
            true => Err(JobError::new(
                ErrorType::OutputIsInput,
                "the output has become the input of a job, and a master is never overwritten",
            )),
            false => make_visible(&self.objects, &publication).await?,
        };
        match made_visible {
            Ok(()) => self.record(publication).await,
            Err(error) => self.give_up(publication, error).await,
        }
    }

    /// Step 3, after success.
    async fn record(&self, mut publication: Publication) -> Result<String, PublishError> {
        let sha256 = &mut publication.outcome.sha256;
        if sha256.is_none() {
            *sha256 = Some(self.objects.sha256(&publication.output).await?);
        }
        sidecar::write(&self.objects, &publication).await?;
        Ok(self.record.ask(publication).await?)
    }

    /// Step 3, after failure: the attempt failed. First the upload is aborted, so that nobody can
    /// complete it any more, neither another coordinator nor an earlier try of our own whose answer was
    /// lost; then the object is looked at once more. Only after that is it certain that nothing became
    /// visible; a store that is away leaves the publication open until it is back. One that refuses either
    /// answers no question, however often it is asked.
    async fn give_up(
        &self,
        publication: Publication,
        error: JobError,
    ) -> Result<String, PublishError> {
        let (output, upload_id) = (&publication.output, &publication.outcome.upload_id);
        match self.objects.abort_upload(output, upload_id).await {
            Err(error) if error.is_refusal() => {
                tracing::warn!(object.key = %output, "the store refuses to abort an upload, which is left behind");
            }
            aborted => aborted?,
        }
        let there = match self.objects.head(output).await {
            Err(error) if error.is_refusal() => None,
            there => there?,
        };
        if there.is_some_and(|there| is_ours(&there, &publication)) {
            return self.record(publication).await;
        }
        let (job_id, token) = (publication.job_id, publication.token);
        let ended = within_patience(async {
            let mut tx = self.pool.begin().await?;
            transition(&mut tx, job_id, &JobEvent::PublicationEnded { token }).await?;
            // In one: between the two the job would speak of an upload that is gone.
            let failed = (LeaseRef { job_id, token }, Failed::reported(error));
            let answer = fail_all(&mut tx, &[failed], &self.retry).await?.pop();
            tx.commit().await?;
            answer.unwrap_or(Err(TransitionError::NoSuchJob(job_id)))
        });
        match ended.await {
            Ok(state) => Ok(state.name().to_owned()),
            Err(TransitionError::Refused(refusal)) => Ok(refusal.from.to_owned()),
            Err(error) => Err(only_store(error).into()),
        }
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
    let overwrite = match objects.head(&publication.output).await {
        // What may not be seen cannot be answered for.
        Err(error) => return at_the_end(error).map(Err),
        Ok(Some(there)) if is_ours(&there, publication) => return Ok(Ok(())),
        Ok(Some(there)) if publication.overwrite || there.is_of(publication.replaces) => true,
        Ok(Some(_)) => return Ok(Err(exists())),
        Ok(None) => publication.overwrite,
    };
    let outcome = &publication.outcome;
    let completion = objects
        .complete_upload(
            &publication.output,
            &outcome.upload_id,
            &outcome.parts,
            !overwrite,
        )
        .await;
    let completion = match completion {
        Ok(completion) => completion,
        Err(error) => return at_the_end(error).map(Err),
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

/// What the attempt ends with, when the store will not do it however often it is asked; the outer error is one
/// that passes.
fn at_the_end(error: ObjectError) -> Result<JobError, ObjectError> {
    let error_type = match error {
        ObjectError::Forbidden(_) => ErrorType::OutputForbidden,
        ObjectError::NoBucket(_) => ErrorType::OutputNotFound,
        // Whoever sets up the store may be about to mend it.
        ObjectError::Refused { .. } => ErrorType::Storage,
        ObjectError::NotFound(_)
        | ObjectError::TooLarge { .. }
        | ObjectError::Unavailable { .. } => return Err(error),
    };
    Ok(JobError::new(error_type, error.to_string()))
}

/// Whether the visible object is the one this publication makes.
fn is_ours(there: &ObjectInfo, publication: &Publication) -> bool {
    let size = u64::try_from(publication.outcome.bytes).unwrap_or_default();
    there.bytes == size
        && there.ownership.as_ref().is_some_and(|owner| {
            owner.job_id == publication.job_id && owner.token == publication.outcome.upload_token
        })
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
