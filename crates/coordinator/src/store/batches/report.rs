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
    let jobs = sqlx::query!(
        r#"
        select line as "line!", job_id, state, input, output, upscale, cost, attempt, result, error,
            warnings, started_at, finished_at, publication #>> '{sidecar,input,sha256}' as input_sha256
        from jobs
        where batch_id = $1 and line > $2
        order by line
        limit $3"#,
        id.0,
        after,
        limit,
    );
    let jobs = jobs.fetch_all(&mut *conn).await?;
    // What comes behind a full page of jobs is for the next page.
    let last = jobs
        .last()
        .filter(|_| jobs.len() as i64 == limit)
        .map(|job| job.line);
    let refused = sqlx::query!(
        r#"
        select line, input, detail
        from refused_items
        where batch_id = $1 and line > $2 and ($4::bigint is null or line < $4)
        order by line
        limit $3"#,
        id.0,
        after,
        limit,
        last,
    );
    let refused = refused.fetch_all(conn).await?;
    let mut lines = Vec::with_capacity(jobs.len() + refused.len());
    for job in jobs {
        let job_id = job.job_id;
        let upscale: UpscaleSpec = from_json(job_id, "upscale", job.upscale)?;
        let result: Option<ResultView> = perhaps(job_id, "result", job.result)?;
        let error = job.error.filter(|_| job.state == "failed");
        let error: Option<JobError> = perhaps(job_id, "error", error)?;
        lines.push(ReportLine {
            line: job.line,
            status: job.state,
            input: job.input,
            output: Some(job.output),
            job_id: Some(JobId(job_id)),
            error_type: error.as_ref().map(|error| error.error_type.to_string()),
            reason: error.map(|error| error.detail),
            input_sha256: job.input_sha256,
            output_sha256: result.as_ref().map(|result| result.sha256.clone()),
            bytes: result.as_ref().map(|result| result.bytes),
            width: result.as_ref().map(|result| i64::from(result.width)),
            height: result.as_ref().map(|result| i64::from(result.height)),
            timesteps: upscale.timesteps.as_slice().to_vec(),
            cost: job.cost,
            attempts: job.attempt,
            seconds: seconds(job.started_at, job.finished_at),
            warnings: from_json(job_id, "warnings", job.warnings)?,
        });
    }
    let refused = refused
        .into_iter()
        .map(|item| of_refused(item.line, item.input, item.detail));
    lines.extend(refused);
    lines.sort_by_key(|line| line.line);
    // A page that is full of refusals says nothing about the jobs behind it.
    lines.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(lines)
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

/// The line of an item that did not become a job.
fn of_refused(line: i64, input: String, detail: String) -> ReportLine {
    ReportLine {
        line,
        status: "refused".to_owned(),
        input,
        output: None,
        job_id: None,
        error_type: None,
        reason: Some(detail),
        input_sha256: None,
        output_sha256: None,
        bytes: None,
        width: None,
        height: None,
        timesteps: Vec::new(),
        cost: None,
        attempts: 0,
        seconds: None,
        warnings: Vec::new(),
    }
}

fn seconds(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<f64> {
    let milliseconds = (to? - from?).num_milliseconds();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a job are few")]
    Some(milliseconds as f64 / 1000.0)
}
