//! Who works: what workers say of themselves, and what the attempts of the last minutes tell.

use sqlx::PgConnection;
use upres_common::lease::{AboutWorker, WorkerView};

use super::StoreError;

/// Writes down what a worker says of itself, and that it is here.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn introduce(
    conn: &mut PgConnection,
    worker_id: &str,
    about: &AboutWorker,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into workers (worker_id, software, device, dtype, model)
        values ($1, $2, $3, $4, $5)
        on conflict (worker_id) do update
        set software = excluded.software, device = excluded.device, dtype = excluded.dtype,
            model = excluded.model, last_seen = now()"#,
        worker_id,
        about.software,
        about.device,
        about.dtype,
        about.model,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets workers that were not heard of for a day.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forget(conn: &mut PgConnection) -> Result<u64, StoreError> {
    let done = sqlx::query!("delete from workers where last_seen < now() - interval '1 day'");
    Ok(done.execute(conn).await?.rows_affected())
}

/// The workers of the last ten minutes, by name. Reads the jobs that run and those that ended then, at
/// most 20,000 of them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn list(conn: &mut PgConnection) -> Result<Vec<WorkerView>, StoreError> {
    let rows = sqlx::query_as!(
        WorkerView,
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
        ), told as (
            select worker_id,
                count(*) filter (where ended_at is null) as leases,
                count(ended_at) as jobs_ended,
                sum(cost) filter (where outcome = 'succeeded')
                    / nullif(extract(epoch from now() - min(started_at) filter (where outcome = 'succeeded')), 0)
                    as tile_steps_per_second,
                case when bool_or(ended_at is null) then now() else max(ended_at) end as last_seen
            from tries
            group by worker_id
        ), present as (
            select * from workers where last_seen > now() - interval '10 minutes'
        )
        select worker_id as "id!", software as "software?", device as "device?", dtype as "dtype?",
            model as "model?", coalesce(leases, 0) as "leases!", coalesce(jobs_ended, 0) as "jobs_ended!",
            coalesce(tile_steps_per_second, 0)::float8 as "tile_steps_per_second!",
            greatest(present.last_seen, told.last_seen) as "last_seen!"
        from present
        full join told using (worker_id)
        order by worker_id"#
    );
    Ok(rows.fetch_all(conn).await?)
}
