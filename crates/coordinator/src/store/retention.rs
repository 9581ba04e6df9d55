//! What may go: uploads nobody will complete, jobs that ended long ago.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::JobId;
use upres_common::objects::ObjectUri;

use super::StoreError;

/// Buckets that jobs and reports of the last `age` were written to or will be.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn buckets(conn: &mut PgConnection, age: Duration) -> Result<Vec<String>, StoreError> {
    let buckets = sqlx::query_scalar!(
        r#"
        select distinct split_part(output, '/', 3) as "bucket!"
        from jobs
        where finished_at is null or finished_at > now() - make_interval(secs => $1)
        union
        select split_part(report, '/', 3)
        from batches
        where report is not null
            and (finished_at is null or finished_at > now() - make_interval(secs => $1))"#,
        age.as_secs_f64(),
    );
    Ok(buckets.fetch_all(conn).await?)
}

/// The moment `age` ago, by the database's clock.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn moment_ago(
    conn: &mut PgConnection,
    age: Duration,
) -> Result<DateTime<Utc>, StoreError> {
    let moment = sqlx::query_scalar!(
        r#"select now() - make_interval(secs => $1) as "moment!""#,
        age.as_secs_f64(),
    );
    Ok(moment.fetch_one(conn).await?)
}

/// Whether an upload was begun for one of our outputs and can no longer be completed: no job that
/// runs has it, or may be about to say that it has, and none goes on with it or falls back on it. Or for a report
/// that nobody writes.
///
/// - `folder`: of the report, if `output` is a file of one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn is_orphan(
    conn: &mut PgConnection,
    output: &ObjectUri,
    upload_id: &str,
    folder: Option<&str>,
) -> Result<bool, StoreError> {
    let orphan = sqlx::query_scalar!(
        r#"
        select coalesce((
            select count(*) > 0 and not coalesce(bool_or(
                upload_id = $2 or resume ->> 'upload_id' = $2 or (state = 'running' and upload_id is null)
            ), false)
            from jobs
            where output = $1
        ) or (
            select not bool_or(ending_by is not null and ending_until > now())
            from batches
            where rtrim(report, '/') = $3 and not exists (select from jobs where output = $1)
        ), false) as "orphan!""#,
        output.to_string(),
        upload_id,
        folder,
    );
    Ok(orphan.fetch_one(conn).await?)
}

/// Those of `jobs` that there are, and whether they wait for a worker to go on with what a drained one left, or are
/// about to say that they have left something.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn going_on(
    conn: &mut PgConnection,
    jobs: &[JobId],
) -> Result<HashMap<JobId, bool>, StoreError> {
    let ids: Vec<_> = jobs.iter().map(|job| job.0).collect();
    let going_on = sqlx::query!(
        r#"
        select job_id,
            state = 'running' or (state in ('queued', 'scheduled') and resume -> 'hand_over' is not null) as "going_on!"
        from jobs
        where job_id = any($1)"#,
        &ids,
    );
    let found = going_on.fetch_all(conn).await?.into_iter();
    Ok(found.map(|job| (JobId(job.job_id), job.going_on)).collect())
}

/// Removes up to `limit` batches that ended longer than `age` ago, once their jobs are gone, with what they
/// refused or left unchanged. Returns how many.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remove_batches(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"
        delete from batches
        where batch_id in (
            select batch_id
            from batches
            where finished_at < now() - make_interval(secs => $1)
                and not exists (select 1 from jobs where jobs.batch_id = batches.batch_id)
            limit $2
            for update skip locked
        )"#,
        age.as_secs_f64(),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// How many jobs ended longer than `age` ago.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_ended(conn: &mut PgConnection, age: Duration) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from jobs
        where finished_at < now() - make_interval(secs => $1)"#,
        age.as_secs_f64(),
    );
    Ok(u64::try_from(count.fetch_one(conn).await?).unwrap_or_default())
}

/// Removes up to `limit` jobs that ended longer than `age` ago, the oldest first, with all that
/// belongs to them. Returns how many.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remove_ended(
    conn: &mut PgConnection,
    age: Duration,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"
        delete from jobs
        where job_id in (
            select job_id
            from jobs
            where finished_at < now() - make_interval(secs => $1)
                -- a batch that goes on needs them for its report
                and not exists (
                    select 1
                    from batches
                    where batches.batch_id = jobs.batch_id and batches.finished_at is null
                )
            order by finished_at
            limit $2
            for update skip locked
        )"#,
        age.as_secs_f64(),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
