//! Accept: submissions become jobs and rows in the outbox, all that arrived together in one
//! transaction. Only then are they answered.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::task::TaskTracker;
use upres_common::job::JobId;
use upres_common::job::request::FieldError;
use upres_common::job::view::JobView;

use crate::dispatch::Bell;
use crate::group::Group;
use crate::store::StoreError;
use crate::store::idempotency::{self, Earlier};
use crate::store::kept::Kept;
use crate::store::submissions::{self, Inserted, NewJob, NewKey};
use crate::store::webhooks;
use crate::submit::{SubmitError, Submitted};

/// Takes a job that was looked at; answers when it is stored, or refused after all.
pub type Accept = Group<NewJob, Answer>;
type Answer = Result<Submitted, SubmitError>;

/// Starts the task behind [`Accept`]. It rings for what it accepts.
pub fn group(tasks: &TaskTracker, pool: &PgPool, bell: &Arc<Bell>) -> Accept {
    let (kept, bell) = (Arc::new(Kept::new(pool)), Arc::clone(bell));
    Group::start(tasks, move |jobs: Vec<NewJob>| {
        let (kept, bell) = (Arc::clone(&kept), Arc::clone(&bell));
        async move {
            let mut conn = kept.take().await?;
            let answers = accept(&mut conn, &jobs).await?;
            kept.keep(conn);
            bell.work.ring();
            Ok(answers)
        }
    })
}

/// Accepts jobs in one transaction. One answer a job, in order.
///
/// # Errors
/// [`StoreError`]; nothing was accepted then.
pub async fn accept(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<Answer>, StoreError> {
    let mut tx = conn.begin().await?;
    let mut refused: Vec<Option<Answer>> = Vec::new();
    refused.resize_with(jobs.len(), || None);
    answer_keys(&mut tx, jobs, &mut refused).await?;
    answer_addresses(&mut tx, jobs, &mut refused).await?;
    let open = jobs.iter().zip(&refused);
    let fresh: Vec<&NewJob> = open
        .filter_map(|(job, refused)| refused.is_none().then_some(job))
        .collect();
    let mut inserted = submissions::insert(&mut tx, &fresh).await?;
    webhooks::register(&mut tx, &fresh).await?;
    tx.commit().await?;

    inserted.sort_by_key(|row| row.job_id);
    let answers = jobs.iter().zip(refused).map(|(new, refused)| {
        if let Some(refused) = refused {
            return refused;
        }
        let at = inserted.binary_search_by_key(&new.id.0, |row| row.job_id);
        let row = &inserted[at.expect("what was inserted came back")];
        tracing::info!(job.id = %new.id, class = new.job.class.as_str(), cost = new.cost, "job submitted");
        Ok(Submitted::Fresh(Box::new(view(new, row))))
    });
    Ok(answers.collect())
}

/// Answers those whose key is known, or in use by another request right now.
async fn answer_keys(
    conn: &mut PgConnection,
    jobs: &[NewJob],
    answers: &mut [Option<Answer>],
) -> Result<(), StoreError> {
    let (mut positions, mut tenants, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken = HashSet::new();
    for (position, new) in jobs.iter().enumerate() {
        let Some(key) = &new.key else { continue };
        if !taken.insert((&new.tenant, &key.key)) {
            answers[position] = Some(Err(SubmitError::KeyBusy));
            continue;
        }
        positions.push((position, key));
        tenants.push(new.tenant.clone());
        keys.push(key.key.clone());
    }
    if positions.is_empty() {
        return Ok(());
    }
    let busy = idempotency::lock(conn, &tenants, &keys).await?;
    // A statement of its own: it sees what was committed before the locks were had.
    let earlier = idempotency::find(conn, &tenants, &keys).await?;
    for ((position, key), earlier) in positions.iter().zip(earlier) {
        if let Some(earlier) = earlier {
            answers[*position] = Some(earlier_job(&earlier, key).map(Submitted::Earlier));
        }
    }
    for busy in busy {
        let (position, _) = positions[usize::try_from(busy).unwrap_or_default()];
        answers[position].get_or_insert(Err(SubmitError::KeyBusy));
    }
    Ok(())
}

/// The job of an earlier request under the same key.
///
/// # Errors
/// [`SubmitError::KeyReused`] when it was another request.
pub fn earlier_job(earlier: &Earlier, key: &NewKey) -> Result<JobId, SubmitError> {
    if earlier.request_sha256 == key.request_sha256 {
        return Ok(earlier.job_id);
    }
    Err(SubmitError::KeyReused)
}

/// Refuses inputs that are about to change and outputs that are masters.
async fn answer_addresses(
    conn: &mut PgConnection,
    jobs: &[NewJob],
    answers: &mut [Option<Answer>],
) -> Result<(), StoreError> {
    let inputs: Vec<_> = jobs.iter().map(|new| new.job.input.to_string()).collect();
    let outputs: Vec<_> = jobs.iter().map(|new| new.job.output.to_string()).collect();
    let being_published = submissions::being_published(conn, &inputs).await?;
    let masters = submissions::inputs_among(conn, &outputs).await?;
    for (position, answer) in answers.iter_mut().enumerate() {
        let refusal = if being_published.contains(&inputs[position]) {
            FieldError::new(
                "/input",
                "a job is writing this object right now: submit again in a moment",
            )
        } else if masters.contains(&outputs[position]) {
            FieldError::new(
                "/output",
                "this address is the input of a job: a master is never overwritten, give another",
            )
        } else {
            continue;
        };
        answer.get_or_insert(Err(SubmitError::Conflict(vec![refusal])));
    }
    Ok(())
}

/// The job as it would be read back.
fn view(new: &NewJob, row: &Inserted) -> JobView {
    let job = new.job.clone();
    JobView {
        id: new.id,
        batch: None,
        state: row.state.clone(),
        version: 1,
        attempt: 0,
        input: job.input.to_string(),
        output: job.output.to_string(),
        if_exists: job.if_exists,
        upscale: job.upscale,
        class: job.class,
        priority: job.priority,
        max_attempts: i32::try_from(job.max_attempts).unwrap_or(i32::MAX),
        not_before: row.not_before,
        finish_by: row.finish_by,
        labels: job.labels,
        webhook: job.webhook,
        progress: None,
        cost: Some(i64::from(new.cost)),
        timings: None,
        result: None,
        error: None,
        warnings: job.warnings,
        created_at: row.created_at,
        started_at: None,
        finished_at: None,
        attempts: Vec::new(),
    }
}
