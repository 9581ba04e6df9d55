//! Running a batch's sources again: what its parent made, and nobody has touched since, is not made anew.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use sqlx::PgPool;
use upres_common::batch::BatchId;
use upres_common::job::JobId;
use upres_common::job::request::{FieldError, ValidJob};
use upres_common::objects::{ObjectError, ObjectInfo, ObjectStore, ObjectUri};

use crate::auth::Caller;
use crate::store::batches::parents::{self, Done};
use crate::store::{StoreError, within_patience};
use crate::submit::SubmitError;

/// Inputs and outputs looked at at once.
const AT_ONCE: usize = 64;
/// Names a source: one of these in the request takes the place of the parent's, with what belongs to it.
const SOURCE: [&str; 5] = ["prefix", "manifest", "items", "include", "exclude"];
/// What holds for one run only.
const OF_ONE_RUN: [&str; 5] = ["report", "bagit", "not_before", "finish_by", "parent"];

/// The request with the parent's settings in place of those it does not name; as it is without a parent.
///
/// # Errors
/// [`SubmitError::Invalid`] when there is no such batch, or it is not over.
pub async fn inherit(pool: &PgPool, caller: &Caller, body: Value) -> Result<Value, SubmitError> {
    let named = body.get("parent").and_then(Value::as_str);
    let Some(id) = named.and_then(|id| id.parse::<BatchId>().ok()) else {
        return Ok(body);
    };
    let found = within_patience(async {
        let mut conn = pool.acquire().await?;
        parents::find(&mut conn, &caller.tenant, id).await
    });
    let refused = |detail: &str| SubmitError::Invalid(vec![FieldError::new("/parent", detail)]);
    match found.await? {
        None => Err(refused("there is no such batch")),
        Some(parent) if !parent.finished => Err(refused(
            "that batch is not over yet: wait for its end, or cancel it",
        )),
        Some(parent) => Ok(merge(parent.request, body)),
    }
}

fn merge(parent: Value, own: Value) -> Value {
    let (Value::Object(mut merged), Value::Object(own)) = (parent, own) else {
        return Value::Null;
    };
    merged.retain(|name, _| !OF_ONE_RUN.contains(&name.as_str()));
    if SOURCE.iter().any(|name| own.contains_key(*name)) {
        merged.retain(|name, _| !SOURCE.contains(&name.as_str()));
    }
    merged.extend(own);
    Value::Object(merged)
}

/// Why items cannot be told apart yet.
#[derive(Debug, thiserror::Error)]
pub enum SiftError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object store.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The parent has done it: its input has the bytes that were read then, it is to be upscaled as it was,
    /// and the result is there, by this very job.
    Unchanged(JobId),
    /// The result there is that of the parent's job, of other bytes or other settings: it may be replaced.
    Stale(JobId),
    /// Nothing that we know of is there.
    New,
}

/// Where each of `jobs` stands, in order.
///
/// # Errors
/// [`SiftError`]: nothing is known of any then.
pub async fn states(
    pool: &PgPool,
    objects: &ObjectStore,
    parent: BatchId,
    jobs: &[&ValidJob],
) -> Result<Vec<State>, SiftError> {
    let outputs: Vec<_> = jobs.iter().map(|job| job.output.to_string()).collect();
    let done = within_patience(async {
        let mut conn = pool.acquire().await?;
        parents::done(&mut conn, parent, &outputs).await
    });
    let done = done.await?;
    let looks: Vec<_> = jobs
        .iter()
        .zip(&outputs)
        .map(|(job, output)| state(objects, job, done.get(output)))
        .collect();
    let states = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    Ok(states)
}

async fn state(
    objects: &ObjectStore,
    job: &ValidJob,
    done: Option<&Done>,
) -> Result<State, ObjectError> {
    let Some(done) = done else {
        return Ok(State::New);
    };
    let result = look(objects, &job.output).await?;
    let owner = result.and_then(|info| info.ownership);
    if owner.is_none_or(|owner| owner.job_id != done.job_id) {
        return Ok(State::New);
    }
    let same = done.input == job.input.to_string() && done.upscale == job.upscale;
    if same && done.etag.is_some() {
        let input = look(objects, &job.input).await?;
        if input.and_then(|info| info.etag) == done.etag {
            return Ok(State::Unchanged(done.job_id));
        }
    }
    Ok(State::Stale(done.job_id))
}

/// What a job will be refused for is for the job to say.
async fn look(objects: &ObjectStore, uri: &ObjectUri) -> Result<Option<ObjectInfo>, ObjectError> {
    match objects.head(uri).await {
        Err(error) if error.is_refusal() => Ok(None),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_request_names_takes_the_place_of_the_parents() {
        let parent = json!({
            "prefix": "s3://masters/a/", "include": ["*.tif"], "output": "s3://out/{stem}.png",
            "class": "bulk", "report": "s3://out/report/", "finish_by": "2020-01-01T00:00:00Z",
            "parent": "01890000-0000-7000-8000-000000000000",
        });
        let own = json!({"parent": "p", "class": "interactive"});
        assert_eq!(
            merge(parent.clone(), own),
            json!({
                "prefix": "s3://masters/a/", "include": ["*.tif"], "output": "s3://out/{stem}.png",
                "class": "interactive", "parent": "p",
            })
        );
        let elsewhere = json!({"parent": "p", "manifest": "s3://masters/list.csv"});
        assert_eq!(
            merge(parent, elsewhere),
            json!({
                "manifest": "s3://masters/list.csv", "output": "s3://out/{stem}.png", "class": "bulk",
                "parent": "p",
            })
        );
    }
}
