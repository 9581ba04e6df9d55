//! What was promised of a batch in one word and is carried out on its jobs in pieces.

use sqlx::{Connection as _, PgConnection};
use upres_common::batch::BatchId;
use upres_common::job::JobId;
use uuid::Uuid;

use super::super::StoreError;

/// Open jobs of batches that were cancelled, or whose expansion failed although they are atomic, at most
/// `limit`. Those whose result is being made visible end by themselves.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn to_cancel(conn: &mut PgConnection, limit: i64) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"
        select job_id
        from batches
        cross join lateral (
            select job_id
            from jobs
            where jobs.batch_id = batches.batch_id and jobs.finished_at is null and not publishing
            limit $1
        ) as open
        where batches.finished_at is null
            and (cancelled_at is not null or (atomic and failure is not null))
        limit $1"#,
        limit,
    );
    Ok(ids.fetch_all(conn).await?.into_iter().map(JobId).collect())
}

/// A batch whose failed jobs are to be tried anew.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Which.
    pub id: BatchId,
    /// As it was asked for.
    pub asked: serde_json::Value,
}

/// The batches whose failed jobs are to be tried anew.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn retries(conn: &mut PgConnection) -> Result<Vec<Retry>, StoreError> {
    let rows = sqlx::query!(
        r#"select batch_id, retry as "retry!" from batches where retry is not null limit 100"#
    );
    let retries = rows.fetch_all(conn).await?.into_iter().map(|row| Retry {
        id: BatchId(row.batch_id),
        asked: row.retry,
    });
    Ok(retries.collect())
}

/// What jobs of a batch failed of.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The error's type.
    pub error_type: String,
    /// How many.
    pub jobs: i64,
    /// A retry would be about them.
    pub is_meant: bool,
}

/// What jobs of the batch failed of, most of them first, and which of that a retry for `error_type` is about.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn failures(
    conn: &mut PgConnection,
    id: BatchId,
    error_type: Option<&str>,
) -> Result<Vec<Failure>, StoreError> {
    let failures = sqlx::query_as!(
        Failure,
        r#"
        select error ->> 'type' as "error_type!", count(*) as "jobs!",
            helped_by_retry(error ->> 'type', $2) as "is_meant!"
        from jobs
        where batch_id = $1 and state = 'failed'
        group by 1, 3
        order by 2 desc, 1"#,
        id.0,
        error_type,
    );
    Ok(failures.fetch_all(conn).await?)
}

/// Failed jobs of the batch that the retry is about, at most `limit`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn to_retry(
    conn: &mut PgConnection,
    retry: &Retry,
    limit: i64,
) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"
        select job_id
        from jobs
        where batch_id = $1 and state = 'failed'
            and finished_at <= ($2::jsonb ->> 'until')::timestamptz
            and helped_by_retry(error ->> 'type', $2 ->> 'error_type')
        limit $3"#,
        retry.id.0,
        retry.asked,
        limit,
    );
    Ok(ids.fetch_all(conn).await?.into_iter().map(JobId).collect())
}

/// The retry was carried out, unless another was asked for meanwhile.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn retried(conn: &mut PgConnection, retry: &Retry) -> Result<(), StoreError> {
    sqlx::query!(
        "update batches set retry = null where batch_id = $1 and retry = $2",
        retry.id.0,
        retry.asked,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The batches of these jobs go on, if they had ended. Whoever writes a report of one has it no more, and the
/// next comes only when he noticed, or when his time is over. Said before anything is done to the jobs: until the
/// transaction ends, [`finish`](super::ending::finish) waits, and then sees what became of them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn reopen(conn: &mut PgConnection, jobs: &[JobId]) -> Result<(), StoreError> {
    let ids: Vec<_> = jobs.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"
        update batches
        set finished_at = null, ending_by = null,
            ending_until = case when ending_by is null then null else ending_until end,
            ending_tries = 0, report_failure = null, version = version + 1
        where batch_id in (
            select batch_id from jobs where job_id = any($1) and batch_id is not null
        )"#,
        &ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Why a job that failed can only end again if it is tried anew: its batch was cancelled, or its time is over.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn closed(
    conn: &mut PgConnection,
    id: JobId,
) -> Result<Option<&'static str>, StoreError> {
    let job = sqlx::query!(
        r#"
        select cancelled_at is not null or coalesce(atomic and failure is not null, false) as "cancelled!",
            coalesce(finish_by <= now(), false) as "late!"
        from jobs
        left join batches using (batch_id)
        where job_id = $1 and jobs.state = 'failed'"#,
        id.0,
    );
    let job = job.fetch_optional(conn).await?;
    Ok(job.and_then(|job| {
        if job.cancelled {
            return Some("its batch was cancelled, or was to be all or nothing: submit it again");
        }
        job.late.then_some(super::TOO_LATE)
    }))
}

/// Moves up to `limit` waiting jobs of batches that changed their class, first those that go first: however
/// many there are, the next to be worked on are where they belong at once. Returns how many were moved; none,
/// and the batches have arrived.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn reclass(conn: &mut PgConnection, limit: i64) -> Result<u64, StoreError> {
    let mut tx = conn.begin().await?;
    let moving = next_of_the_wrong_class(&mut tx, limit).await?;
    if moving.is_empty() {
        let arrived = sqlx::query!(
            r#"
            update batches
            set reclass = false
            where reclass and expanded_at is not null and not exists (
                select 1
                from outbox
                where outbox.batch_id = batches.batch_id and outbox.class <> batches.class
            )"#
        );
        arrived.execute(&mut *tx).await?;
        tx.commit().await?;
        return Ok(0);
    }
    let (ids, classes): (Vec<_>, Vec<_>) = moving.into_iter().unzip();
    let moved = sqlx::query!(
        r#"
        with moving as (
            select * from unnest($1::uuid[], $2::text[]) as moving (job_id, class)
        ), moved as (
            update outbox
            set class = moving.class, sent_at = null
            from moving
            where outbox.job_id = moving.job_id
        )
        update jobs
        set class = moving.class
        from moving
        where jobs.job_id = moving.job_id"#,
        &ids,
        &classes,
    );
    let moved = moved.execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(moved)
}

/// Nearly always none: the rest, which reads the jobs, is then not asked. Jobs are locked before the outbox, as
/// claims do.
async fn next_of_the_wrong_class(
    tx: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(Uuid, String)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select job_id as "job_id!", batches.class
        from batches
        cross join lateral (
            select job_id
            from (
                select job_id
                from outbox
                join jobs using (job_id)
                where outbox.class = case batches.class when 'bulk' then 'interactive' else 'bulk' end
                    and outbox.tenant = batches.tenant and outbox.batch_id = batches.batch_id
                    and sent_at is null and priced
                order by outbox.priority desc, place, outbox_id
                limit $1
                for update of jobs skip locked
            ) as next
            union all
            select job_id
            from (
                select job_id
                from outbox
                join jobs using (job_id)
                where outbox.batch_id = batches.batch_id and outbox.class <> batches.class
                    and not (sent_at is null and priced)
                limit $1
                for update of jobs skip locked
            ) as other
        ) as waiting
        where reclass
        limit $1"#,
        limit,
    );
    let rows = rows.fetch_all(tx).await?.into_iter();
    Ok(rows.map(|row| (row.job_id, row.class)).collect())
}
