//! Reading jobs for the API.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use upres_common::batch::BatchId;
use upres_common::job::view::{AttemptView, ErrorView, JobView};
use upres_common::job::{Class, IfExists, JobError, JobId};
use uuid::Uuid;

use super::{StoreError, from_json};

/// Every column a [`JobView`] is made of.
const COLUMNS: &str = "job_id, batch_id, state, version, attempt, input, output, if_exists, upscale, class, \
    priority, max_attempts, not_before, finish_by, labels, progress, cost, timings, result, error, \
    warnings, created_at, started_at, finished_at, \
    (select url from job_webhooks where job_webhooks.job_id = jobs.job_id) as webhook";

/// Which jobs a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this state.
    pub state: Option<String>,
    /// Only jobs of this batch.
    pub batch: Option<BatchId>,
    /// Only jobs with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only jobs submitted before this one.
    pub before: Option<JobId>,
}

/// One job with its attempts.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: &str,
    id: JobId,
) -> Result<Option<JobView>, StoreError> {
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {COLUMNS} from jobs where job_id = "));
    query
        .push_bind(id.0)
        .push(" and tenant = ")
        .push_bind(tenant);
    let Some(row) = query.build().fetch_optional(&mut *conn).await? else {
        return Ok(None);
    };
    let mut job = view(&row)?;
    job.attempts = attempts(conn, id).await?;
    Ok(Some(job))
}

/// Those of these jobs that the tenant has, without their attempts, in no particular order.
///
/// # Errors
/// [`StoreError`].
pub async fn lookup(
    conn: &mut PgConnection,
    tenant: &str,
    ids: &[JobId],
) -> Result<Vec<JobView>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {COLUMNS} from jobs where job_id = any("));
    query
        .push_bind(ids)
        .push(") and tenant = ")
        .push_bind(tenant);
    let rows = query.build().fetch_all(conn).await?;
    rows.iter().map(view).collect()
}

/// A page of jobs, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn page(
    conn: &mut PgConnection,
    tenant: &str,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    // Put together at run time because each filter changes the plan; all values are bound.
    let mut query =
        QueryBuilder::<Postgres>::new(format!("select {COLUMNS} from jobs where tenant = "));
    query.push_bind(tenant);
    if let Some(state) = &filter.state {
        query.push(" and state = ").push_bind(state);
        if matches!(state.as_str(), "scheduled" | "queued" | "running") {
            // Says nothing new, but leads the planner to the index of open jobs.
            query.push(" and finished_at is null");
        }
    }
    if let Some(batch) = filter.batch {
        query.push(" and batch_id = ").push_bind(batch.0);
    }
    if !filter.labels.is_empty() {
        query
            .push(" and labels @> ")
            .push_bind(super::to_json(&filter.labels));
    }
    if let Some(before) = filter.before {
        query.push(" and job_id < ").push_bind(before.0);
    }
    query.push(" order by job_id desc limit ").push_bind(limit);
    query
        .build()
        .fetch_all(conn)
        .await?
        .iter()
        .map(view)
        .collect()
}

/// The work that is not done yet.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Jobs that wait, scheduled ones included.
    pub waiting: i64,
    /// Jobs under a lease.
    pub running: i64,
    /// For how many seconds the oldest due job has waited.
    pub oldest_secs: f64,
}

/// The work that waits, in tile-steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Of jobs that somebody waits for.
    pub interactive: f64,
    /// Of large amounts of work.
    pub bulk: f64,
}

/// Counts the backlog; the finished jobs, however many, are not read.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn backlog(conn: &mut PgConnection) -> Result<Backlog, StoreError> {
    let backlog = sqlx::query_as!(
        Backlog,
        r#"
        select
            (select count(*) from outbox) as "waiting!",
            (select count(*) from jobs where state = 'running') as "running!",
            (
                select coalesce(extract(epoch from now() - min(due_at)), 0)::float8
                from outbox
                where due_at <= now()
            ) as "oldest_secs!""#
    );
    Ok(backlog.fetch_one(conn).await?)
}

/// Tile-steps a second of the jobs that succeeded last, in the time in which any of them was worked on, a second
/// between two at most included: what idles is not slow. Nothing when none did in the last ten minutes. What
/// failed had its steps counted, and did not take them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn pace(conn: &mut PgConnection) -> Result<Option<f64>, StoreError> {
    mean_pace(conn, false).await
}

/// Tile-steps of the jobs that are due and wait for a worker, in the line of each class.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn line(conn: &mut PgConnection) -> Result<Line, StoreError> {
    let line = sqlx::query_as!(
        Line,
        r#"
        select
            coalesce(sum(cost) filter (where class = 'interactive'), 0)::float8 as "interactive!",
            coalesce(sum(cost) filter (where class = 'bulk'), 0)::float8 as "bulk!"
        from outbox
        where due_at <= now()"#
    );
    Ok(line.fetch_one(conn).await?)
}

/// What is to be done, in tile-steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// Of the jobs that are due and wait, but for those of paused batches.
    pub waiting: f64,
    /// Left of the jobs that run.
    pub running: f64,
}

/// Adds up what waits and what runs. A job that was not priced yet counts as its file's length makes
/// likely, or as one tile-step.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn work(conn: &mut PgConnection) -> Result<Work, StoreError> {
    let work = sqlx::query_as!(
        Work,
        r#"
        select
            (
                select coalesce(sum(greatest(cost, 1)), 0)::float8
                from outbox
                left join batches using (batch_id)
                where due_at <= now()
                    and (batches.batch_id is null or (not paused and cancelled_at is null))
            ) as "waiting!",
            (
                select coalesce(sum(
                    greatest(cost, 1) * (1 - coalesce(
                        (progress->>'tiles')::float8 / nullif((progress->>'tiles_total')::float8, 0), 0
                    ))
                ), 0)::float8
                from jobs
                where state = 'running'
            ) as "running!""#
    );
    Ok(work.fetch_one(conn).await?)
}

/// Tile-steps a second of one worker, the mean of those that had jobs among the last thousand that
/// succeeded, each in the time in which it was at work, as for [`pace`]; nothing when none did in the last ten
/// minutes.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn pace_of_a_worker(conn: &mut PgConnection) -> Result<Option<f64>, StoreError> {
    mean_pace(conn, true).await
}

/// The pace of all workers as one, or of each, and the mean.
async fn mean_pace(conn: &mut PgConnection, apart: bool) -> Result<Option<f64>, StoreError> {
    let pace = sqlx::query_scalar!(
        r#"
        select avg(pace)
        from (
            select (
                sum(cost) / nullif(extract(epoch from sum(
                    least(greatest(started_at - before, interval '0'), interval '1 second')
                    + greatest(ended_at - greatest(started_at, before), interval '0')
                )), 0)
            )::float8 as pace
            from (
                select worker, cost, started_at, ended_at,
                    coalesce(
                        max(ended_at) over (
                            partition by worker
                            order by started_at rows between unbounded preceding and 1 preceding
                        ),
                        started_at
                    ) as before
                from (
                    select job_id, cost
                    from jobs
                    where finished_at > now() - interval '10 minutes' and state = 'succeeded'
                    order by finished_at desc
                    limit 1000
                ) as last
                join (
                    select job_id, case when $1 then worker_id end as worker, started_at, ended_at
                    from attempts
                    where outcome = 'succeeded'
                ) as attempts using (job_id)
            ) as spans
            group by worker
        ) as workers
        where pace > 0"#,
        apart
    );
    // Planned each time: a plan from when the table was empty reads all of it for ever after.
    Ok(pace.persistent(false).fetch_one(conn).await?)
}

async fn attempts(conn: &mut PgConnection, id: JobId) -> Result<Vec<AttemptView>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select attempt, worker_id, outcome, started_at, ended_at, error
        from attempts
        where job_id = $1
        order by attempt"#,
        id.0
    )
    .fetch_all(conn)
    .await?;
    let view = |error| Ok::<_, StoreError>(error_view(from_json(id.0, "error", error)?));
    rows.into_iter()
        .map(|row| {
            Ok(AttemptView {
                attempt: row.attempt,
                worker: row.worker_id,
                outcome: row.outcome,
                started_at: row.started_at,
                ended_at: row.ended_at,
                error: row.error.map(view).transpose()?,
            })
        })
        .collect()
}

fn error_view(error: JobError) -> ErrorView {
    ErrorView {
        error_type: error.error_type,
        retryable: error.error_type.retryable(),
        detail: error.detail,
    }
}

fn view(row: &sqlx::postgres::PgRow) -> Result<JobView, StoreError> {
    let id: Uuid = row.try_get("job_id")?;
    let state: String = row.try_get("state")?;
    let json = |column: &'static str| -> Result<Option<serde_json::Value>, sqlx::Error> {
        row.try_get(column)
    };
    let error: Option<JobError> = json("error")?
        .map(|value| from_json(id, "error", value))
        .transpose()?;
    let class: String = row.try_get("class")?;
    let if_exists: String = row.try_get("if_exists")?;
    Ok(JobView {
        id: JobId(id),
        batch: row.try_get::<Option<Uuid>, _>("batch_id")?.map(BatchId),
        version: row.try_get("version")?,
        attempt: row.try_get("attempt")?,
        input: row.try_get("input")?,
        output: row.try_get("output")?,
        if_exists: if if_exists == "fail" {
            IfExists::Fail
        } else {
            IfExists::Overwrite
        },
        upscale: from_json(id, "upscale", row.try_get("upscale")?)?,
        class: if class == "bulk" {
            Class::Bulk
        } else {
            Class::Interactive
        },
        priority: row.try_get("priority")?,
        max_attempts: row.try_get("max_attempts")?,
        not_before: row.try_get("not_before")?,
        finish_by: row.try_get("finish_by")?,
        labels: from_json(id, "labels", row.try_get("labels")?)?,
        webhook: row.try_get("webhook")?,
        progress: json("progress")?
            .map(|value| from_json(id, "progress", value))
            .transpose()?,
        cost: row.try_get("cost")?,
        timings: json("timings")?
            .map(|value| from_json(id, "timings", value))
            .transpose()?,
        result: json("result")?
            .map(|value| from_json(id, "result", value))
            .transpose()?,
        // A job that goes on after a failed attempt shows that failure among its attempts only.
        error: error.filter(|_| state == "failed").map(error_view),
        warnings: from_json(id, "warnings", row.try_get("warnings")?)?,
        created_at: row.try_get::<DateTime<Utc>, _>("created_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        attempts: Vec::new(),
        state,
    })
}
