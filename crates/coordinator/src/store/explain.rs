//! Why a job is not running: everything that may stand in its way, in one look.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::JobId;

use super::StoreError;

/// Of the jobs before it in its line so many are counted.
pub const COUNTED_AHEAD: i64 = 10_000;

/// What stands in a waiting job's way.
#[derive(Debug, Clone)]
pub struct Wait {
    /// Its line.
    pub class: String,
    /// Not to be started before.
    pub due_at: DateTime<Utc>,
    /// That is still to come.
    pub due: bool,
    /// A wake-up is on the broker.
    pub released: bool,
    /// Its header was read.
    pub priced: bool,
    /// Attempts that were begun.
    pub attempt: i32,
    /// Its batch is paused.
    pub paused: bool,
    /// Its batch is being cancelled.
    pub cancelled: bool,
    /// Its batch is atomic, and not read to its end.
    pub listing: bool,
    /// Jobs before it in its line, up to [`COUNTED_AHEAD`], and their tile-steps.
    pub ahead: i64,
    /// Their tile-steps.
    pub ahead_cost: i64,
    /// Wake-ups of its class that were sent and not answered.
    pub released_jobs: i64,
}

/// What stands in the way of a job that waits; `None` when it does not wait.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn wait(conn: &mut PgConnection, id: JobId) -> Result<Option<Wait>, StoreError> {
    let wait = sqlx::query_as!(
        Wait,
        r#"
        select own.class, own.due_at, own.due_at <= now() as "due!",
            own.sent_at is not null as "released!", own.priced, jobs.attempt,
            coalesce(batches.paused, false) as "paused!",
            batches.cancelled_at is not null as "cancelled!",
            coalesce(atomic and expanded_at is null, false) as "listing!",
            ahead.jobs as "ahead!", ahead.cost as "ahead_cost!",
            (
                select count(*)
                from outbox
                where class = own.class and sent_at is not null
            ) as "released_jobs!"
        from outbox as own
        join jobs using (job_id)
        left join batches on batches.batch_id = own.batch_id
        cross join lateral (
            select count(*) as jobs, coalesce(sum(cost), 0)::bigint as cost
            from (
                select cost
                from outbox
                where class = own.class and tenant = own.tenant and batch_id = own.batch_id
                    and sent_at is null and priced
                    and (-priority, place, outbox_id) < (-own.priority, own.place, own.outbox_id)
                limit $2
            ) as before
        ) as ahead
        where own.job_id = $1"#,
        id.0,
        COUNTED_AHEAD,
    );
    Ok(wait.fetch_optional(conn).await?)
}
