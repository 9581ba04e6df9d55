//! The `batches` table: what was asked for, how far its expansion is, what its owner wants of it.

pub mod ending;
pub mod expansion;
pub mod parents;
pub mod payload;
pub mod promised;
pub mod report;
pub mod statistics;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};
use upres_common::batch::{BatchId, BatchRequest};
use upres_common::job::{Class, IfExists};
use upres_common::objects::UriPrefix;
use uuid::Uuid;

use super::idempotency::KEPT;
use super::submissions::NewKey;
use super::{StoreError, from_json, to_json};

/// A batch to be inserted.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Its id.
    pub id: BatchId,
    /// Whose it is.
    pub tenant: String,
    /// Sent again under it, it is still one batch.
    pub key: Option<NewKey>,
    /// What was asked for.
    pub request: BatchRequest,
    /// What its key may read.
    pub read_prefixes: Vec<UriPrefix>,
    /// Where it may write.
    pub write_prefixes: Vec<UriPrefix>,
}

/// A batch, without what is counted from its jobs.
#[derive(Debug, Clone)]
pub struct BatchRow {
    /// Its id.
    pub batch_id: Uuid,
    /// Where its items come from, as it is shown.
    pub source: serde_json::Value,
    /// In which line its jobs stand.
    pub class: String,
    /// Added to its jobs' own.
    pub priority: i32,
    /// For finding it again.
    pub labels: serde_json::Value,
    /// Where the report goes.
    pub report: Option<String>,
    /// Items read.
    pub listed: i64,
    /// Left out by the patterns.
    pub skipped: i64,
    /// Not made jobs.
    pub refused: i64,
    /// Done by the parent, and untouched since.
    pub unchanged: i64,
    /// The batch whose sources it runs again.
    pub parent: Option<Uuid>,
    /// Why there are no more items.
    pub failure: Option<String>,
    /// Why the report is not in its place.
    pub report_failure: Option<String>,
    /// Nothing of it is released.
    pub paused: bool,
    /// Its owner wants it no more.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When the last item was read.
    pub expanded_at: Option<DateTime<Utc>>,
    /// When the last job ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Its failed jobs are to be tried anew, and are not all yet.
    pub is_retried: bool,
    /// How often it has ended: it begins anew when failed jobs are retried.
    pub completions: i32,
}

impl BatchRow {
    /// The class.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.class == Class::Bulk.as_str() {
            Class::Bulk
        } else {
            Class::Interactive
        }
    }

    /// The labels.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`].
    pub fn labels(&self) -> Result<BTreeMap<String, String>, StoreError> {
        from_json(self.batch_id, "labels", self.labels.clone())
    }
}

/// What became of a new batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// It is to be expanded.
    Done,
    /// Its key stands for another.
    KeyTaken,
    /// Another that is not over will write its report into the same folder.
    ReportTaken,
}

/// Inserts a batch that is to be expanded.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(conn: &mut PgConnection, new: &NewBatch) -> Result<Insertion, StoreError> {
    let mut tx = conn.begin().await?;
    if let Some(key) = &new.key {
        sqlx::query!(
            r#"
            update batches
            set idempotency_key = null
            where tenant = $1 and idempotency_key = $2
                and created_at <= now() - make_interval(secs => $3)"#,
            new.tenant,
            key.key,
            KEPT.as_secs_f64(),
        )
        .execute(&mut *tx)
        .await?;
    }
    let request = &new.request;
    let source = match (&request.prefix, &request.manifest, &request.items) {
        (Some(prefix), ..) => serde_json::json!({"prefix": prefix}),
        (_, Some(manifest), _) => serde_json::json!({"manifest": manifest}),
        (.., items) => serde_json::json!({"items": items.as_ref().map_or(0, Vec::len)}),
    };
    let words = |prefixes: &[UriPrefix]| -> Vec<String> {
        let words = prefixes.iter().map(|prefix| prefix.as_str().to_owned());
        words.collect()
    };
    let inserted = sqlx::query!(
        r#"
        insert into batches (batch_id, tenant, source, template, atomic, labels, report,
            read_prefixes, write_prefixes, position, class, priority, parent, idempotency_key,
            request_sha256)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, '{"line": 0}', $10, $11, $12, $13, $14)
        on conflict (tenant, idempotency_key) where idempotency_key is not null do nothing"#,
        new.id.0,
        new.tenant,
        source,
        to_json(request),
        request.atomic,
        to_json(&request.labels),
        request.report,
        &words(&new.read_prefixes),
        &words(&new.write_prefixes),
        request.class.as_str(),
        request.priority,
        request.parent.map(|parent| parent.0),
        new.key.as_ref().map(|key| &key.key),
        new.key.as_ref().map(|key| &key.request_sha256),
    );
    if inserted.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(Insertion::KeyTaken);
    }
    if let Some(folder) = &request.report
        && request.if_exists != IfExists::Overwrite
        && is_promised(&mut tx, new.id, folder).await?
    {
        return Ok(Insertion::ReportTaken);
    }
    tx.commit().await?;
    Ok(Insertion::Done)
}

/// Whether another batch that is not over will write its report into this folder, or did in the last minute:
/// who looked for a report there before may have missed it. Of several that come at the same time each waits
/// for the one before.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn is_promised(
    tx: &mut PgConnection,
    id: BatchId,
    folder: &str,
) -> Result<bool, StoreError> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended(rtrim($1, '/'), 0))",
        folder
    )
    .execute(&mut *tx)
    .await?;
    // A statement of its own: it sees what was committed before the lock was had.
    let promised = sqlx::query_scalar!(
        r#"
        select exists (
            select from batches
            where batch_id <> $2 and rtrim(report, '/') = rtrim($1, '/')
                and (
                    finished_at is null
                    or finished_at > now() - interval '1 minute' and report_failure is null
                )
        ) as "promised!""#,
        folder,
        id.0,
    );
    Ok(promised.fetch_one(tx).await?)
}

/// The batch that was submitted under a key, and the digest of that request, as long as keys are kept.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn of_key(
    conn: &mut PgConnection,
    tenant: &str,
    key: &str,
) -> Result<Option<(BatchId, Vec<u8>)>, StoreError> {
    let row = sqlx::query!(
        r#"
        select batch_id, request_sha256 as "request_sha256!"
        from batches
        where tenant = $1 and idempotency_key = $2
            and created_at > now() - make_interval(secs => $3)"#,
        tenant,
        key,
        KEPT.as_secs_f64(),
    );
    let row = row.fetch_optional(conn).await?;
    Ok(row.map(|row| (BatchId(row.batch_id), row.request_sha256)))
}

/// One batch.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: &str,
    id: BatchId,
) -> Result<Option<BatchRow>, StoreError> {
    let row = sqlx::query_as!(
        BatchRow,
        r#"
        select batch_id, source, class, priority, labels, report, listed, skipped, refused, unchanged,
            parent, failure, report_failure, paused, cancelled_at, created_at, expanded_at, finished_at,
            retry is not null as "is_retried!", completions
        from batches
        where batch_id = $1 and tenant = $2"#,
        id.0,
        tenant,
    );
    Ok(row.fetch_optional(conn).await?)
}

/// A page of batches, newest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn page(
    conn: &mut PgConnection,
    tenant: &str,
    before: Option<BatchId>,
    limit: i64,
) -> Result<Vec<BatchRow>, StoreError> {
    let rows = sqlx::query_as!(
        BatchRow,
        r#"
        select batch_id, source, class, priority, labels, report, listed, skipped, refused, unchanged,
            parent, failure, report_failure, paused, cancelled_at, created_at, expanded_at, finished_at,
            retry is not null as "is_retried!", completions
        from batches
        where tenant = $1 and ($2::uuid is null or batch_id < $2)
        order by batch_id desc
        limit $3"#,
        tenant,
        before.map(|id| id.0),
        limit,
    );
    Ok(rows.fetch_all(conn).await?)
}

/// Stops or resumes the release of a batch's jobs. Of those that were released and not claimed the
/// wake-ups are forgotten: nobody is to wait for an answer.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_paused(
    conn: &mut PgConnection,
    id: BatchId,
    paused: bool,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with changed as (
            update batches
            set paused = $2, version = version + 1
            where batch_id = $1 and paused <> $2
            returning batch_id
        )
        update outbox
        set sent_at = null
        where outbox_id in (
            select outbox_id
            from outbox
            where batch_id in (select batch_id from changed) and sent_at is not null
            -- those being claimed, whose claim would wait for us as we for it
            for update skip locked
        )"#,
        id.0,
        paused,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of `folders`, without a slash at their ends, that the tenant's batches write reports into.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn report_folders(
    conn: &mut PgConnection,
    tenant: &str,
    folders: &[String],
) -> Result<HashSet<String>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"
        select distinct rtrim(report, '/') as "folder!"
        from batches
        where tenant = $1 and rtrim(report, '/') = any($2)"#,
        tenant,
        folders,
    );
    Ok(found.fetch_all(conn).await?.into_iter().collect())
}

/// Notes that the owner wants the batch no more. Its jobs follow in the background; whether it can still
/// be cancelled at all is answered by `false`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn cancel(conn: &mut PgConnection, id: BatchId) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        r#"
        update batches
        set cancelled_at = coalesce(cancelled_at, now()), expanded_at = coalesce(expanded_at, now()),
            ending_until = case when ending_by is null then null else ending_until end,
            retry = null, version = version + 1
        where batch_id = $1 and (finished_at is null or cancelled_at is not null)"#,
        id.0,
    );
    Ok(done.execute(conn).await?.rows_affected() > 0)
}

/// Of what is to be tried anew after its time.
pub(crate) const TOO_LATE: &str =
    "its time (`finish_by`) is over, and it would expire: submit it again";

/// Notes that jobs which failed until now are to be tried anew, those with an error that begins with
/// `error_type` or, without one, those for which another attempt could help. Why it is not noted, if it is not.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn ask_retry(
    conn: &mut PgConnection,
    id: BatchId,
    error_type: Option<&str>,
) -> Result<Option<&'static str>, StoreError> {
    let asked = sqlx::query!(
        r#"
        with asked as (
            select batch_id, cancelled_at is not null or (atomic and failure is not null) as closed,
                coalesce((template ->> 'finish_by')::timestamptz <= now(), false) as late,
                retry is not null and retry ->> 'error_type' is distinct from $2 as busy
            from batches
            where batch_id = $1
            for update
        ), noted as (
            update batches
            set retry = jsonb_build_object('until', now(), 'error_type', $2::text), version = version + 1
            where batch_id in (select batch_id from asked where not (closed or late or busy))
        )
        select closed as "closed!", late as "late!", busy as "busy!" from asked"#,
        id.0,
        error_type,
    );
    let asked = asked.fetch_one(conn).await?;
    Ok(if asked.closed {
        Some("the batch was cancelled, or was to be all or nothing: submit it again")
    } else if asked.late {
        Some(TOO_LATE)
    } else if asked.busy {
        Some("another retry of this batch is still being carried out: ask again when it is")
    } else {
        None
    })
}

/// Moves a batch to another class, or changes its priority.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn change(
    conn: &mut PgConnection,
    id: BatchId,
    class: Option<Class>,
    priority: Option<i32>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update batches
        set reclass = reclass or coalesce($2 <> class, false), class = coalesce($2, class),
            priority = coalesce($3, priority), version = version + 1
        where batch_id = $1"#,
        id.0,
        class.map(Class::as_str),
        priority,
    )
    .execute(conn)
    .await?;
    Ok(())
}
