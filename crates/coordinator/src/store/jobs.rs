//! The `jobs` table: change of state, and what is noted on the way.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::state::{InvalidTransition, LeaseToken};
use upres_common::job::{JobError, JobEvent, JobId, JobState};
use upres_common::lease::{Beat, ResumePoint};
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
    let state = lock(conn, id).await?;
    let next = state.apply(event)?;
    let saved = [(id, next.clone())];
    if next.name() == state.name() {
        save_within(conn, &saved).await?;
    } else {
        save(conn, &saved).await?;
    }
    Ok(next)
}

/// Saves states that `apply` returned, of jobs whose rows are locked, and that have another name than
/// before. The one door through which a job's state changes: with it goes the word to whoever follows
/// the job.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn save(conn: &mut PgConnection, jobs: &[(JobId, JobState)]) -> Result<(), StoreError> {
    let columns = StateColumns::of(jobs);
    sqlx::query_file!(
        "src/store/sql/save_states.sql",
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

/// The same for what happens while a job runs and keeps running: a lease is renewed, a publication begins
/// or ends. Nobody is told.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn save_within(
    conn: &mut PgConnection,
    jobs: &[(JobId, JobState)],
) -> Result<(), StoreError> {
    let columns = StateColumns::of(jobs);
    sqlx::query!(
        r#"
        update jobs
        set lease_token = new.lease_token, lease_until = new.lease_until,
            publishing = new.publishing, version = version + 1
        from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::bool[])
            as new (job_id, lease_token, lease_until, publishing)
        where jobs.job_id = new.job_id"#,
        &columns.ids,
        &columns.tokens as &[Option<i64>],
        &columns.lease_untils as &[Option<DateTime<Utc>>],
        &columns.publishing,
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
    fn of(jobs: &[(JobId, JobState)]) -> Self {
        let mut columns = Self::default();
        for (id, state) in jobs {
            columns.push(*id, state);
        }
        columns
    }

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

/// Notes what attempts reported while they run, and tells those who follow the jobs.
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
        with noted as (
            update jobs
            set progress = coalesce(new.progress, jobs.progress),
                cost = coalesce(new.cost, jobs.cost),
                upload_id = coalesce(new.upload_id, jobs.upload_id),
                resume = coalesce(new.resume, jobs.resume)
            from unnest($1::uuid[], $2::jsonb[], $3::bigint[], $4::text[], $5::jsonb[])
                as new (job_id, progress, cost, upload_id, resume)
            where jobs.job_id = new.job_id
            returning jobs.job_id, new.progress
        )
        select pg_notify('upres_changes', string_agg(job_id::text, ','))
        from (
            select job_id, (row_number() over () - 1) / 100 as part
            from noted
            where progress is not null
        ) as told
        group by part"#,
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

/// What the end of an attempt leaves on its job.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// Which job.
    pub job_id: JobId,
    /// Why; kept until another attempt says otherwise.
    pub error: &'a JobError,
    /// Whether one of its attempts is spent.
    pub attempt: bool,
    /// Bounds the tiles at once for the attempts that follow.
    pub tile_batch: Option<i32>,
}

/// How many attempts have failed, and how many may.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Those that failed.
    pub failures: i32,
    /// Those that may.
    pub max_attempts: i32,
}

/// Notes what attempts that came to nothing leave on their jobs. What they had made so far may be what
/// they failed of, and is not gone on from.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn charge(
    conn: &mut PgConnection,
    charges: &[Charge<'_>],
) -> Result<HashMap<JobId, Spent>, StoreError> {
    let ids: Vec<Uuid> = charges.iter().map(|charge| charge.job_id.0).collect();
    let errors: Vec<_> = charges.iter().map(|charge| to_json(charge.error)).collect();
    let attempts: Vec<i32> = charges
        .iter()
        .map(|charge| i32::from(charge.attempt))
        .collect();
    let tile_batches: Vec<_> = charges.iter().map(|charge| charge.tile_batch).collect();
    let rows = sqlx::query!(
        r#"
        update jobs
        set failures = failures + new.attempts, error = new.error, resume = null,
            tile_batch = coalesce(new.tile_batch, jobs.tile_batch)
        from unnest($1::uuid[], $2::jsonb[], $3::integer[], $4::integer[])
            as new (job_id, error, attempts, tile_batch)
        where jobs.job_id = new.job_id
        returning jobs.job_id, failures, max_attempts"#,
        &ids,
        &errors,
        &attempts,
        &tile_batches as &[Option<i32>],
    )
    .fetch_all(conn)
    .await?;
    let spent = rows.into_iter().map(|row| {
        let (failures, max_attempts) = (row.failures, row.max_attempts);
        let spent = Spent {
            failures,
            max_attempts,
        };
        (JobId(row.job_id), spent)
    });
    Ok(spent.collect())
}

/// Notes from where the next attempt can go on.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_resume(
    conn: &mut PgConnection,
    id: JobId,
    resume: &ResumePoint,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update jobs set resume = $2 where job_id = $1",
        id.0,
        to_json(resume)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Holds nothing of the past against jobs, before they are tried anew.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forgive(conn: &mut PgConnection, ids: &[JobId]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"
        update jobs
        set failures = 0, forgiven_attempt = attempt, error = null, progress = null
        where job_id = any($1)"#,
        &ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The job's state by name.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn state_name(conn: &mut PgConnection, id: JobId) -> Result<Option<String>, StoreError> {
    let state = sqlx::query_scalar!("select state from jobs where job_id = $1", id.0);
    Ok(state.fetch_optional(conn).await?)
}
