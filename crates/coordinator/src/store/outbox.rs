//! The `outbox` table: the jobs that wait for a worker, and whether one was woken for them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::broker::{Envelope, WakeUp};
use upres_common::job::{Class, JobId};
use uuid::Uuid;

use super::StoreError;

/// How long a relay may take to publish what it took, before another may try.
const TAKEN_SECS: f64 = 30.0;

/// Puts a waiting job into the outbox, due at `due_at` or at once.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    conn: &mut PgConnection,
    id: JobId,
    due_at: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into outbox (job_id, attempt, class, priority, cost, traceparent, due_at)
        select job_id, attempt + 1, class, priority, coalesce(cost, 0), traceparent,
            coalesce($2, now())
        from jobs
        where job_id = $1"#,
        id.0,
        due_at,
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

/// One row in a relay's hands.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The row.
    pub outbox_id: i64,
    /// The message to publish for it.
    pub envelope: Envelope,
}

/// Takes up to `limit` due rows of `class` that were not sent, the most urgent first. Two relays
/// share the work.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take(
    conn: &mut PgConnection,
    class: Class,
    limit: i64,
) -> Result<Vec<Taken>, StoreError> {
    let rows = sqlx::query!(
        r#"
        update outbox
        set taken_until = now() + make_interval(secs => $3)
        where outbox_id in (
            select outbox_id
            from outbox
            where class = $1 and sent_at is null and due_at <= now()
                and (taken_until is null or taken_until < now())
            order by priority desc, outbox_id
            limit $2
            for update skip locked
        )
        returning outbox_id, job_id, attempt, priority, cost, traceparent"#,
        class.as_str(),
        limit,
        TAKEN_SECS,
    )
    .fetch_all(conn)
    .await?;
    let mut rows = rows;
    rows.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.outbox_id));
    let taken = rows.into_iter().map(|row| Taken {
        outbox_id: row.outbox_id,
        envelope: Envelope {
            wake_up: WakeUp::new(JobId(row.job_id), row.attempt, class, row.cost),
            traceparent: row.traceparent,
        },
    });
    Ok(taken.collect())
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

/// How many sent wake-ups of `class` were not answered by a claim yet. Bounded by the release
/// limit, hence cheap to count.
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
