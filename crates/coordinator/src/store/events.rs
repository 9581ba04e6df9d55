//! Following jobs: the `job_events` table, and a glance at a job that needs no other table.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::view::Progress;
use upres_common::job::{Class, JobId};

use super::{StoreError, from_json};

/// As much of a job as a client that asks again and again needs to be told that nothing is new.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// Grows with every change.
    pub version: i64,
    /// Whether its life is over.
    pub ended: bool,
    /// What it waits for.
    pub stage: Stage,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// Its time, in so many seconds.
    Scheduled(f64),
    /// A worker, in the line of its class.
    Queued(Class),
    /// Its worker, for so many seconds more; nothing is known when no tile is done.
    Running(Option<f64>),
    /// Nothing any more.
    Ended,
}

/// Looks at a job, by its key alone.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn glance(
    conn: &mut PgConnection,
    tenant: &str,
    id: JobId,
) -> Result<Option<Glance>, StoreError> {
    let row = sqlx::query!(
        r#"
        select version, state, class, finished_at is not null as "ended!",
            extract(epoch from not_before - now())::float8 as due_in,
            extract(epoch from now() - started_at)::float8 as running_for,
            (progress ->> 'tiles')::float8 as tiles, (progress ->> 'tiles_total')::float8 as tiles_total
        from jobs
        where job_id = $1 and tenant = $2"#,
        id.0,
        tenant,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let class = match row.class.as_str() {
            "bulk" => Class::Bulk,
            _ => Class::Interactive,
        };
        let left = || {
            let done = row.tiles.filter(|tiles| *tiles > 0.0)?;
            Some(row.running_for? * (row.tiles_total? - done).max(0.0) / done)
        };
        let stage = match row.state.as_str() {
            "scheduled" => Stage::Scheduled(row.due_in.unwrap_or_default()),
            "queued" => Stage::Queued(class),
            "running" => Stage::Running(left()),
            _ => Stage::Ended,
        };
        Glance {
            version: row.version,
            ended: row.ended,
            stage,
        }
    }))
}

/// What one who follows a job is told beside the changes of its state.
#[derive(Debug, Clone)]
pub struct Following {
    /// Grows with every change.
    pub version: i64,
    /// Whether its life is over.
    pub ended: bool,
    /// How far it is.
    pub progress: Option<Progress>,
}

/// Looks how far a job is.
///
/// # Errors
/// [`StoreError`].
pub async fn following(
    conn: &mut PgConnection,
    tenant: &str,
    id: JobId,
) -> Result<Option<Following>, StoreError> {
    let row = sqlx::query!(
        r#"
        select version, finished_at is not null as "ended!", progress
        from jobs
        where job_id = $1 and tenant = $2"#,
        id.0,
        tenant,
    );
    let Some(row) = row.fetch_optional(conn).await? else {
        return Ok(None);
    };
    let progress = row.progress.map(|it| from_json(id.0, "progress", it));
    Ok(Some(Following {
        version: row.version,
        ended: row.ended,
        progress: progress.transpose()?,
    }))
}

/// A change of a job's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The job's version by it.
    pub version: i64,
    /// The state that followed.
    pub state: String,
    /// The attempt that was under way, or the last one.
    pub attempt: i32,
    /// When.
    pub happened_at: DateTime<Utc>,
}

/// The changes of a job's state since its version `known`, in order; all of them with 0.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn since(
    conn: &mut PgConnection,
    tenant: &str,
    id: JobId,
    known: i64,
) -> Result<Vec<Event>, StoreError> {
    // Acceptance is told by the job's own row; so is the end of a job that is older than this table.
    let events = sqlx::query_as!(
        Event,
        r#"
        with job as (
            select * from jobs where job_id = $1 and tenant = $2
        ), told as (
            select job_events.*
            from job_events
            join job using (job_id)
            union all
            select job_id, 1, case when not_before > created_at then 'scheduled' else 'queued' end,
                0, created_at
            from job
            union all
            select job_id, version, state, attempt, finished_at
            from job
            where finished_at is not null and not exists (
                select 1
                from job_events as last
                where last.job_id = job.job_id and last.version = job.version
            )
        )
        select version as "version!", state as "state!", attempt as "attempt!",
            happened_at as "happened_at!"
        from told
        where version > $3
        order by version"#,
        id.0,
        tenant,
        known,
    );
    Ok(events.fetch_all(conn).await?)
}
