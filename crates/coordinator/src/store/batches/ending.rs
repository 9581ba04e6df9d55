//! The end of a batch: in the hands of one coordinator at a time, so that its report is written once.

use sqlx::PgConnection;
use upres_common::batch::BatchId;
use uuid::Uuid;

use super::super::StoreError;

/// A batch of which every job has ended, in the hands of one coordinator.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Which.
    pub id: BatchId,
    /// Whose hands.
    pub by: Uuid,
    /// Where its report goes.
    pub report: Option<String>,
    /// Whether it is to be a bag.
    pub bagit: bool,
    /// Its owner wants it no more.
    pub cancelled: bool,
}

/// Takes up to `limit` batches of which every job has ended and that are not over yet, for `secs` seconds:
/// those with a report, or those without.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take_ended(
    conn: &mut PgConnection,
    secs: f64,
    with_report: bool,
    limit: i64,
) -> Result<Vec<Ended>, StoreError> {
    let rows = sqlx::query!(
        r#"
        update batches
        set ending_by = gen_random_uuid(), ending_until = now() + make_interval(secs => $1)
        where batch_id in (
            select batch_id
            from batches
            where finished_at is null and expanded_at is not null and retry is null
                and (report is not null) = $3
                and (ending_until is null or ending_until < now())
                and not exists (
                    select 1 from jobs where jobs.batch_id = batches.batch_id and jobs.finished_at is null
                )
            order by ending_until nulls first, batch_id
            limit $2
            for no key update skip locked
        )
        returning batch_id, ending_by as "by!", report,
            coalesce((template ->> 'bagit')::boolean, false) as "bagit!",
            cancelled_at is not null as "cancelled!""#,
        secs,
        limit,
        with_report,
    );
    let ended = rows.fetch_all(conn).await?.into_iter().map(|row| Ended {
        id: BatchId(row.batch_id),
        by: row.by,
        report: row.report,
        bagit: row.bagit,
        cancelled: row.cancelled,
    });
    Ok(ended.collect())
}

/// Keeps it for `secs` seconds from now. `false` when it goes on, or is in other hands.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn keep(conn: &mut PgConnection, batch: &Ended, secs: f64) -> Result<bool, StoreError> {
    let kept = sqlx::query!(
        r#"
        update batches
        set ending_until = now() + make_interval(secs => $3)
        where batch_id = $1 and ending_by = $2"#,
        batch.id.0,
        batch.by,
        secs,
    );
    Ok(kept.execute(conn).await?.rows_affected() > 0)
}

/// Its report could not be written, and why: the next try is after twice the time, five minutes at most.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn not_written(
    conn: &mut PgConnection,
    batch: &Ended,
    why: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update batches
        set ending_by = null,
            ending_until = now() + least(2 ^ least(ending_tries, 10), 300) * interval '1 second',
            ending_tries = ending_tries + 1, report_failure = $3, version = version + 1
        where batch_id = $1 and ending_by = $2"#,
        batch.id.0,
        batch.by,
        why,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a batch, if every job has still ended and it is in the same hands; with why there is no report. Of
/// any number that try, one does: `true`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn finish(
    conn: &mut PgConnection,
    batch: &Ended,
    report_failure: Option<&str>,
) -> Result<bool, StoreError> {
    // Two statements: the second sees what was committed before the lock was had, such as a retry.
    sqlx::query!(
        "select from batches where batch_id = $1 for no key update",
        batch.id.0
    )
    .execute(&mut *conn)
    .await?;
    let done = sqlx::query!(
        r#"
        update batches
        set finished_at = now(), completions = completions + 1, version = version + 1,
            ending_by = null, ending_until = null, ending_tries = 0, report_failure = $3
        where batch_id = $1 and ending_by = $2 and finished_at is null and retry is null and not exists (
            select 1 from jobs where jobs.batch_id = batches.batch_id and jobs.finished_at is null
        )"#,
        batch.id.0,
        batch.by,
        report_failure,
    );
    if done.execute(&mut *conn).await?.rows_affected() > 0 {
        return Ok(true);
    }
    leave(conn, batch).await?;
    Ok(false)
}

/// Leaves a batch that goes on to whoever sees it ended again.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn leave(conn: &mut PgConnection, batch: &Ended) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update batches
        set ending_until = null
        where batch_id = $1 and (ending_by = $2 or ending_by is null)"#,
        batch.id.0,
        batch.by,
    )
    .execute(conn)
    .await?;
    Ok(())
}
