//! A batch that runs another's sources again: what became of them there, and what is as it was left.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use upres_common::batch::BatchId;
use upres_common::job::{JobId, UpscaleSpec};

use super::super::{StoreError, from_json};

/// A batch that another may take up.
#[derive(Debug, Clone)]
pub struct Parent {
    /// What was asked for, as it was asked.
    pub request: serde_json::Value,
    /// Whether it is over.
    pub finished: bool,
}

/// What was asked for, if the tenant has that batch.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: &str,
    id: BatchId,
) -> Result<Option<Parent>, StoreError> {
    let row = sqlx::query_as!(
        Parent,
        r#"
        select template as request, finished_at is not null as "finished!"
        from batches
        where batch_id = $1 and tenant = $2"#,
        id.0,
        tenant,
    );
    Ok(row.fetch_optional(conn).await?)
}

/// A job that succeeded, in a batch or in one that the batch took it over from.
#[derive(Debug, Clone)]
pub struct Done {
    /// The job.
    pub job_id: JobId,
    /// Where its image was.
    pub input: String,
    /// How it was upscaled.
    pub upscale: UpscaleSpec,
    /// The store's mark of the input as it was read.
    pub etag: Option<String>,
}

/// The jobs of a batch that succeeded, and those of batches before it whose results it left, by their output, of the
/// `outputs` that are asked for.
///
/// # Errors
/// [`StoreError`].
pub async fn done(
    conn: &mut PgConnection,
    id: BatchId,
    outputs: &[String],
) -> Result<HashMap<String, Done>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select job_id as "job_id!", input as "input!", output as "output!", upscale as "upscale!",
            publication #>> '{input,etag}' as etag
        from jobs
        where state = 'succeeded' and batch_id = $1 and output = any($2)
        union all
        select job_id, jobs.input, jobs.output, upscale, publication #>> '{input,etag}'
        from unchanged_items
        join jobs using (job_id)
        where state = 'succeeded' and unchanged_items.batch_id = $1 and unchanged_items.output = any($2)
        union all
        -- What was to be replaced and was not.
        select before.job_id, before.input, jobs.output, before.upscale, before.publication #>> '{input,etag}'
        from jobs
        join jobs as before on before.job_id = jobs.replaces
        where before.state = 'succeeded' and jobs.state <> 'succeeded' and jobs.batch_id = $1
            and jobs.output = any($2)"#,
        id.0,
        outputs,
    );
    let mut done = HashMap::new();
    for row in rows.fetch_all(conn).await? {
        let upscale = from_json(row.job_id, "upscale", row.upscale)?;
        let job = Done {
            job_id: JobId(row.job_id),
            input: row.input,
            upscale,
            etag: row.etag,
        };
        done.insert(row.output, job);
    }
    Ok(done)
}

/// An item that needs no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged {
    /// Its place in its source.
    pub line: i64,
    /// Where the image is.
    pub input: String,
    /// Where its result is.
    pub output: String,
    /// Which job made it.
    pub job_id: JobId,
}

/// Writes them down. Returns the lines that were: the others share their output with an earlier item.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_unchanged(
    conn: &mut PgConnection,
    id: BatchId,
    items: &[Unchanged],
) -> Result<HashSet<i64>, StoreError> {
    let lines: Vec<_> = items.iter().map(|item| item.line).collect();
    let inputs: Vec<_> = items.iter().map(|item| item.input.clone()).collect();
    let outputs: Vec<_> = items.iter().map(|item| item.output.clone()).collect();
    let jobs: Vec<_> = items.iter().map(|item| item.job_id.0).collect();
    let inserted = sqlx::query_scalar!(
        r#"
        insert into unchanged_items (batch_id, line, input, output, job_id)
        select $1, new.*
        from unnest($2::bigint[], $3::text[], $4::text[], $5::uuid[]) as new (line, input, output, job_id)
        where not exists (select 1 from jobs where batch_id = $1 and jobs.output = new.output)
        on conflict do nothing
        returning line"#,
        id.0,
        &lines,
        &inputs,
        &outputs,
        &jobs,
    );
    Ok(inserted.fetch_all(conn).await?.into_iter().collect())
}

/// Those of `outputs` that hold what an earlier item of the batch left as it was.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn left_unchanged(
    conn: &mut PgConnection,
    id: BatchId,
    outputs: &[String],
) -> Result<HashSet<String>, StoreError> {
    let found = sqlx::query_scalar!(
        "select output from unchanged_items where batch_id = $1 and output = any($2)",
        id.0,
        outputs,
    );
    Ok(found.fetch_all(conn).await?.into_iter().collect())
}
