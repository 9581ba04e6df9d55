//! Why a job is not running: everything that may stand in its way, in one look.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::JobId;

use super::StoreError;

/// Of the jobs that go before it so many are counted.
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
    /// Its tile-steps.
    pub cost: i64,
    /// Jobs of its tenant and class that go before it, up to [`COUNTED_AHEAD`].
    pub ahead: i64,
    /// Their tile-steps.
    pub ahead_cost: i64,
    /// Those among them that do not belong to its batch.
    pub ahead_of_others: i64,
    /// Wake-ups of its class that were sent and not answered.
    pub released_jobs: i64,
    /// Tile-steps of its tenant that are released or running; zero where it was not asked for.
    pub out_of_tenant: i64,
}

/// What stands in the way of a job that waits; `None` when it does not wait. `of_a_tenant` is the most
/// tile-steps that one tenant may have out.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn wait(
    conn: &mut PgConnection,
    id: JobId,
    of_a_tenant: Option<i64>,
) -> Result<Option<Wait>, StoreError> {
    let wait = sqlx::query_file_as!(
        Wait,
        "src/store/sql/wait.sql",
        id.0,
        COUNTED_AHEAD,
        of_a_tenant.is_some(),
    );
    Ok(wait.fetch_optional(conn).await?)
}
