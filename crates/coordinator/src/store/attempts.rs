//! The `attempts` table: every attempt's story.

use sqlx::PgConnection;
use upres_common::job::state::LeaseToken;
use upres_common::job::{JobError, JobId};
use upres_common::lease::LeaseRef;

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

/// An attempt that was just claimed.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Of which job.
    pub job_id: JobId,
    /// Its number.
    pub attempt: i32,
    /// Its lease.
    pub token: LeaseToken,
    /// Who has it.
    pub worker_id: String,
}

/// Opens the stories of attempts.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn begin(conn: &mut PgConnection, begun: &[Begun]) -> Result<(), StoreError> {
    let ids: Vec<_> = begun.iter().map(|one| one.job_id.0).collect();
    let attempts: Vec<_> = begun.iter().map(|one| one.attempt).collect();
    let tokens: Vec<_> = begun.iter().map(|one| one.token.0).collect();
    let workers: Vec<_> = begun.iter().map(|one| one.worker_id.clone()).collect();
    sqlx::query!(
        r#"
        insert into attempts (job_id, attempt, lease_token, worker_id, outcome)
        select job_id, attempt, lease_token, worker_id, 'running'
        from unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[])
            as begun (job_id, attempt, lease_token, worker_id)"#,
        &ids,
        &attempts,
        &tokens,
        &workers,
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

/// Holds attempts no longer against their jobs: their workers were given up for dead and are alive.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn acquit(conn: &mut PgConnection, leases: &[LeaseRef]) -> Result<(), StoreError> {
    let ids: Vec<_> = leases.iter().map(|lease| lease.job_id.0).collect();
    let tokens: Vec<_> = leases.iter().map(|lease| lease.token.0).collect();
    sqlx::query!(
        r#"
        update attempts
        set blamed = false
        from unnest($1::uuid[], $2::bigint[]) as alive (job_id, lease_token)
        where attempts.job_id = alive.job_id and attempts.lease_token = alive.lease_token
            and blamed"#,
        &ids,
        &tokens,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Attempts of a job that ended with the death of their worker or device.
#[derive(Debug, Clone, Copy)]
pub struct Deaths {
    /// Those held against it.
    pub blamed: i64,
    /// All of them.
    pub all: i64,
}

/// Counts the deaths since the job was last forgiven.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn deaths(conn: &mut PgConnection, id: JobId) -> Result<Deaths, StoreError> {
    let deaths = sqlx::query_as!(
        Deaths,
        r#"
        select count(*) filter (where blamed) as "blamed!",
            count(*) filter (where blamed or outcome = 'lost') as "all!"
        from attempts
        join jobs using (job_id)
        where job_id = $1 and attempts.attempt > forgiven_attempt"#,
        id.0,
    );
    Ok(deaths.fetch_one(conn).await?)
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
