//! The `outbox` table: the jobs that wait for a worker, and whether one was woken for them.

use std::time::Duration;

use sqlx::PgConnection;
use upres_common::broker::{Envelope, WakeUp};
use upres_common::job::{Class, JobId};
use uuid::Uuid;

use super::StoreError;

/// In the place of a batch, for jobs that belong to none.
const NO_BATCH: Uuid = Uuid::nil();

/// How long a relay may take to publish what it took, before another may try.
const TAKEN_SECS: f64 = 30.0;

/// Puts jobs into the outbox that wait for another attempt, each due after a pause in seconds. Those of a
/// batch that has another class by now take that.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(conn: &mut PgConnection, waiting: &[(JobId, f64)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = waiting.iter().map(|(id, _)| id.0).collect();
    let pauses: Vec<f64> = waiting.iter().map(|(_, pause)| *pause).collect();
    sqlx::query!(
        r#"
        with moved as (
            update jobs
            set class = batches.class
            from batches
            where job_id = any($1) and batches.batch_id = jobs.batch_id and batches.class <> jobs.class
            returning job_id, jobs.class
        )
        insert into outbox (job_id, attempt, class, tenant, batch_id, priority, place, cost, priced,
            traceparent, due_at)
        select job_id, attempt + 1, coalesce(moved.class, jobs.class), tenant, coalesce(batch_id, $3), priority,
            place_in_line(coalesce(not_before, created_at), coalesce(cost, 0)), coalesce(cost, 0),
            cost is not null, traceparent, now() + make_interval(secs => pause)
        from jobs
        join unnest($1::uuid[], $2::float8[]) as waiting (job_id, pause) using (job_id)
        left join moved using (job_id)"#,
        &ids,
        &pauses,
        NO_BATCH,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes jobs out: they wait no more.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn delete(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!("delete from outbox where job_id = any($1)", ids)
        .execute(conn)
        .await?;
    Ok(())
}

/// Scheduled jobs whose time has come, at most `limit`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn due_scheduled(conn: &mut PgConnection, limit: i64) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"
        select job_id
        from jobs
        join outbox using (job_id)
        where state = 'scheduled' and due_at <= now()
        limit $1
        for update of jobs skip locked"#,
        limit,
    );
    Ok(ids.fetch_all(conn).await?.into_iter().map(JobId).collect())
}

/// What a relay took.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The rows, in the order in which they are to go.
    pub rows: Vec<TakenRow>,
    /// Whether there may be more to take at once: beyond `limit`, or instead of what another relay
    /// was quicker to take.
    pub more: bool,
    /// Whether due rows were left for want of room.
    pub held_back: bool,
}

/// One row in a relay's hands.
#[derive(Debug, Clone)]
pub struct TakenRow {
    /// The row.
    pub outbox_id: i64,
    /// The message to publish for it.
    pub envelope: Envelope,
}

/// How much may wait on the broker, for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Most wake-ups.
    pub jobs: i64,
    /// Most tile-steps of all of them together.
    pub tile_steps: i64,
    /// So many wake-ups go whatever they cost.
    pub jobs_at_least: i64,
    /// Most tile-steps of one tenant, those that run included; a larger job goes alone.
    pub of_a_tenant: Option<i64>,
}

impl TakenRow {
    fn new(outbox_id: i64, wake_up: WakeUp, traceparent: Option<String>) -> Self {
        let envelope = Envelope {
            wake_up,
            traceparent,
        };
        Self {
            outbox_id,
            envelope,
        }
    }
}

/// Takes up to `limit` due rows of `class` that were not sent, as far as the allowance goes beside what was
/// sent and not answered. Whose turn it is goes by start-time fair queueing: every tenant is charged the
/// tile-steps of what it takes, and the one that was served least comes first; within a tenant the most
/// urgent, then by its place in the line. Batches that are paused, cancelled, or atomic and not read to
/// their end, are passed over as a whole. Two relays share the work; each may go beyond the allowance by
/// what the other has in its hands.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take(
    conn: &mut PgConnection,
    class: Class,
    limit: i64,
    allowance: Allowance,
) -> Result<Taken, StoreError> {
    let Allowance {
        jobs,
        tile_steps,
        jobs_at_least,
        of_a_tenant,
    } = allowance;
    let rows = sqlx::query_file!(
        "src/store/sql/take.sql",
        class.as_str(),
        limit,
        TAKEN_SECS,
        jobs,
        tile_steps,
        jobs_at_least,
        of_a_tenant,
    )
    .fetch_all(conn)
    .await?;
    let (due, allowed) = rows.first().map_or((0, 0), |row| (row.due, row.allowed));
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            let wake_up = WakeUp::new(JobId(row.job_id?), row.attempt?, class, row.cost?);
            Some(TakenRow::new(row.outbox_id?, wake_up, row.traceparent))
        })
        .collect();
    let taken = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    Ok(Taken {
        more: allowed == limit || taken < allowed,
        held_back: allowed < due,
        rows,
    })
}

/// Marks rows as sent, after the broker's confirm. A row that was claimed meanwhile is gone; one that is being
/// claimed is passed over: claims lock in an order of their own, and neither is to wait for the other.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn mark_sent(conn: &mut PgConnection, outbox_ids: &[i64]) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update outbox
        set sent_at = now(), taken_until = null
        where outbox_id in (
            select outbox_id from outbox where outbox_id = any($1) for update skip locked
        )"#,
        outbox_ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns rows that could not be sent, so that the next tick takes them again.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn give_back(conn: &mut PgConnection, outbox_ids: &[i64]) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update outbox
        set taken_until = null
        where outbox_id in (
            select outbox_id from outbox where outbox_id = any($1) for update skip locked
        )"#,
        outbox_ids
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many sent wake-ups of `class` were not answered by a claim yet. Bounded by the allowance,
/// hence cheap to count.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_sent(conn: &mut PgConnection, class: Class) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from outbox where class = $1 and sent_at is not null"#,
        class.as_str()
    );
    Ok(count.fetch_one(conn).await?)
}

/// How many jobs of the tenant wait, counted up to `most`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_waiting(
    conn: &mut PgConnection,
    tenant: &str,
    most: i64,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from (
            select
            from outbox
            where tenant = $1 and batch_id = '00000000-0000-0000-0000-000000000000'
            limit $2
        ) as first"#,
        tenant,
        most,
    );
    Ok(count.fetch_one(conn).await?)
}

/// Marks the oldest `limit` wake-ups of `class` that were sent longer than `age` ago as unsent.
/// Returns how many.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn resend(
    conn: &mut PgConnection,
    class: Class,
    age: Duration,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"
        update outbox
        set sent_at = null
        where outbox_id in (
            select outbox_id
            from outbox
            where class = $1 and sent_at < now() - make_interval(secs => $2)
            order by sent_at
            limit $3
            for update skip locked
        )"#,
        class.as_str(),
        age.as_secs_f64(),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
