//! The report: one line an input, in the order of the source, page by page.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::batch::BatchId;
use upres_common::batch::view::ReportLine;
use upres_common::job::view::ResultView;
use upres_common::job::{JobError, JobId, UpscaleSpec};

use super::super::{StoreError, from_json};

/// Lines behind `after`, at most `limit`.
///
/// # Errors
/// [`StoreError`].
pub async fn lines(
    conn: &mut PgConnection,
    id: BatchId,
    after: i64,
    limit: i64,
) -> Result<Vec<ReportLine>, StoreError> {
    let mut lines = of_jobs(conn, id, after, limit).await?;
    // What comes behind a full page of jobs is for the next page.
    let full = lines.len() as i64 == limit;
    let before = lines.last().filter(|_| full).map(|line| line.line);
    lines.extend(of_refused(conn, id, after, before, limit).await?);
    lines.extend(of_unchanged(conn, id, after, before, limit).await?);
    lines.sort_by_key(|line| line.line);
    // A page that is full of refusals says nothing about the jobs behind it.
    lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(lines)
}

async fn of_jobs(
    conn: &mut PgConnection,
    id: BatchId,
    after: i64,
    limit: i64,
) -> Result<Vec<ReportLine>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select line as "line!", job_id, state, input, output, upscale, cost, attempt, result, error,
            warnings, started_at, finished_at, publication #>> '{input,sha256}' as input_sha256
        from jobs
        where batch_id = $1 and line > $2
        order by line
        limit $3"#,
        id.0,
        after,
        limit,
    );
    let mut lines = Vec::new();
    for job in rows.fetch_all(conn).await? {
        let job_id = job.job_id;
        let upscale: UpscaleSpec = from_json(job_id, "upscale", job.upscale)?;
        let result: Option<ResultView> = perhaps(job_id, "result", job.result)?;
        let error = job.error.filter(|_| job.state == "failed");
        let error: Option<JobError> = perhaps(job_id, "error", error)?;
        lines.push(ReportLine {
            output: Some(job.output),
            job_id: Some(JobId(job_id)),
            error_type: error.as_ref().map(|error| error.error_type.to_string()),
            reason: error.map(|error| error.detail),
            input_sha256: job.input_sha256,
            timesteps: upscale.timesteps.as_slice().to_vec(),
            cost: job.cost,
            attempts: job.attempt,
            seconds: seconds(job.started_at, job.finished_at),
            warnings: from_json(job_id, "warnings", job.warnings)?,
            ..made(
                ReportLine::of(job.line, &job.state, job.input),
                result.as_ref(),
            )
        });
    }
    Ok(lines)
}

/// Items that did not become jobs.
async fn of_refused(
    conn: &mut PgConnection,
    id: BatchId,
    after: i64,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ReportLine>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select line, input, detail
        from refused_items
        where batch_id = $1 and line > $2 and ($4::bigint is null or line < $4)
        order by line
        limit $3"#,
        id.0,
        after,
        limit,
        before,
    );
    let rows = rows.fetch_all(conn).await?.into_iter();
    Ok(rows
        .map(|item| ReportLine {
            reason: Some(item.detail),
            ..ReportLine::of(item.line, "refused", item.input)
        })
        .collect())
}

/// Items that the parent had done, with what is known of the job that did.
async fn of_unchanged(
    conn: &mut PgConnection,
    id: BatchId,
    after: i64,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ReportLine>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select unchanged_items.line, unchanged_items.input, unchanged_items.output, job_id,
            upscale as "upscale?", result as "result?", publication #>> '{input,sha256}' as input_sha256
        from unchanged_items
        left join jobs using (job_id)
        where unchanged_items.batch_id = $1 and unchanged_items.line > $2
            and ($4::bigint is null or unchanged_items.line < $4)
        order by unchanged_items.line
        limit $3"#,
        id.0,
        after,
        limit,
        before,
    );
    let mut lines = Vec::new();
    for item in rows.fetch_all(conn).await? {
        let upscale: Option<UpscaleSpec> = perhaps(item.job_id, "upscale", item.upscale)?;
        let result: Option<ResultView> = perhaps(item.job_id, "result", item.result)?;
        let timesteps = upscale.map(|upscale| upscale.timesteps.as_slice().to_vec());
        lines.push(ReportLine {
            output: Some(item.output),
            job_id: Some(JobId(item.job_id)),
            input_sha256: item.input_sha256,
            timesteps: timesteps.unwrap_or_default(),
            ..made(
                ReportLine::of(item.line, "unchanged", item.input),
                result.as_ref(),
            )
        });
    }
    Ok(lines)
}

/// The line with what was made.
fn made(line: ReportLine, result: Option<&ResultView>) -> ReportLine {
    ReportLine {
        output_sha256: result.map(|result| result.sha256.clone()),
        bytes: result.map(|result| result.bytes),
        width: result.map(|result| i64::from(result.width)),
        height: result.map(|result| i64::from(result.height)),
        ..line
    }
}

fn perhaps<T: serde::de::DeserializeOwned>(
    job_id: uuid::Uuid,
    column: &'static str,
    value: Option<serde_json::Value>,
) -> Result<Option<T>, StoreError> {
    value
        .map(|value| from_json(job_id, column, value))
        .transpose()
}

fn seconds(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<f64> {
    let milliseconds = (to? - from?).num_milliseconds();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a job are few")]
    Some(milliseconds as f64 / 1000.0)
}
