//! Expansion: items become jobs, or refusals, exactly once each, because what is made of a piece of the
//! source and how far the source was read are one transaction.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::PgConnection;
use upres_common::batch::{BatchId, BatchRequest};
use upres_common::job::request::ValidJob;
use upres_common::job::{Class, IfExists, JobId};
use upres_common::objects::UriPrefix;
use uuid::Uuid;

use super::super::{StoreError, from_json, to_json};

/// A batch in the hands of one coordinator.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// Which.
    pub id: BatchId,
    /// Whose.
    pub tenant: String,
    /// What was asked for.
    pub request: BatchRequest,
    /// What its key may read.
    pub read_prefixes: Vec<UriPrefix>,
    /// Where it may write.
    pub write_prefixes: Vec<UriPrefix>,
    /// How far it was read, as it was written down.
    pub position: Value,
}

/// An item that becomes a job.
#[derive(Debug, Clone)]
pub struct NewItem {
    /// The job's id.
    pub id: JobId,
    /// The item's place in its source.
    pub line: i64,
    /// The job.
    pub job: ValidJob,
    /// Tile-steps, by the length of the file, where that is known.
    pub estimate: Option<i64>,
    /// The only job whose result it may replace, although it may overwrite.
    pub replaces: Option<JobId>,
}

/// An item that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedItem {
    /// Its place in its source.
    pub line: i64,
    /// What it names.
    pub input: String,
    /// Why.
    pub detail: String,
}

/// What was read since the last step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Before it, as written down.
    pub from: Value,
    /// Behind it.
    pub to: Value,
    /// Items read.
    pub listed: i64,
    /// Of them, left out by the patterns.
    pub skipped: i64,
    /// Of them, done by the parent.
    pub unchanged: i64,
    /// The source is read to its end.
    pub end: bool,
    /// Or can be read no further, and why.
    pub failure: Option<String>,
}

/// Takes a batch that is not expanded and in nobody's hands, for `secs` seconds: one that was never begun, or
/// else the one that has waited longest.
///
/// # Errors
/// [`StoreError`].
pub async fn take(conn: &mut PgConnection, secs: f64) -> Result<Option<Expansion>, StoreError> {
    let row = sqlx::query!(
        r#"
        update batches
        set expanding_until = now() + make_interval(secs => $1)
        where batch_id = (
            select batch_id
            from batches
            where finished_at is null and expanded_at is null
                and (expanding_until is null or expanding_until < now())
            order by expanding_until nulls first, batch_id
            limit 1
            for update skip locked
        )
        returning batch_id, tenant, template, read_prefixes, write_prefixes, position"#,
        secs,
    );
    let Some(row) = row.fetch_optional(conn).await? else {
        return Ok(None);
    };
    let prefixes = |words: Vec<String>| words.iter().filter_map(|word| word.parse().ok()).collect();
    Ok(Some(Expansion {
        id: BatchId(row.batch_id),
        tenant: row.tenant,
        request: from_json(row.batch_id, "template", row.template)?,
        read_prefixes: prefixes(row.read_prefixes),
        write_prefixes: prefixes(row.write_prefixes),
        position: row.position,
    }))
}

/// Whether [`take`] would find one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn does_one_wait(conn: &mut PgConnection) -> Result<bool, StoreError> {
    let waits = sqlx::query_scalar!(
        r#"
        select exists (
            select 1
            from batches
            where finished_at is null and expanded_at is null
                and (expanding_until is null or expanding_until < now())
        ) as "waits!""#,
    );
    Ok(waits.fetch_one(conn).await?)
}

/// Gives a batch back, to be taken again after `secs` seconds.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn give_back(conn: &mut PgConnection, id: BatchId, secs: f64) -> Result<(), StoreError> {
    sqlx::query!(
        "update batches set expanding_until = now() + make_interval(secs => $2) where batch_id = $1",
        id.0,
        secs,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes down how far the source was read, and keeps the batch for another `secs` seconds. The number
/// of refusals is that of its rows. `false` when somebody else was there before, or the batch was
/// cancelled: nothing of this transaction may stay then.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn advance(
    conn: &mut PgConnection,
    id: BatchId,
    step: &Step,
    refused: i64,
    secs: f64,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        r#"
        update batches
        set position = $3, listed = listed + $4, skipped = skipped + $5, refused = refused + $6,
            unchanged = unchanged + $10,
            expanded_at = case when $7 or $8::text is not null then now() end,
            failure = $8,
            expanding_until = now() + make_interval(secs => $9), version = version + 1
        where batch_id = $1 and position = $2 and expanded_at is null and cancelled_at is null"#,
        id.0,
        step.from,
        step.to,
        step.listed,
        step.skipped,
        refused,
        step.end,
        step.failure,
        secs,
        step.unchanged,
    );
    Ok(done.execute(conn).await?.rows_affected() > 0)
}

/// How many items were refused so far.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn refused_so_far(conn: &mut PgConnection, id: BatchId) -> Result<i64, StoreError> {
    let refused = sqlx::query_scalar!("select refused from batches where batch_id = $1", id.0);
    Ok(refused.fetch_optional(conn).await?.unwrap_or_default())
}

/// Inserts items with their rows in the outbox, unpriced. Returns those that were: the others share their
/// output with an earlier item of the batch.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_items(
    conn: &mut PgConnection,
    batch: &Expansion,
    items: &[NewItem],
) -> Result<HashSet<JobId>, StoreError> {
    let columns = Columns::of(items);
    let request = &batch.request;
    let max_attempts = items.first().map_or(1, |item| item.job.max_attempts);
    let inserted = sqlx::query_scalar!(
        r#"
        with new as (
            select *
            from unnest($4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::jsonb[],
                $10::integer[], $11::jsonb[], $12::jsonb[], $13::bigint[], $17::uuid[])
                as new (job_id, line, input, output, if_exists, upscale, priority, labels, warnings,
                    estimate, replaces)
        ), inserted as (
            insert into jobs (job_id, tenant, batch_id, line, input, output, if_exists, upscale, class,
                priority, max_attempts, not_before, finish_by, labels, warnings, cost, replaces, state)
            select job_id, $1, $2, line, input, output, if_exists, upscale, $3, priority, $14, $15, $16,
                labels, warnings, estimate, replaces,
                case when $15 > now() then 'scheduled' else 'queued' end
            from new
            on conflict (batch_id, output) where batch_id is not null do nothing
            returning job_id
        ), waiting as (
            insert into outbox (job_id, attempt, class, tenant, batch_id, priority, place, cost, priced,
                due_at)
            select job_id, 1, $3, $1, $2, priority,
                place_in_line(coalesce($15, now()), coalesce(estimate, 0)), coalesce(estimate, 0), false,
                coalesce($15, now())
            from new
            join inserted using (job_id)
            order by line
        )
        select job_id as "job_id!" from inserted"#,
        batch.tenant,
        batch.id.0,
        Class::as_str(request.class),
        &columns.ids,
        &columns.lines,
        &columns.inputs,
        &columns.outputs,
        &columns.if_exists,
        &columns.upscales,
        &columns.priorities,
        &columns.labels,
        &columns.warnings,
        &columns.estimates as &[Option<i64>],
        i32::try_from(max_attempts).unwrap_or(i32::MAX),
        request.not_before,
        request.finish_by,
        &columns.replaces as &[Option<Uuid>],
    );
    let inserted = inserted.fetch_all(conn).await?;
    Ok(inserted.into_iter().map(JobId).collect())
}

/// Writes down why items did not become jobs.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_refused(
    conn: &mut PgConnection,
    id: BatchId,
    refused: &[RefusedItem],
) -> Result<(), StoreError> {
    let lines: Vec<i64> = refused.iter().map(|item| item.line).collect();
    // Postgres knows no text with a NUL in it.
    let plain = |text: &str| text.replace('\0', "\u{fffd}");
    let inputs: Vec<String> = refused.iter().map(|item| plain(&item.input)).collect();
    let details: Vec<String> = refused.iter().map(|item| plain(&item.detail)).collect();
    sqlx::query!(
        r#"
        insert into refused_items (batch_id, line, input, detail)
        select $1, * from unnest($2::bigint[], $3::text[], $4::text[])"#,
        id.0,
        &lines,
        &inputs,
        &details,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Has the database look how large its tables have become, and plan anew. It would within a minute or so by
/// itself, and until then read hundreds of thousands of rows by plans that were made for a few.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_anew(conn: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("analyze jobs, outbox").execute(conn).await?;
    Ok(())
}

/// Items as columns, for one statement however many.
#[derive(Debug, Default)]
struct Columns {
    ids: Vec<Uuid>,
    lines: Vec<i64>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    if_exists: Vec<String>,
    upscales: Vec<Value>,
    priorities: Vec<i32>,
    labels: Vec<Value>,
    warnings: Vec<Value>,
    estimates: Vec<Option<i64>>,
    replaces: Vec<Option<Uuid>>,
}

impl Columns {
    fn of(items: &[NewItem]) -> Self {
        let mut columns = Self::default();
        for item in items {
            let job = &item.job;
            columns.ids.push(item.id.0);
            columns.lines.push(item.line);
            columns.inputs.push(job.input.to_string());
            columns.outputs.push(job.output.to_string());
            columns.if_exists.push(
                match job.if_exists {
                    IfExists::Fail => "fail",
                    IfExists::Overwrite => "overwrite",
                }
                .to_owned(),
            );
            columns.upscales.push(to_json(&job.upscale));
            columns.priorities.push(job.priority);
            columns.labels.push(to_json(&job.labels));
            columns.warnings.push(to_json(&job.warnings));
            columns.estimates.push(item.estimate);
            columns.replaces.push(item.replaces.map(|id| id.0));
        }
        columns
    }
}
