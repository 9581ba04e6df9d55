//! Webhooks: who wants to be told of which job, and what was told, how often, with which answer. A
//! delivery is enqueued where a state is saved, see `sql/save_states.sql`.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::batch::BatchId;
use uuid::Uuid;

use super::StoreError;
use super::submissions::NewJob;

/// An attempt that has not ended after so long has died with its coordinator.
const TAKEN_SECS: f64 = 60.0;

/// Notes which of these new jobs are to be told of.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn register(conn: &mut PgConnection, jobs: &[&NewJob]) -> Result<(), StoreError> {
    let (ids, urls): (Vec<Uuid>, Vec<String>) = jobs
        .iter()
        .filter_map(|new| Some((new.id.0, new.job.webhook.clone()?)))
        .unzip();
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into job_webhooks (job_id, url)
        select job_id, url from unnest($1::uuid[], $2::text[]) as new (job_id, url)"#,
        &ids,
        &urls,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Enqueues the one message that tells of a batch's end, in the transaction that ends it, if its owner
/// wants it: what became of its jobs, not each of them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn enqueue_batch(conn: &mut PgConnection, id: BatchId) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into webhook_deliveries (delivery_id, tenant, url, event_type, payload, due_at)
        select 'msg_' || replace(batch_id::text, '-', '') || '_' || completions, tenant,
            template ->> 'webhook', 'batch.finished',
            json_build_object(
                'type', 'batch.finished',
                'timestamp', now(),
                'data', json_build_object(
                    'id', batch_id, 'source', source, 'labels', labels, 'cancelled',
                    cancelled_at is not null, 'failure', failure, 'listed', listed, 'skipped', skipped,
                    'refused', refused, 'counts', (
                        select coalesce(json_object_agg(state, jobs), '{}')
                        from (
                            select state, count(*) as jobs
                            from jobs
                            where jobs.batch_id = batches.batch_id
                            group by state
                        ) as counted
                    ),
                    'report', report, 'created_at', created_at, 'finished_at', finished_at
                )
            )::text,
            now()
        from batches
        where batch_id = $1 and template ->> 'webhook' is not null"#,
        id.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A delivery in the hands of whoever is to make it.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Which; also the message's id.
    pub delivery_id: String,
    /// Whose.
    pub tenant: String,
    /// Where to.
    pub url: String,
    /// The body.
    pub payload: String,
    /// The number of this attempt.
    pub attempt: i32,
    /// How many attempts of this round have failed.
    pub failures: i32,
    /// The database's time of this attempt.
    pub at: DateTime<Utc>,
}

/// Takes up to `limit` deliveries that are due. The tenants take turns, each with its oldest first, and those of
/// which some are under way already come later, until `share` of them are.
///
/// - `under_way`: tenants, and how many of theirs are.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take(
    conn: &mut PgConnection,
    limit: i64,
    share: i64,
    under_way: &HashMap<String, usize>,
) -> Result<Vec<Taken>, StoreError> {
    let (busy, counts): (Vec<String>, Vec<i64>) = under_way
        .iter()
        .map(|(tenant, count)| (tenant.clone(), i64::try_from(*count).unwrap_or(i64::MAX)))
        .unzip();
    let taken = sqlx::query_as!(
        Taken,
        r#"
        with recursive waiting as (
            -- Every tenant that has any, one look into the index for each.
            (select tenant from webhook_deliveries where state = 'pending' order by tenant limit 1)
            union all
            select (
                select tenant
                from webhook_deliveries
                where state = 'pending' and tenant > waiting.tenant
                order by tenant
                limit 1
            )
            from waiting
            where tenant is not null
        ), due as (
            select delivery_id, due_at, coalesce(under_way, 0) + place as place
            from waiting
            left join unnest($3::text[], $4::bigint[]) as busy (tenant, under_way) using (tenant)
            cross join lateral (
                select delivery_id, due_at, row_number() over (order by due_at) as place
                from webhook_deliveries
                where state = 'pending' and webhook_deliveries.tenant = waiting.tenant and due_at <= now()
                order by due_at
                limit greatest($2 - coalesce(under_way, 0), 0)
            ) as oldest
        ), free as (
            select delivery_id
            from webhook_deliveries
            where delivery_id = any (array (select delivery_id from due order by place, due_at limit $1))
                and state = 'pending' and due_at <= now()
            for update skip locked
        )
        update webhook_deliveries
        set due_at = now() + make_interval(secs => $5), attempts = attempts + 1
        where delivery_id = any (array (select delivery_id from free))
        returning delivery_id, tenant, url, payload, attempts as attempt, failures, now() as "at!""#,
        limit,
        share,
        &busy,
        &counts,
        TAKEN_SECS,
    );
    Ok(taken.fetch_all(conn).await?)
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The receiver's status, if it answered.
    pub status: Option<i32>,
    /// Why it does not count, if it does not.
    pub error: Option<String>,
    /// How long it took.
    pub duration: Duration,
    /// What follows.
    pub next: Next,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It was delivered.
    Done,
    /// Another attempt, after this time.
    Again(Duration),
    /// It is given up.
    GiveUp,
}

/// Writes the attempt into the log and says what follows. An attempt that was believed dead changes
/// nothing but the log.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record(
    conn: &mut PgConnection,
    taken: &Taken,
    tried: &Tried,
) -> Result<(), StoreError> {
    let state = match tried.next {
        Next::Done => "delivered",
        Next::Again(_) => "pending",
        Next::GiveUp => "failed",
    };
    let pause = match tried.next {
        Next::Again(pause) => Some(pause.as_secs_f64()),
        Next::Done | Next::GiveUp => None,
    };
    sqlx::query!(
        r#"
        with logged as (
            insert into webhook_attempts (delivery_id, attempt, started_at, duration_ms, status, error)
            select delivery_id, $2, $3, $4, $5, $6
            from webhook_deliveries
            where delivery_id = $1
            on conflict do nothing
        )
        update webhook_deliveries
        set state = $7,
            failures = failures + ($6::text is not null)::integer,
            due_at = now() + make_interval(secs => $8),
            ended_at = case when $7 <> 'pending' then now() end
        where delivery_id = $1 and attempts = $2 and state = 'pending'"#,
        taken.delivery_id,
        taken.attempt,
        taken.at,
        i32::try_from(tried.duration.as_millis()).unwrap_or(i32::MAX),
        tried.status,
        tried.error,
        state,
        pause,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A delivery, for the API.
#[derive(Debug, Clone)]
pub struct DeliveryRow {
    /// Which; also the message's id.
    pub delivery_id: String,
    /// The job it tells of.
    pub job_id: Option<Uuid>,
    /// Where to.
    pub url: String,
    /// What it tells.
    pub event_type: String,
    /// `pending`, `delivered` or `failed`.
    pub state: String,
    /// How many attempts were made.
    pub attempts: i32,
    /// When the next is due.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was enqueued.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
    /// The body.
    pub payload: String,
}

/// Which deliveries a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this one.
    pub delivery_id: Option<String>,
    /// Only this state.
    pub state: Option<String>,
    /// Only of this job.
    pub job_id: Option<Uuid>,
    /// Only those that come after this one.
    pub before: Option<String>,
}

/// A page of the tenant's deliveries: those of the newest jobs first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn page(
    conn: &mut PgConnection,
    tenant: &str,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let rows = sqlx::query_as!(
        DeliveryRow,
        r#"
        select delivery_id, job_id, url, event_type, state, attempts, due_at, created_at, ended_at,
            payload
        from webhook_deliveries
        where tenant = $1
            and ($2::text is null or delivery_id = $2)
            and ($3::text is null or state = $3)
            and ($4::uuid is null or job_id = $4)
            and ($5::text is null or delivery_id < $5)
        order by delivery_id desc
        limit $6"#,
        tenant,
        filter.delivery_id,
        filter.state,
        filter.job_id,
        filter.before,
        limit,
    );
    Ok(rows.fetch_all(conn).await?)
}

/// A line of the log.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i32,
    /// The receiver's status, if it answered.
    pub status: Option<i32>,
    /// Why it does not count, if it does not.
    pub error: Option<String>,
}

/// The log of a delivery, oldest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn attempts(
    conn: &mut PgConnection,
    delivery_id: &str,
) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = sqlx::query_as!(
        AttemptRow,
        r#"
        select attempt, started_at, duration_ms, status, error
        from webhook_attempts
        where delivery_id = $1
        order by attempt"#,
        delivery_id,
    );
    Ok(rows.fetch_all(conn).await?)
}

/// Sends a delivery again, from the beginning of the schedule. Returns whether there is one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn replay(
    conn: &mut PgConnection,
    tenant: &str,
    delivery_id: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        r#"
        update webhook_deliveries
        set state = 'pending', failures = 0, due_at = now(), ended_at = null
        where tenant = $1 and delivery_id = $2"#,
        tenant,
        delivery_id,
    );
    Ok(done.execute(conn).await?.rows_affected() > 0)
}

/// Forgets up to `limit` deliveries that ended longer than `age` ago. Returns how many.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forget(conn: &mut PgConnection, age: Duration, limit: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"
        delete from webhook_deliveries
        where delivery_id in (
            select delivery_id
            from webhook_deliveries
            where ended_at < now() - make_interval(secs => $1)
            limit $2
            for update skip locked
        )"#,
        age.as_secs_f64(),
        limit,
    );
    Ok(done.execute(conn).await?.rows_affected())
}
