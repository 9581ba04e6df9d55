//! Results on their way to becoming visible, in the `jobs` table: what is intended, who may, what came of it.

use sqlx::PgConnection;
use upres_common::job::JobId;
use upres_common::job::state::LeaseToken;
use upres_common::lease::Outcome;
use upres_common::objects::ObjectUri;

use super::{StoreError, from_json, to_json};

/// Notes what is about to be published, before the event `PublicationBegun`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_publication(
    conn: &mut PgConnection,
    id: JobId,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update jobs set publication = $2, upload_id = $3 where job_id = $1",
        id.0,
        to_json(outcome),
        outcome.upload_id,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A publication under way: all that is needed to finish it, by whoever does.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The job.
    pub job_id: JobId,
    /// The attempt.
    pub attempt: i32,
    /// Its lease.
    pub token: LeaseToken,
    /// Where the result goes.
    pub output: ObjectUri,
    /// Whether an object that is there already may be replaced.
    pub overwrite: bool,
    /// What the attempt made.
    pub outcome: Outcome,
}

/// The publication of a job, if one is under way.
///
/// # Errors
/// [`StoreError`].
pub async fn publication(
    conn: &mut PgConnection,
    id: JobId,
) -> Result<Option<Publication>, StoreError> {
    let row = sqlx::query!(
        r#"
        select attempt, lease_token as "lease_token!", output, if_exists, publication as "publication!"
        from jobs
        where job_id = $1 and publishing"#,
        id.0
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Publication {
            job_id: id,
            attempt: row.attempt,
            token: LeaseToken(row.lease_token),
            output: row.output.parse().expect("only valid addresses are stored"),
            overwrite: row.if_exists == "overwrite",
            outcome: from_json(id.0, "publication", row.publication)?,
        })
    })
    .transpose()
}

/// Writes the result's columns from the publication, before the event `Completed`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_result(
    conn: &mut PgConnection,
    publication: &Publication,
    sha256: &str,
) -> Result<(), StoreError> {
    let outcome = &publication.outcome;
    let result = serde_json::json!({
        "uri": publication.output.to_string(), "sha256": sha256, "bytes": outcome.bytes,
        "width": outcome.width, "height": outcome.height,
    });
    sqlx::query!(
        r#"
        update jobs
        set result = $2, timings = $3, progress = $4, cost = $5, warnings = warnings || $6
        where job_id = $1"#,
        publication.job_id.0,
        result,
        to_json(&outcome.timings),
        to_json(&outcome.progress),
        i64::from(outcome.progress.tile_steps_total),
        to_json(&outcome.warnings),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps submissions that name this job's output as their input waiting until the transaction ends.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_output(conn: &mut PgConnection, id: JobId) -> Result<(), StoreError> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended(output, 1)) from jobs where job_id = $1",
        id.0
    )
    .execute(conn)
    .await?;
    Ok(())
}
