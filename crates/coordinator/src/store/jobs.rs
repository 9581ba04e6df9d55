//! The `jobs` table: change of state, and what is noted on the way.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::state::{InvalidTransition, LeaseToken};
use upres_common::job::{JobError, JobEvent, JobId, JobState};
use upres_common::lease::{Beat, ResumePoint};
use upres_common::objects::ObjectUri;
use uuid::Uuid;

use super::{StoreError, to_json};

/// Why a transition was not made.
#[derive(Debug, thiserror::Error)]
pub enum TransitionError {
    /// The state does not allow it, or the token is not the one that is held.
    #[error(transparent)]
    Refused(#[from] InvalidTransition),
    /// There is no such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TransitionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Locks the job, applies `event` and saves the state that follows.
///
/// # Errors
/// [`TransitionError::Refused`] when the state does not allow the event; nothing is changed then.
pub async fn transition(
    conn: &mut PgConnection,
    id: JobId,
    event: &JobEvent,
) -> Result<JobState, TransitionError> {
    let next = lock(conn, id).await?.apply(event)?;
    save(conn, &[(id, next.clone())]).await?;
    Ok(next)
}

/// Saves states that `apply` returned, of jobs whose rows are locked. The one door through which a
/// job's state changes.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn save(conn: &mut PgConnection, jobs: &[(JobId, JobState)]) -> Result<(), StoreError> {
    let mut columns = StateColumns::default();
    for (id, state) in jobs {
        columns.push(*id, state);
    }
    sqlx::query!(
        r#"
        update jobs
        set state = new.state, lease_token = new.lease_token, lease_until = new.lease_until,
            publishing = new.publishing,
            version = version + 1,
            finished_at = case when new.ended then now() end,
            upload_id = case new.state
                when 'running' then upload_id
                when 'queued' then resume ->> 'upload_id'
            end,
            resume = case when not new.ended then resume end
        from unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bool[], $6::bool[])
            as new (job_id, state, lease_token, lease_until, publishing, ended)
        where jobs.job_id = new.job_id"#,
        &columns.ids,
        &columns.names,
        &columns.tokens as &[Option<i64>],
        &columns.lease_untils as &[Option<DateTime<Utc>>],
        &columns.publishing,
        &columns.ended,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// States as columns, for one statement however many jobs.
#[derive(Debug, Default)]
struct StateColumns {
    ids: Vec<Uuid>,
    names: Vec<String>,
    tokens: Vec<Option<i64>>,
    lease_untils: Vec<Option<DateTime<Utc>>>,
    publishing: Vec<bool>,
    ended: Vec<bool>,
}

impl StateColumns {
    fn push(&mut self, id: JobId, state: &JobState) {
        let (token, lease_until, publishing) = match state {
            JobState::Running {
                token,
                lease_until,
                publishing,
            } => (Some(token.0), Some(*lease_until), *publishing),
            _ => (None, None, false),
        };
        self.ids.push(id.0);
        self.names.push(state.name().to_owned());
        self.tokens.push(token);
        self.lease_untils.push(lease_until);
        self.publishing.push(publishing);
        self.ended.push(state.is_terminal());
    }
}

/// Locks the job's row and reads its state.
///
/// # Errors
/// [`TransitionError::NoSuchJob`] or the database's.
pub async fn lock(conn: &mut PgConnection, id: JobId) -> Result<JobState, TransitionError> {
    let mut states = lock_all(conn, &[id]).await?;
    states.remove(&id).ok_or(TransitionError::NoSuchJob(id))
}

/// Locks the rows of all these jobs, always in the same order, and reads their states.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_all(
    conn: &mut PgConnection,
    ids: &[JobId],
) -> Result<HashMap<JobId, JobState>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"
        select job_id, state, lease_token, lease_until, publishing
        from jobs
        where job_id = any($1)
        order by job_id
        for update"#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let states = rows.into_iter().map(|row| {
        let state = match (row.state.as_str(), row.lease_token, row.lease_until) {
            ("scheduled", ..) => JobState::Scheduled,
            ("queued", ..) => JobState::Queued,
            ("succeeded", ..) => JobState::Succeeded,
            ("failed", ..) => JobState::Failed,
            ("cancelled", ..) => JobState::Cancelled,
            ("expired", ..) => JobState::Expired,
            ("running", Some(token), Some(lease_until)) => JobState::Running {
                token: LeaseToken(token),
                lease_until,
                publishing: row.publishing,
            },
            (state, ..) => {
                unreachable!("the table's checks do not allow a `{state}` job like this")
            }
        };
        (JobId(row.job_id), state)
    });
    Ok(states.collect())
}

/// Notes what attempts reported while they run.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_progress(conn: &mut PgConnection, beats: &[&Beat]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = beats.iter().map(|beat| beat.lease.job_id.0).collect();
    let progress: Vec<_> = beats
        .iter()
        .map(|beat| beat.progress.as_ref().map(to_json))
        .collect();
    let costs: Vec<_> = beats
        .iter()
        .map(|beat| beat.progress.map(|p| i64::from(p.tile_steps_total)))
        .collect();
    let uploads: Vec<_> = beats.iter().map(|beat| beat.upload_id.clone()).collect();
    let resumes: Vec<_> = beats
        .iter()
        .map(|beat| beat.resume.as_ref().map(to_json))
        .collect();
    sqlx::query!(
        r#"
        update jobs
        set progress = coalesce(new.progress, jobs.progress),
            cost = coalesce(new.cost, jobs.cost),
            upload_id = coalesce(new.upload_id, jobs.upload_id),
            resume = coalesce(new.resume, jobs.resume)
        from unnest($1::uuid[], $2::jsonb[], $3::bigint[], $4::text[], $5::jsonb[])
            as new (job_id, progress, cost, upload_id, resume)
        where jobs.job_id = new.job_id"#,
        &ids,
        &progress as &[Option<serde_json::Value>],
        &costs as &[Option<i64>],
        &uploads as &[Option<String>],
        &resumes as &[Option<serde_json::Value>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes from where the next attempt can go on; `None`: from nowhere.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_resume(
    conn: &mut PgConnection,
    id: JobId,
    resume: Option<&ResumePoint>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update jobs set resume = $2 where job_id = $1",
        id.0,
        resume.map(to_json)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes why an attempt failed and that it is spent. Returns how many have failed, and how many may.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_failure(
    conn: &mut PgConnection,
    id: JobId,
    error: &JobError,
) -> Result<(i32, i32), StoreError> {
    let row = sqlx::query!(
        r#"
        update jobs
        set failures = failures + 1, error = $2
        where job_id = $1
        returning failures, max_attempts"#,
        id.0,
        to_json(error),
    )
    .fetch_one(conn)
    .await?;
    Ok((row.failures, row.max_attempts))
}

/// Notes why a job is about to be given up, for a reason that is not its last attempt's.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_error(
    conn: &mut PgConnection,
    id: JobId,
    error: &JobError,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update jobs set error = $2 where job_id = $1",
        id.0,
        to_json(error)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Bounds the tiles at once for the attempts that follow.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn limit_tile_batch(
    conn: &mut PgConnection,
    id: JobId,
    tile_batch: i32,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update jobs set tile_batch = $2 where job_id = $1",
        id.0,
        tile_batch
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Holds nothing of the past against a job, before it is tried anew.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forgive(conn: &mut PgConnection, id: JobId) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update jobs
        set failures = 0, forgiven_attempt = attempt, error = null, progress = null
        where job_id = $1"#,
        id.0
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether `uri` is the input of any job, of whatever tenant and state.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn is_input(conn: &mut PgConnection, uri: &ObjectUri) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select 1 from jobs where input = $1) as "found!""#,
        uri.to_string()
    );
    Ok(found.fetch_one(conn).await?)
}

/// The job's state by name.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn state_name(conn: &mut PgConnection, id: JobId) -> Result<Option<String>, StoreError> {
    let state = sqlx::query_scalar!("select state from jobs where job_id = $1", id.0);
    Ok(state.fetch_optional(conn).await?)
}
