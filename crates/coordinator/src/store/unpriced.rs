//! Rows of the outbox whose price nobody knows yet: items of batches, which were not looked at one by one
//! when they were accepted.

use sqlx::PgConnection;
use upres_common::job::{JobId, UpscaleSpec};
use uuid::Uuid;

use super::{StoreError, from_json};

/// How long a coordinator may take to look at what it took, before another may try.
const TAKEN_SECS: f64 = 60.0;
/// So many priced jobs of a line wait for their turn before others of it are looked at: enough for seconds
/// of the fastest work, and few enough that what is looked at is not forgotten again.
const AHEAD: i64 = 2000;

/// A job to be looked at.
#[derive(Debug, Clone)]
pub struct Unpriced {
    /// The job.
    pub job_id: JobId,
    /// Its image.
    pub input: String,
    /// Where its result goes.
    pub output: String,
    /// Whether an object that is there already may be replaced.
    pub overwrite: bool,
    /// The job whose result may be replaced.
    pub replaces: Option<JobId>,
    /// What is to be done.
    pub upscale: UpscaleSpec,
}

/// Takes up to `limit` unpriced rows that are due, in turn from every line that has few priced ones left
/// and is not held back.
///
/// # Errors
/// [`StoreError`].
pub async fn take(conn: &mut PgConnection, limit: i64) -> Result<Vec<Unpriced>, StoreError> {
    let rows = sqlx::query_file!("src/store/sql/take_unpriced.sql", limit, TAKEN_SECS, AHEAD);
    let rows = rows.fetch_all(conn).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Unpriced {
                job_id: JobId(row.job_id),
                input: row.input,
                output: row.output,
                overwrite: row.if_exists == "overwrite" && row.replaces.is_none(),
                replaces: row.replaces.map(JobId),
                upscale: from_json(row.job_id, "upscale", row.upscale)?,
            })
        })
        .collect()
}

/// Writes down what jobs cost; they may be released now.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn price(conn: &mut PgConnection, priced: &[(JobId, u32)]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = priced.iter().map(|(id, _)| id.0).collect();
    let costs: Vec<i64> = priced.iter().map(|(_, cost)| i64::from(*cost)).collect();
    sqlx::query!(
        r#"
        with found as (
            update jobs
            set cost = new.cost
            from unnest($1::uuid[], $2::bigint[]) as new (job_id, cost)
            where jobs.job_id = new.job_id
            returning jobs.job_id, jobs.cost, coalesce(not_before, created_at) as since
        )
        update outbox
        set priced = true, cost = found.cost, place = place_in_line(found.since, found.cost),
            taken_until = null
        from found
        where outbox.job_id = found.job_id and not priced"#,
        &ids,
        &costs,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns rows that could not be looked at, to be taken again in a while.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn give_back(
    conn: &mut PgConnection,
    ids: &[JobId],
    after_secs: f64,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"
        update outbox
        set taken_until = now() + make_interval(secs => $2)
        where job_id = any($1) and not priced"#,
        &ids,
        after_secs,
    )
    .execute(conn)
    .await?;
    Ok(())
}
