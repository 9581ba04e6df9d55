//! The `attempts` table: every attempt's story.

use sqlx::PgConnection;
use upres_common::job::state::LeaseToken;
use upres_common::job::{JobError, JobId};

use super::{StoreError, to_json};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Its result was published.
    Succeeded,
    /// It reported an error.
    Failed,
    /// Its lease lapsed.
    Lost,
    /// The worker returned the job unfinished.
    HandedBack,
    /// The job was cancelled meanwhile.
    Cancelled,
}

impl AttemptOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::HandedBack => "handed_back",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Opens the story of the attempt that was just claimed.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn begin(
    conn: &mut PgConnection,
    id: JobId,
    attempt: i32,
    token: LeaseToken,
    worker_id: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into attempts (job_id, attempt, lease_token, worker_id, outcome)
        values ($1, $2, $3, $4, 'running')"#,
        id.0,
        attempt,
        token.0,
        worker_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Closes the story of the attempt that is running, if one is. With `blame` it is held against the
/// job, provided that the work on it had begun.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end(
    conn: &mut PgConnection,
    id: JobId,
    outcome: AttemptOutcome,
    error: Option<&JobError>,
    blame: bool,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update attempts
        set outcome = $2, error = $3, ended_at = now(),
            blamed = $4 and exists (
                select 1 from jobs where jobs.job_id = $1 and progress is not null
            )
        where job_id = $1 and outcome = 'running'"#,
        id.0,
        outcome.as_str(),
        error.map(to_json),
        blame,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Holds an attempt no longer against its job: its worker was given up for dead and is alive.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn acquit(
    conn: &mut PgConnection,
    id: JobId,
    token: LeaseToken,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update attempts set blamed = false where job_id = $1 and lease_token = $2 and blamed",
        id.0,
        token.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many workers or devices died on the job since it was last forgiven.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn deaths(conn: &mut PgConnection, id: JobId) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from attempts
        join jobs using (job_id)
        where job_id = $1 and blamed and attempts.attempt > forgiven_attempt"#,
        id.0,
    );
    Ok(count.fetch_one(conn).await?)
}

/// Whether the attempt of this lease is the one whose result was published.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn has_succeeded(
    conn: &mut PgConnection,
    id: JobId,
    token: LeaseToken,
) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from attempts where job_id = $1 and lease_token = $2 and outcome = 'succeeded'
        ) as "found!""#,
        id.0,
        token.0,
    );
    Ok(found.fetch_one(conn).await?)
}
