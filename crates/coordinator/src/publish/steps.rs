//! Steps 1 and 3 of a publication, each for many results in one transaction.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::task::TaskTracker;
use upres_common::job::{JobEvent, JobState};
use upres_common::lease::{LeaseRef, Outcome};

use crate::group::Group;
use crate::store::attempts::{self, AttemptOutcome, Ended};
use crate::store::kept::Kept;
use crate::store::publications::{self, Publication};
use crate::store::{StoreError, in_seconds, jobs};

/// What became of step 1.
#[derive(Debug, Clone)]
pub enum Begun {
    /// The attempt holds the lease, and nobody else will publish for it.
    Yes(Box<Publication>),
    /// It does not hold the lease.
    Superseded,
    /// Another job is publishing under the same address.
    OutputBusy,
}

pub(super) fn group_begin(
    tasks: &TaskTracker,
    pool: &PgPool,
    again_after: Duration,
) -> Group<(LeaseRef, Outcome), Begun> {
    let kept = Arc::new(Kept::new(pool));
    Group::start(tasks, move |requests: Vec<(LeaseRef, Outcome)>| {
        let kept = Arc::clone(&kept);
        async move {
            let mut conn = kept.take().await?;
            let answers = begin(&mut conn, &requests, again_after).await?;
            kept.keep(conn);
            Ok(answers)
        }
    })
}

pub(super) fn group_record(tasks: &TaskTracker, pool: &PgPool) -> Group<Publication, String> {
    let kept = Arc::new(Kept::new(pool));
    Group::start(tasks, move |publications: Vec<Publication>| {
        let kept = Arc::clone(&kept);
        async move {
            let mut conn = kept.take().await?;
            let answers = record(&mut conn, &publications).await?;
            kept.keep(conn);
            Ok(answers)
        }
    })
}

/// Step 1. One answer a request, in order.
///
/// # Errors
/// [`StoreError`]; nothing has begun then. Of several requests the index that guards the outputs refuses
/// all; then each is asked alone.
pub async fn begin(
    conn: &mut PgConnection,
    requests: &[(LeaseRef, Outcome)],
    again_after: Duration,
) -> Result<Vec<Begun>, StoreError> {
    match begin_together(conn, requests, again_after).await {
        Err(error) if requests.len() == 1 && error.is_unique_violation() => {
            Ok(vec![Begun::OutputBusy])
        }
        begun => begun,
    }
}

async fn begin_together(
    conn: &mut PgConnection,
    requests: &[(LeaseRef, Outcome)],
    again_after: Duration,
) -> Result<Vec<Begun>, StoreError> {
    let mut tx = conn.begin().await?;
    let ids: Vec<_> = requests.iter().map(|(lease, _)| lease.job_id).collect();
    let mut states = jobs::lock_all(&mut tx, &ids).await?;
    let lease_until = in_seconds(&mut tx, again_after.as_secs_f64()).await?;
    let (mut begun, mut outcomes) = (Vec::new(), Vec::new());
    for (LeaseRef { job_id, token }, outcome) in requests {
        let token = *token;
        let event = JobEvent::PublicationBegun { token, lease_until };
        let next = states
            .get(job_id)
            .and_then(|state| state.apply(&event).ok());
        if let Some(next) = next {
            states.insert(*job_id, next.clone());
            begun.push((*job_id, next));
            outcomes.push((*job_id, outcome));
        }
    }
    if !begun.is_empty() {
        let ids: Vec<_> = begun.iter().map(|(id, _)| *id).collect();
        // A submission that names one of these outputs as its input is committed by now, or sees that
        // we publish.
        publications::lock_outputs(&mut tx, &ids).await?;
        publications::record_intents(&mut tx, &outcomes).await?;
        jobs::save_within(&mut tx, &begun).await?;
    }
    // Those that somebody began before are carried on from the object.
    let under_way = publications::under_way(&mut tx, &ids).await?;
    tx.commit().await?;
    let answers = requests.iter().map(|(lease, _)| {
        let mine = under_way
            .iter()
            .find(|one| one.job_id == lease.job_id && one.token == lease.token);
        mine.map_or(Begun::Superseded, |mine| Begun::Yes(Box::new(mine.clone())))
    });
    Ok(answers.collect())
}

/// Step 3, after success. One state a publication, in order.
///
/// # Errors
/// [`StoreError`]; nothing was recorded then.
pub async fn record(
    conn: &mut PgConnection,
    publications: &[Publication],
) -> Result<Vec<String>, StoreError> {
    let mut tx = conn.begin().await?;
    let ids: Vec<_> = publications.iter().map(|one| one.job_id).collect();
    let mut states = jobs::lock_all(&mut tx, &ids).await?;
    let (mut succeeded, mut results, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for publication in publications {
        let (id, token) = (publication.job_id, publication.token);
        let event = JobEvent::Completed { token };
        // Two finished it side by side: the other was first and recorded the same.
        let Some(Ok(next)) = states.get(&id).map(|state| state.apply(&event)) else {
            continue;
        };
        states.insert(id, next.clone());
        succeeded.push((id, next));
        results.push(publication);
        ended.push(Ended::well(id, AttemptOutcome::Succeeded));
    }
    if !succeeded.is_empty() {
        publications::record_results(&mut tx, &results).await?;
        attempts::end(&mut tx, &ended).await?;
        jobs::save(&mut tx, &succeeded).await?;
    }
    tx.commit().await?;
    for publication in results {
        tracing::info!(job.id = %publication.job_id, job.attempt = publication.attempt, object.key = %publication.output, "result published");
        metrics::counter!("upres_jobs_total", "outcome" => "succeeded").increment(1);
    }
    let state = |id| states.get(id).map_or("superseded", JobState::name);
    let answers = publications.iter().map(|one| state(&one.job_id).to_owned());
    Ok(answers.collect())
}
