//! Who works: told by the attempts of the last minutes.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;

/// A worker that works, or did a moment ago.
#[derive(Debug, Clone)]
pub struct WorkerRow {
    /// Its name.
    pub worker_id: String,
    /// Leases that it holds.
    pub leases: i64,
    /// Attempts that it ended in the last ten minutes.
    pub jobs_ended: i64,
    /// Tile-steps a second of those that succeeded, since the first of them began.
    pub tile_steps_per_second: f64,
    /// When it last claimed or ended an attempt, or was to renew a lease that has not lapsed.
    pub last_seen: DateTime<Utc>,
}

/// The workers of the last ten minutes, by name. Reads the jobs that run and those that ended then, at
/// most 20,000 of them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn list(conn: &mut PgConnection) -> Result<Vec<WorkerRow>, StoreError> {
    let rows = sqlx::query_as!(
        WorkerRow,
        r#"
        with recent as (
            select job_id, cost from jobs where state = 'running'
            union all (
                select job_id, cost
                from jobs
                where finished_at > now() - interval '10 minutes'
                order by finished_at desc
                limit 20000
            )
        ), tries as (
            select worker_id, outcome, attempts.started_at, ended_at, cost
            from recent
            join attempts using (job_id)
            where ended_at is null or ended_at > now() - interval '10 minutes'
        )
        select worker_id,
            count(*) filter (where ended_at is null) as "leases!",
            count(ended_at) as "jobs_ended!",
            coalesce(
                sum(cost) filter (where outcome = 'succeeded')
                / nullif(extract(epoch from now() - min(started_at) filter (where outcome = 'succeeded')), 0),
                0
            )::float8 as "tile_steps_per_second!",
            case when bool_or(ended_at is null) then now() else max(ended_at) end as "last_seen!"
        from tries
        group by worker_id
        order by worker_id"#
    );
    Ok(rows.fetch_all(conn).await?)
}
