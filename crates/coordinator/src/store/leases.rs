//! Leases, which live in the `jobs` table: claiming, and finding those that lapsed.

use sqlx::PgConnection;
use upres_common::job::state::LeaseToken;
use upres_common::job::{IfExists, JobEvent, JobId};
use upres_common::lease::Lease;

use super::jobs::{TransitionError, transition};
use super::{StoreError, attempts, from_json, in_seconds, outbox};

/// Gives the job to `worker_id` when it is queued and due; `None` when it is not, whatever the
/// reason: the wake-up was stale.
///
/// # Errors
/// [`StoreError`].
pub async fn claim(
    conn: &mut PgConnection,
    id: JobId,
    worker_id: &str,
    ttl_secs: u32,
) -> Result<Option<Lease>, StoreError> {
    // A row that is locked is being claimed, cancelled or reaped by somebody else right now.
    let claimable = sqlx::query_scalar!(
        r#"
        select nextval('lease_tokens') as "token!"
        from jobs
        join outbox using (job_id)
        where job_id = $1 and state = 'queued' and due_at <= now()
            and (finish_by is null or finish_by > now())
        for update of jobs skip locked"#,
        id.0
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(token) = claimable.map(LeaseToken) else {
        return Ok(None);
    };
    let lease_until = in_seconds(conn, f64::from(ttl_secs)).await?;
    match transition(conn, id, &JobEvent::Claimed { token, lease_until }).await {
        Ok(_) => {}
        Err(TransitionError::Store(error)) => return Err(error),
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => return Ok(None),
    }
    let row = sqlx::query!(
        r#"
        update jobs
        set attempt = attempt + 1, started_at = coalesce(started_at, now()), progress = null
        where job_id = $1
        returning attempt, input, output, if_exists, upscale, tile_batch, traceparent"#,
        id.0
    )
    .fetch_one(&mut *conn)
    .await?;
    outbox::delete(conn, id).await?;
    attempts::begin(conn, id, row.attempt, token, worker_id).await?;
    Ok(Some(Lease {
        job_id: id,
        attempt: row.attempt,
        token,
        ttl_secs,
        input: row.input,
        output: row.output,
        if_exists: if row.if_exists == "fail" {
            IfExists::Fail
        } else {
            IfExists::Overwrite
        },
        upscale: from_json(id.0, "upscale", row.upscale)?,
        tile_batch: row.tile_batch.and_then(|tiles| u32::try_from(tiles).ok()),
        traceparent: row.traceparent,
    }))
}

/// A running job whose lease has lapsed.
#[derive(Debug, Clone)]
pub struct Lapsed {
    /// The job.
    pub job_id: JobId,
    /// The lease that lapsed.
    pub token: LeaseToken,
    /// Whether its result was being made visible.
    pub publishing: bool,
    /// Where its result would have gone.
    pub output: String,
    /// The upload that is left over.
    pub upload_id: Option<String>,
}

/// Up to `limit` running jobs whose lease has lapsed, oldest first. Not locked: whoever acts on one
/// presents its token, and a second one is refused.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lapsed(conn: &mut PgConnection, limit: i64) -> Result<Vec<Lapsed>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select job_id, lease_token as "lease_token!", publishing, output, upload_id
        from jobs
        where state = 'running' and lease_until < now()
        order by lease_until
        limit $1"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let lapsed = rows.into_iter().map(|row| Lapsed {
        job_id: JobId(row.job_id),
        token: LeaseToken(row.lease_token),
        publishing: row.publishing,
        output: row.output,
        upload_id: row.upload_id,
    });
    Ok(lapsed.collect())
}

/// Up to `limit` jobs that were not started before their deadline.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn overdue(conn: &mut PgConnection, limit: i64) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"
        select job_id
        from jobs
        where finish_by < now() and state in ('scheduled', 'queued')
        limit $1"#,
        limit,
    );
    Ok(ids.fetch_all(conn).await?.into_iter().map(JobId).collect())
}

/// The upload of the attempt that holds the job's lease, and where it was to go.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn upload(
    conn: &mut PgConnection,
    id: JobId,
) -> Result<Option<(String, String)>, StoreError> {
    let row = sqlx::query!("select output, upload_id from jobs where job_id = $1", id.0)
        .fetch_optional(conn)
        .await?;
    Ok(row.and_then(|row| Some((row.output, row.upload_id?))))
}
