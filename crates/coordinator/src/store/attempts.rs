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

/// The end of an attempt's story.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Of which job.
    pub job_id: JobId,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why, if it failed.
    pub error: Option<&'a JobError>,
    /// Held against the job, provided that the work on it had begun.
    pub blame: bool,
}

impl Ended<'_> {
    /// An end that is nobody's fault.
    #[must_use]
    pub const fn well(job_id: JobId, outcome: AttemptOutcome) -> Self {
        Self {
            job_id,
            outcome,
            error: None,
            blame: false,
        }
    }
}

/// Closes the stories of the attempts that are running, of those jobs that have one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end(conn: &mut PgConnection, ended: &[Ended<'_>]) -> Result<(), StoreError> {
    let ids: Vec<_> = ended.iter().map(|one| one.job_id.0).collect();
    let outcomes: Vec<_> = ended
        .iter()
        .map(|one| one.outcome.as_str().to_owned())
        .collect();
    let errors: Vec<_> = ended.iter().map(|one| one.error.map(to_json)).collect();
    let blames: Vec<_> = ended.iter().map(|one| one.blame).collect();
    sqlx::query!(
        r#"
        update attempts
        set outcome = ended.outcome, error = ended.error, ended_at = now(),
            blamed = ended.blame and exists (
                select 1
                from jobs
                where jobs.job_id = attempts.job_id and progress is not null
            )
        from unnest($1::uuid[], $2::text[], $3::jsonb[], $4::bool[])
            as ended (job_id, outcome, error, blame)
        where attempts.job_id = ended.job_id and attempts.outcome = 'running'"#,
        &ids,
        &outcomes,
        &errors as &[Option<serde_json::Value>],
        &blames,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Holds attempts no longer against their jobs: their workers were given up for dead and are alive. Those of
/// which a worker itself said that its device was lost stay as they are.
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
            and blamed and outcome = 'lost'"#,
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
