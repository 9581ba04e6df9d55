//! Results on their way to becoming visible, in the `jobs` table: what is intended, who may, what came of it.

use sqlx::PgConnection;
use upres_common::job::JobId;
use upres_common::job::state::LeaseToken;
use upres_common::lease::Outcome;
use upres_common::objects::ObjectUri;
use uuid::Uuid;

use super::{StoreError, from_json, to_json};

/// Notes what is about to be published, before the event `PublicationBegun`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_intents(
    conn: &mut PgConnection,
    outcomes: &[(JobId, &Outcome)],
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = outcomes.iter().map(|(id, _)| id.0).collect();
    let intents: Vec<_> = outcomes
        .iter()
        .map(|(_, outcome)| to_json(outcome))
        .collect();
    let uploads: Vec<_> = outcomes
        .iter()
        .map(|(_, outcome)| outcome.upload_id.clone())
        .collect();
    sqlx::query!(
        r#"
        update jobs
        set publication = new.publication, upload_id = new.upload_id
        from unnest($1::uuid[], $2::jsonb[], $3::text[])
            as new (job_id, publication, upload_id)
        where jobs.job_id = new.job_id"#,
        &ids,
        &intents,
        &uploads,
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
    /// The job whose result may be replaced.
    pub replaces: Option<JobId>,
    /// Whether the output has become some job's input, of whatever tenant and state. No job that names
    /// it is accepted while this is under way.
    pub output_is_input: bool,
    /// What the attempt made.
    pub outcome: Outcome,
}

/// The publications that are under way, of these jobs.
///
/// # Errors
/// [`StoreError`].
pub async fn under_way(
    conn: &mut PgConnection,
    ids: &[JobId],
) -> Result<Vec<Publication>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"
        select job_id, attempt, lease_token as "lease_token!", output, if_exists, replaces,
            publication as "publication!",
            exists (select 1 from jobs as other where other.input = jobs.output)
                as "output_is_input!"
        from jobs
        where job_id = any($1) and publishing"#,
        &ids
    )
    .fetch_all(conn)
    .await?;
    let publications = rows.into_iter().map(|row| {
        Ok(Publication {
            job_id: JobId(row.job_id),
            attempt: row.attempt,
            token: LeaseToken(row.lease_token),
            output: row.output.parse().expect("only valid addresses are stored"),
            overwrite: row.if_exists == "overwrite" && row.replaces.is_none(),
            replaces: row.replaces.map(JobId),
            output_is_input: row.output_is_input,
            outcome: from_json(row.job_id, "publication", row.publication)?,
        })
    });
    publications.collect()
}

/// Writes the results' columns from the publications, before the event `Completed`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_results(
    conn: &mut PgConnection,
    publications: &[&Publication],
) -> Result<(), StoreError> {
    let outcomes = || publications.iter().map(|one| &one.outcome);
    let ids: Vec<Uuid> = publications.iter().map(|one| one.job_id.0).collect();
    let results: Vec<_> = publications.iter().map(|one| result(one)).collect();
    let timings: Vec<_> = outcomes()
        .map(|outcome| to_json(&outcome.timings))
        .collect();
    let progress: Vec<_> = outcomes()
        .map(|outcome| to_json(&outcome.progress))
        .collect();
    let costs: Vec<_> = outcomes()
        .map(|outcome| i64::from(outcome.progress.tile_steps_total))
        .collect();
    let warnings: Vec<_> = outcomes()
        .map(|outcome| to_json(&outcome.warnings))
        .collect();
    sqlx::query!(
        r#"
        update jobs
        set result = new.result, timings = new.timings, progress = new.progress, cost = new.cost,
            warnings = warnings || new.more_warnings
        from unnest($1::uuid[], $2::jsonb[], $3::jsonb[], $4::jsonb[], $5::bigint[], $6::jsonb[])
            as new (job_id, result, timings, progress, cost, more_warnings)
        where jobs.job_id = new.job_id"#,
        &ids,
        &results,
        &timings,
        &progress,
        &costs,
        &warnings,
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn result(publication: &Publication) -> serde_json::Value {
    let outcome = &publication.outcome;
    serde_json::json!({
        "uri": publication.output.to_string(), "sha256": outcome.sha256, "bytes": outcome.bytes,
        "width": outcome.width, "height": outcome.height,
    })
}

/// Keeps submissions that name one of these jobs' outputs as their input out until the transaction
/// ends. Always in the same order, so that two who lock several do not wait for each other.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_outputs(conn: &mut PgConnection, ids: &[JobId]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"
        with locks as materialized (
            select distinct hashtextextended(output, 1) as lock
            from jobs
            where job_id = any($1)
            order by lock
        )
        select pg_advisory_xact_lock(lock) from locks"#,
        &ids
    )
    .execute(conn)
    .await?;
    Ok(())
}
