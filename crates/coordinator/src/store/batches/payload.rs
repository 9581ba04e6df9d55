//! What a batch's inputs became, as files: the payload of its bag.

use sqlx::PgConnection;
use upres_common::batch::BatchId;
use upres_common::job::view::ResultView;
use upres_common::sidecar::Sidecar;

use super::super::{StoreError, from_json};

/// A result and the record beside it.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The item's place in its source.
    pub line: i64,
    /// Where the result is.
    pub output: String,
    /// What it is.
    pub result: ResultView,
    /// The record, as it was written.
    pub sidecar: Option<Sidecar>,
}

/// Results of the items behind `after`, at most `limit`: of the batch's own jobs and of those that had done
/// before what the batch found unchanged.
///
/// # Errors
/// [`StoreError`].
pub async fn payload(
    conn: &mut PgConnection,
    id: BatchId,
    after: i64,
    limit: i64,
) -> Result<Vec<Payload>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select line as "line!", job_id as "job_id!", output as "output!", result as "result!", sidecar
        from (
            select line, job_id, output, result, publication -> 'sidecar' as sidecar
            from jobs
            where batch_id = $1 and line > $2 and state = 'succeeded'
            union all
            select unchanged_items.line, job_id, jobs.output, result, publication -> 'sidecar'
            from unchanged_items
            join jobs using (job_id)
            where unchanged_items.batch_id = $1 and unchanged_items.line > $2 and state = 'succeeded'
        ) as made
        order by line
        limit $3"#,
        id.0,
        after,
        limit,
    );
    let mut payload = Vec::new();
    for row in rows.fetch_all(conn).await? {
        let result: ResultView = from_json(row.job_id, "result", row.result)?;
        let sidecar: Option<Sidecar> = match row.sidecar {
            Some(value) => from_json(row.job_id, "publication", value)?,
            None => None,
        };
        payload.push(Payload {
            line: row.line,
            output: row.output,
            sidecar: sidecar.map(|mut sidecar| {
                sidecar.output.sha256 = Some(result.sha256.clone());
                sidecar
            }),
            result,
        });
    }
    Ok(payload)
}
