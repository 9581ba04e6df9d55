//! Leases, which live in the `jobs` table: claiming, and finding those that lapsed.

use std::collections::HashMap;

use sqlx::PgConnection;
use upres_common::job::state::LeaseToken;
use upres_common::job::{IfExists, JobEvent, JobId, JobState};
use upres_common::lease::Lease;
use uuid::Uuid;

use super::{StoreError, from_json, jobs};

/// Gives each job to the worker that asks for it, when it is queued and due. What is missing from the
/// answer is not, whatever the reason: its wake-up was stale.
///
/// # Errors
/// [`StoreError`]; nothing is given then.
pub async fn claim(
    conn: &mut PgConnection,
    asked: &HashMap<JobId, String>,
    ttl_secs: u32,
) -> Result<Vec<Lease>, StoreError> {
    let Claimable { released, claimed } = claimable(conn, asked.keys(), ttl_secs).await?;
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    if !released.is_empty() {
        jobs::save(conn, &released).await?;
    }
    jobs::save(conn, &claimed).await?;
    let tokens: HashMap<Uuid, LeaseToken> = claimed
        .iter()
        .filter_map(|(id, state)| Some((id.0, state.token()?)))
        .collect();
    let ids: Vec<Uuid> = tokens.keys().copied().collect();
    let workers: Vec<String> = ids.iter().map(|id| asked[&JobId(*id)].clone()).collect();
    let rows = sqlx::query!(
        r#"
        with claimed as (
            update jobs
            set attempt = attempt + 1, started_at = coalesce(started_at, now()), progress = null
            where job_id = any($1)
            returning job_id, attempt, lease_token, input, output, if_exists, upscale, cost, tile_batch,
                resume, traceparent
        ), begun as (
            insert into attempts (job_id, attempt, lease_token, worker_id, outcome)
            select job_id, attempt, lease_token, worker_id, 'running'
            from claimed
            join unnest($1::uuid[], $2::text[]) as asked (job_id, worker_id) using (job_id)
        ), answered as (
            delete from outbox where job_id = any($1)
        )
        select job_id, attempt, input, output, if_exists, upscale, cost, tile_batch, resume, traceparent
        from claimed"#,
        &ids,
        &workers,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut granted = Vec::with_capacity(rows.len());
    for row in rows {
        granted.push(Lease {
            job_id: JobId(row.job_id),
            attempt: row.attempt,
            token: tokens[&row.job_id],
            ttl_secs,
            input: row.input,
            output: row.output,
            if_exists: if row.if_exists == "fail" {
                IfExists::Fail
            } else {
                IfExists::Overwrite
            },
            upscale: from_json(row.job_id, "upscale", row.upscale)?,
            tile_steps: row.cost.and_then(|cost| u64::try_from(cost).ok()),
            tile_batch: row.tile_batch.and_then(|tiles| u32::try_from(tiles).ok()),
            resume: row
                .resume
                .map(|resume| from_json(row.job_id, "resume", resume))
                .transpose()?,
            hand_over_to: None,
            traceparent: row.traceparent,
        });
    }
    Ok(granted)
}

/// What jobs become that are claimed.
struct Claimable {
    /// Those whose time came a moment ago, on their way: a wake-up may be sent and answered before anybody has
    /// noted that they wait no more.
    released: Vec<(JobId, JobState)>,
    claimed: Vec<(JobId, JobState)>,
}

/// Locks those of `ids` that can be claimed, and returns what each becomes.
async fn claimable(
    conn: &mut PgConnection,
    ids: impl Iterator<Item = &JobId>,
    ttl_secs: u32,
) -> Result<Claimable, StoreError> {
    let ids: Vec<Uuid> = ids.map(|id| id.0).collect();
    // Both tables are asked by their index, however many jobs wait and whatever the planner knows.
    // A row that is locked is being claimed, cancelled or reaped by somebody else right now.
    let rows = sqlx::query!(
        r#"
        select jobs.job_id, nextval('lease_tokens') as "token!",
            now() + make_interval(secs => $2) as "lease_until!", state = 'scheduled' as "is_scheduled!"
        from jobs
        join outbox using (job_id)
        where job_id = any($1) and outbox.job_id = any($1)
            and state in ('queued', 'scheduled') and due_at <= now()
            and (finish_by is null or finish_by > now())
            and not exists (
                select 1
                from batches
                where batches.batch_id = jobs.batch_id and (paused or cancelled_at is not null)
            )
        for update of jobs skip locked"#,
        &ids,
        f64::from(ttl_secs),
    )
    .fetch_all(conn)
    .await?;
    let mut released = Vec::new();
    let mut claimed = Vec::new();
    for row in rows {
        let id = JobId(row.job_id);
        let queued = match row.is_scheduled {
            true => JobState::Scheduled.apply(&JobEvent::Released),
            false => Ok(JobState::Queued),
        };
        let (token, lease_until) = (LeaseToken(row.token), row.lease_until);
        let event = JobEvent::Claimed { token, lease_until };
        let Ok((queued, running)) = queued.and_then(|queued| {
            let running = queued.apply(&event)?;
            Ok((queued, running))
        }) else {
            continue;
        };
        if row.is_scheduled {
            released.push((id, queued));
        }
        claimed.push((id, running));
    }
    Ok(Claimable { released, claimed })
}

/// A running job whose lease has lapsed.
#[derive(Debug, Clone)]
pub struct Lapsed {
    /// The job.
    pub job_id: JobId,
    /// The lease that lapsed.
    pub token: LeaseToken,
    /// Where its result would have gone.
    pub output: String,
    /// The upload that is left over.
    pub upload_id: Option<String>,
}

/// Up to `limit` running jobs whose lease has lapsed, oldest first, of those that are being published or
/// of the others. Not locked: whoever acts on one
/// presents its token, and a second one is refused.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lapsed(
    conn: &mut PgConnection,
    publishing: bool,
    limit: i64,
) -> Result<Vec<Lapsed>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select job_id, lease_token as "lease_token!", output, upload_id
        from jobs
        where state = 'running' and lease_until < now() and publishing = $1
        order by lease_until
        limit $2"#,
        publishing,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let lapsed = rows.into_iter().map(|row| Lapsed {
        job_id: JobId(row.job_id),
        token: LeaseToken(row.lease_token),
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

/// The uploads of the attempts that hold these jobs' leases, or that are kept for the next, and where they
/// were to go.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn uploads(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select output, upload_id as "upload_id!"
        from jobs
        where job_id = any($1) and upload_id is not null"#,
        ids,
    );
    let rows = rows.fetch_all(conn).await?.into_iter();
    Ok(rows.map(|row| (row.output, row.upload_id)).collect())
}

/// Whether the job's attempt writes to this upload, or the next one will.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn names_upload(
    conn: &mut PgConnection,
    id: JobId,
    upload_id: &str,
) -> Result<bool, StoreError> {
    let named = sqlx::query_scalar!(
        r#"
        select coalesce(upload_id = $2, false) or coalesce(resume ->> 'upload_id' = $2, false)
            as "named!"
        from jobs
        where job_id = $1"#,
        id.0,
        upload_id,
    );
    Ok(named.fetch_optional(conn).await?.unwrap_or(false))
}
