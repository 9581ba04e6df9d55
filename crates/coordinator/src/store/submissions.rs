//! Accepted submissions: many jobs with their outbox rows and idempotency keys in one statement, and
//! what is asked of the other tables before.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::job::request::ValidJob;
use upres_common::job::{IfExists, JobId};
use uuid::Uuid;

use super::{StoreError, to_json};

/// A job to be inserted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: String,
    /// What was asked for.
    pub job: ValidJob,
    /// Tile-steps.
    pub cost: u32,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Under which key it is remembered.
    pub key: Option<NewKey>,
}

/// An idempotency key with the digest of its request.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The key.
    pub key: String,
    /// Digest of the request.
    pub request_sha256: Vec<u8>,
}

/// A job as the database holds it, as far as the database decides.
#[derive(Debug, Clone)]
pub struct Inserted {
    /// Which job.
    pub job_id: Uuid,
    /// `queued`, or `scheduled` when it is not due.
    pub state: String,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// As stored.
    pub not_before: Option<DateTime<Utc>>,
    /// As stored.
    pub finish_by: Option<DateTime<Utc>>,
}

/// Which of these addresses a job is publishing under, or about to. New publications under the others
/// wait until the transaction ends. Waits for nobody itself, because a batch of submissions would wait
/// with it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn being_published(
    conn: &mut PgConnection,
    inputs: &[String],
) -> Result<HashSet<String>, StoreError> {
    let beginning = sqlx::query_scalar!(
        r#"
        select asked.uri as "uri!"
        from unnest($1::text[]) as asked (uri)
        where not pg_try_advisory_xact_lock_shared(hashtextextended(asked.uri, 1))"#,
        inputs,
    )
    .fetch_all(&mut *conn)
    .await?;
    // A statement of its own: it sees what was committed before the locks were had.
    let begun = sqlx::query_scalar!(
        "select output from jobs where output = any($1) and publishing",
        inputs,
    );
    let begun = begun.fetch_all(conn).await?;
    Ok(beginning.into_iter().chain(begun).collect())
}

/// Which of these addresses are the input of any job, of whatever tenant and state.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn inputs_among(
    conn: &mut PgConnection,
    outputs: &[String],
) -> Result<HashSet<String>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"
        select asked.uri as "uri!"
        from unnest($1::text[]) as asked (uri)
        where exists (select 1 from jobs where jobs.input = asked.uri)"#,
        outputs,
    );
    Ok(found.fetch_all(conn).await?.into_iter().collect())
}

/// Which of these addresses are results of the tenant's jobs whose inputs begin with `prefix`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn results_of(
    conn: &mut PgConnection,
    tenant: &str,
    prefix: &str,
    addresses: &[String],
) -> Result<HashSet<String>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"
        select asked.uri as "uri!"
        from unnest($3::text[]) as asked (uri)
        where exists (
            select 1
            from jobs
            where jobs.output = asked.uri and tenant = $1 and state = 'succeeded'
                and starts_with(input, $2)
        )"#,
        tenant,
        prefix,
        addresses,
    );
    Ok(found.fetch_all(conn).await?.into_iter().collect())
}

/// Inserts accepted jobs, each with its row in the outbox and, if it has one, its idempotency key.
/// In no particular order.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    conn: &mut PgConnection,
    jobs: &[&NewJob],
) -> Result<Vec<Inserted>, StoreError> {
    let columns = Columns::of(jobs);
    // Whether a job is due yet is decided by the database's clock, like every other time.
    let rows = sqlx::query_as!(
        Inserted,
        r#"
        with new as (
            select *
            from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[],
                $7::text[], $8::integer[], $9::integer[], $10::timestamptz[], $11::timestamptz[],
                $12::jsonb[], $13::jsonb[], $14::text[], $15::bigint[], $16::text[], $17::bytea[])
                as new (job_id, tenant, input, output, if_exists, upscale, class, priority,
                    max_attempts, not_before, finish_by, labels, warnings, traceparent, cost, key,
                    request_sha256)
        ), inserted as (
            insert into jobs (job_id, tenant, input, output, if_exists, upscale, class, priority,
                max_attempts, not_before, finish_by, labels, warnings, traceparent, cost, state)
            select job_id, tenant, input, output, if_exists, upscale, class, priority,
                max_attempts, not_before, finish_by, labels, warnings, traceparent, cost,
                case when not_before > now() then 'scheduled' else 'queued' end
            from new
            returning job_id, state, created_at, not_before, finish_by
        ), waiting as (
            insert into outbox (job_id, attempt, class, tenant, priority, place, cost, traceparent,
                due_at)
            select job_id, 1, class, tenant, priority,
                place_in_line(coalesce(not_before, now()), cost), cost, traceparent,
                coalesce(not_before, now())
            from new
        ), remembered as (
            insert into idempotency_keys (tenant, key, request_sha256, job_id)
            select tenant, key, request_sha256, job_id from new where key is not null
            on conflict (tenant, key) do update
            set request_sha256 = excluded.request_sha256, job_id = excluded.job_id,
                created_at = now()
        )
        select job_id, state, created_at, not_before, finish_by from inserted"#,
        &columns.ids,
        &columns.tenants,
        &columns.inputs,
        &columns.outputs,
        &columns.if_exists,
        &columns.upscales,
        &columns.classes,
        &columns.priorities,
        &columns.max_attempts,
        &columns.not_before as &[Option<DateTime<Utc>>],
        &columns.finish_by as &[Option<DateTime<Utc>>],
        &columns.labels,
        &columns.warnings,
        &columns.traceparents as &[Option<String>],
        &columns.costs,
        &columns.keys as &[Option<String>],
        &columns.digests as &[Option<Vec<u8>>],
    );
    Ok(rows.fetch_all(conn).await?)
}

/// Jobs as columns, for one statement however many.
#[derive(Debug, Default)]
struct Columns {
    ids: Vec<Uuid>,
    tenants: Vec<String>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    if_exists: Vec<String>,
    upscales: Vec<serde_json::Value>,
    classes: Vec<String>,
    priorities: Vec<i32>,
    max_attempts: Vec<i32>,
    not_before: Vec<Option<DateTime<Utc>>>,
    finish_by: Vec<Option<DateTime<Utc>>>,
    labels: Vec<serde_json::Value>,
    warnings: Vec<serde_json::Value>,
    traceparents: Vec<Option<String>>,
    costs: Vec<i64>,
    keys: Vec<Option<String>>,
    digests: Vec<Option<Vec<u8>>>,
}

impl Columns {
    fn of(jobs: &[&NewJob]) -> Self {
        let mut columns = Self::default();
        for new in jobs {
            columns.push(new);
        }
        columns
    }

    fn push(&mut self, new: &NewJob) {
        let job = &new.job;
        self.ids.push(new.id.0);
        self.tenants.push(new.tenant.clone());
        self.inputs.push(job.input.to_string());
        self.outputs.push(job.output.to_string());
        let if_exists = match job.if_exists {
            IfExists::Fail => "fail",
            IfExists::Overwrite => "overwrite",
        };
        self.if_exists.push(if_exists.to_owned());
        self.upscales.push(to_json(&job.upscale));
        self.classes.push(job.class.as_str().to_owned());
        self.priorities.push(job.priority);
        self.max_attempts
            .push(i32::try_from(job.max_attempts).unwrap_or(i32::MAX));
        self.not_before.push(job.not_before);
        self.finish_by.push(job.finish_by);
        self.labels.push(to_json(&job.labels));
        self.warnings.push(to_json(&job.warnings));
        self.traceparents.push(new.traceparent.clone());
        self.costs.push(i64::from(new.cost));
        self.keys.push(new.key.as_ref().map(|key| key.key.clone()));
        let digest = new.key.as_ref().map(|key| key.request_sha256.clone());
        self.digests.push(digest);
    }
}
