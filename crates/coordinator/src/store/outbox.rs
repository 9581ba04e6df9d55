//! The `outbox` table: the jobs that wait for a worker, and whether one was woken for them.

use std::time::Duration;

use sqlx::PgConnection;
use upres_common::broker::{Envelope, WakeUp};
use upres_common::job::{Class, JobId};
use uuid::Uuid;

use super::StoreError;

/// How long a relay may take to publish what it took, before another may try.
const TAKEN_SECS: f64 = 30.0;

/// Puts jobs into the outbox that wait for another attempt, each due after a pause in seconds.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(conn: &mut PgConnection, waiting: &[(JobId, f64)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = waiting.iter().map(|(id, _)| id.0).collect();
    let pauses: Vec<f64> = waiting.iter().map(|(_, pause)| *pause).collect();
    sqlx::query!(
        r#"
        insert into outbox (job_id, attempt, class, priority, cost, traceparent, due_at)
        select job_id, attempt + 1, class, priority, coalesce(cost, 0), traceparent,
            now() + make_interval(secs => pause)
        from jobs
        join unnest($1::uuid[], $2::float8[]) as waiting (job_id, pause) using (job_id)"#,
        &ids,
        &pauses,
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

/// Takes up to `limit` due rows of `class` that were not sent, the most urgent first, as far as the
/// allowance goes beside what was sent and not answered. Two relays share the work; each may go beyond
/// the allowance by what the other has in its hands.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take(
    conn: &mut PgConnection,
    class: Class,
    limit: i64,
    allowance: Allowance,
) -> Result<Taken, StoreError> {
    let (jobs, tile_steps) = (allowance.jobs, allowance.tile_steps);
    let jobs_at_least = allowance.jobs_at_least;
    let rows = sqlx::query!(
        r#"
        with sent as (
            select count(*) as jobs, coalesce(sum(cost), 0) as cost
            from outbox
            where class = $1 and sent_at is not null
        ), next as (
            select outbox_id, row_number() over line as jobs, sum(cost) over line as cost
            from (
                select outbox_id, priority, cost
                from outbox
                where class = $1 and sent_at is null and due_at <= now()
                    and (taken_until is null or taken_until < now())
                order by priority desc, outbox_id
                limit $2
            ) as due
            window line as (order by priority desc, outbox_id)
        ), allowed as (
            select outbox_id
            from next, sent
            where sent.jobs + next.jobs <= $4
                and (sent.cost + next.cost <= $5::bigint or sent.jobs + next.jobs <= $6)
        ), free as (
            select outbox_id
            from outbox
            where outbox_id = any (array (select outbox_id from allowed))
                and sent_at is null and (taken_until is null or taken_until < now())
            for update skip locked
        ), taken as (
            update outbox
            set taken_until = now() + make_interval(secs => $3)
            where outbox_id = any (array (select outbox_id from free))
            returning outbox_id, job_id, attempt, priority, cost, traceparent
        )
        select due as "due!", allowed as "allowed!", outbox_id as "outbox_id?", job_id as "job_id?",
            attempt as "attempt?", priority as "priority?", cost as "cost?", traceparent
        from (
            select (select count(*) from next) as due, (select count(*) from allowed) as allowed
        ) as counts
        left join taken on true
        order by priority desc, outbox_id"#,
        class.as_str(),
        limit,
        TAKEN_SECS,
        jobs,
        tile_steps,
        jobs_at_least,
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

/// Marks rows as sent, after the broker's confirm. A row that was claimed meanwhile is gone.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn mark_sent(conn: &mut PgConnection, outbox_ids: &[i64]) -> Result<(), StoreError> {
    sqlx::query!(
        "update outbox set sent_at = now(), taken_until = null where outbox_id = any($1)",
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
        "update outbox set taken_until = null where outbox_id = any($1)",
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
