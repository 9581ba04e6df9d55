//! Submit: looks at a request, its objects and its price; [`accept`](crate::accept) makes it a job.

use sha2::{Digest, Sha256};
use sqlx::PgPool;
use upres_common::job::request::{FieldError, ValidJob};
use upres_common::job::view::JobView;
use upres_common::job::{IfExists, JobId, JobRequest};
use upres_common::objects::{ObjectError, ObjectStore};

use crate::accept::{Accept, earlier_job};
use crate::auth::Caller;
use crate::group::NotDone;
use crate::price::price;
use crate::store::submissions::{NewJob, NewKey};
use crate::store::{StoreError, idempotency, within_patience};

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
    /// The database did not take it.
    #[error(transparent)]
    NotDone(#[from] NotDone),
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
    /// The same request under the same key is one job, however often it is sent. [`earlier`] was asked.
    pub key: Option<NewKey>,
}

/// What became of an acceptable submission.
#[derive(Debug, Clone)]
pub enum Submitted {
    /// A new job, as it would be read back.
    Fresh(Box<JobView>),
    /// The job of an earlier request under the same key.
    Earlier(JobId),
}

/// Accepts a job, or says everything that is wrong with it. Once this returns a job, it will reach an
/// end.
///
/// # Errors
/// [`SubmitError`]; nothing is stored then.
pub async fn submit(
    pool: &PgPool,
    objects: &ObjectStore,
    accept: &Accept,
    caller: &Caller,
    submission: Submission<'_>,
) -> Result<Submitted, SubmitError> {
    let key = submission.key;
    let job = submission
        .request
        .validate()
        .map_err(SubmitError::Invalid)?;
    check_prefixes(caller, &job)?;
    let looked = check_objects(objects, &job).await;
    if let Err(SubmitError::Conflict(_)) = looked {
        // Perhaps it is the first request's own result that stands there by now.
        if let Some(id) = earlier(pool, caller, key.as_ref()).await? {
            return Ok(Submitted::Earlier(id));
        }
    }
    let new = NewJob {
        id: JobId::fresh(),
        tenant: caller.tenant.clone(),
        cost: looked?,
        job,
        traceparent: submission.traceparent.map(str::to_owned),
        key,
    };
    accept.ask(new).await?
}

/// What the job would cost, in tile-steps, and what is worth a word; nothing is stored.
///
/// # Errors
/// Those of [`submit`], but for what only storing it can tell.
pub async fn validate(
    objects: &ObjectStore,
    caller: &Caller,
    request: JobRequest,
) -> Result<(u32, Vec<String>), SubmitError> {
    let job = request.validate().map_err(SubmitError::Invalid)?;
    check_prefixes(caller, &job)?;
    let cost = check_objects(objects, &job).await?;
    Ok((cost, job.warnings))
}

/// The key of a request, which stands for what was asked for and not for how it was written: order and white
/// space make no other request.
#[must_use]
pub fn key(key: &str, request: &JobRequest) -> NewKey {
    let text = serde_json::to_vec(request).expect("a request is plain data");
    NewKey {
        key: key.to_owned(),
        request_sha256: Sha256::digest(text).to_vec(),
    }
}

/// The job of an earlier request under the same key. To be asked before anything else: by now the output may
/// exist, made by that request.
///
/// # Errors
/// [`SubmitError::KeyReused`] when it was another request, or the database's.
pub async fn earlier(
    pool: &PgPool,
    caller: &Caller,
    key: Option<&NewKey>,
) -> Result<Option<JobId>, SubmitError> {
    let Some(key) = key else { return Ok(None) };
    let (tenant, name) = (caller.tenant.clone(), key.key.clone());
    let found = within_patience(async {
        let mut conn = pool.acquire().await?;
        idempotency::find(&mut conn, &[tenant], &[name]).await
    });
    let mut found = found.await?;
    found
        .pop()
        .flatten()
        .map(|earlier| earlier_job(&earlier, key))
        .transpose()
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

/// Looks before accepting, and returns what the job costs. All of it may change until the job runs, so
/// everything is looked at again then.
async fn check_objects(objects: &ObjectStore, job: &ValidJob) -> Result<u32, SubmitError> {
    let output = async {
        match job.if_exists {
            IfExists::Fail => objects.head(&job.output).await,
            IfExists::Overwrite => Ok(None),
        }
    };
    let (cost, output, has_bucket) = tokio::join!(
        price(objects, &job.input, &job.upscale),
        output,
        objects.has_bucket(&job.output)
    );
    let refused = |pointer, error| match error {
        ObjectError::Forbidden(_) => SubmitError::Invalid(vec![FieldError::new(
            pointer,
            "the object store refuses the coordinator access to this bucket",
        )]),
        error @ ObjectError::Refused { .. } => {
            SubmitError::Invalid(vec![FieldError::new(pointer, error.to_string())])
        }
        error => SubmitError::Objects(error),
    };
    let cost = cost.map_err(|error| refused("/input", error))?;
    let Some(cost) = cost else {
        let detail = "there is no object under this address: upload it first";
        let missing = FieldError::new("/input", detail);
        return Err(SubmitError::Invalid(vec![missing]));
    };
    if !has_bucket.map_err(|error| refused("/output", error))? {
        return Err(SubmitError::Invalid(vec![no_bucket("/output")]));
    }
    match output {
        Ok(None) => Ok(cost),
        Ok(Some(_)) => Err(SubmitError::Conflict(vec![FieldError::new(
            "/output",
            "an object is there already: give another address, or \"if_exists\": \"overwrite\"",
        )])),
        Err(error) => Err(refused("/output", error)),
    }
}

/// An address whose bucket does not exist.
pub(crate) fn no_bucket(pointer: &str) -> FieldError {
    let detail = "there is no such bucket in the object store: create it, or correct the address";
    FieldError::new(pointer, detail)
}
