//! Submit: a request becomes a job and a row in the outbox, in one transaction.

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use upres_common::job::request::{FieldError, ValidJob};
use upres_common::job::{IfExists, JobId, JobRequest};
use upres_common::objects::{ObjectError, ObjectStore};

use crate::auth::Caller;
use crate::store::idempotency::{self, Earlier};
use crate::store::{StoreError, jobs, outbox, publications};

/// Why a request was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The request itself.
    #[error("the request is not valid")]
    Invalid(Vec<FieldError>),
    /// The key may not touch those addresses.
    #[error("the key may not touch these objects")]
    Forbidden(Vec<FieldError>),
    /// The output is there already, or is a master.
    #[error("the output is taken")]
    Conflict(Vec<FieldError>),
    /// The idempotency key was used for another request.
    #[error("the idempotency key stands for another request")]
    KeyReused,
    /// Another request with the same idempotency key is under way.
    #[error("a request with this idempotency key is under way")]
    KeyBusy,
    /// The object store did not answer, so nothing can be said about the input or the output.
    #[error("the object store did not answer")]
    Objects(#[source] ObjectError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for SubmitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a client sends.
#[derive(Debug, Clone)]
pub struct Submission<'a> {
    /// The job.
    pub request: JobRequest,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The same request under the same key is one job, however often it is sent.
    pub idempotency_key: Option<&'a str>,
}

/// Accepts a job, or says everything that is wrong with it. Once this returns an id, the job will
/// reach an end. The flag tells whether the job is of an earlier request under the same key.
///
/// # Errors
/// [`SubmitError`]; nothing is stored then.
pub async fn submit(
    pool: &PgPool,
    objects: &ObjectStore,
    relay: &Notify,
    caller: &Caller,
    submission: Submission<'_>,
) -> Result<(JobId, bool), SubmitError> {
    let digest = digest(&submission.request);
    let key = submission.idempotency_key;
    // Before anything else is looked at: by now the output may exist, made by the first request.
    let mut conn = pool.acquire().await?;
    if let Some(id) = earlier(&mut conn, caller, key, &digest).await? {
        return Ok((id, true));
    }
    drop(conn);
    let job = submission
        .request
        .validate()
        .map_err(SubmitError::Invalid)?;
    check_prefixes(caller, &job)?;
    let looked = check_objects(objects, &job).await;
    if let Err(SubmitError::Conflict(_)) = looked {
        // Perhaps it is the first request's own result that stands there by now.
        let mut conn = pool.acquire().await?;
        if let Some(id) = earlier(&mut conn, caller, key, &digest).await? {
            return Ok((id, true));
        }
    }
    looked?;

    let mut tx = pool.begin().await?;
    if let Some(key) = key
        && !idempotency::lock(&mut tx, &caller.tenant, key).await?
    {
        return Err(SubmitError::KeyBusy);
    }
    if let Some(id) = earlier(&mut tx, caller, key, &digest).await? {
        return Ok((id, true));
    }
    if publications::is_being_published(&mut tx, &job.input).await? {
        return Err(SubmitError::Conflict(vec![FieldError::new(
            "/input",
            "a job is writing this object right now: submit again in a moment",
        )]));
    }
    if jobs::is_input(&mut tx, &job.output).await? {
        return Err(SubmitError::Conflict(vec![FieldError::new(
            "/output",
            "this address is the input of a job: a master is never overwritten, give another",
        )]));
    }
    let id = JobId::fresh();
    jobs::insert(&mut tx, id, &caller.tenant, &job, submission.traceparent).await?;
    outbox::insert(&mut tx, id, job.not_before).await?;
    if let Some(key) = key {
        let made = Earlier {
            job_id: id,
            request_sha256: digest,
        };
        idempotency::remember(&mut tx, &caller.tenant, key, &made).await?;
    }
    tx.commit().await?;

    relay.notify_one();
    tracing::info!(job.id = %id, class = job.class.as_str(), "job submitted");
    Ok((id, false))
}

/// The job of an earlier request under the same key.
async fn earlier(
    conn: &mut PgConnection,
    caller: &Caller,
    key: Option<&str>,
    digest: &[u8],
) -> Result<Option<JobId>, SubmitError> {
    let Some(key) = key else { return Ok(None) };
    match idempotency::find(conn, &caller.tenant, key).await? {
        Some(earlier) if earlier.request_sha256 == digest => Ok(Some(earlier.job_id)),
        Some(_) => Err(SubmitError::KeyReused),
        None => Ok(None),
    }
}

/// Of what was asked for, not of how it was written: order and white space make no other request.
fn digest(request: &JobRequest) -> Vec<u8> {
    let text = serde_json::to_vec(request).expect("a request is plain data");
    Sha256::digest(text).to_vec()
}

fn check_prefixes(caller: &Caller, job: &ValidJob) -> Result<(), SubmitError> {
    let mut errors = Vec::new();
    if !caller.may_read(&job.input) {
        errors.push(FieldError::new(
            "/input",
            "this key may not read objects under that address",
        ));
    }
    if !caller.may_write(&job.output) {
        errors.push(FieldError::new(
            "/output",
            "this key may not write objects under that address",
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(SubmitError::Forbidden(errors))
    }
}

/// Looks before accepting. Both may change until the job runs, so both are looked at again then.
async fn check_objects(objects: &ObjectStore, job: &ValidJob) -> Result<(), SubmitError> {
    let output = async {
        match job.if_exists {
            IfExists::Fail => objects.head(&job.output).await,
            IfExists::Overwrite => Ok(None),
        }
    };
    let (input, output) = tokio::join!(objects.head(&job.input), output);
    let refused = |pointer, error| match error {
        ObjectError::Forbidden(_) => SubmitError::Invalid(vec![FieldError::new(
            pointer,
            "the object store refuses the coordinator access to this bucket",
        )]),
        error => SubmitError::Objects(error),
    };
    match input {
        Ok(Some(_)) => {}
        Ok(None) => {
            let detail = "there is no object under this address: upload it first";
            return Err(SubmitError::Invalid(vec![FieldError::new(
                "/input", detail,
            )]));
        }
        Err(error) => return Err(refused("/input", error)),
    }
    match output {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(SubmitError::Conflict(vec![FieldError::new(
            "/output",
            "an object is there already: give another address, or \"if_exists\": \"overwrite\"",
        )])),
        Err(error) => Err(refused("/output", error)),
    }
}
