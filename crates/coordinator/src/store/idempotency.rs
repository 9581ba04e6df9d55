//! The `idempotency_keys` table: what was submitted under which key.

use std::time::Duration;

use sqlx::PgConnection;
use upres_common::job::JobId;

use super::StoreError;

/// How long a key is remembered.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What was submitted under a key before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The job it became.
    pub job_id: JobId,
    /// Digest of the request.
    pub request_sha256: Vec<u8>,
}

/// What was submitted under `key`, if it is still remembered.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find(
    conn: &mut PgConnection,
    tenant: &str,
    key: &str,
) -> Result<Option<Earlier>, StoreError> {
    let row = sqlx::query!(
        r#"
        select job_id, request_sha256
        from idempotency_keys
        where tenant = $1 and key = $2 and created_at > now() - make_interval(secs => $3)"#,
        tenant,
        key,
        KEPT.as_secs_f64(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Earlier {
        job_id: JobId(row.job_id),
        request_sha256: row.request_sha256,
    }))
}

/// Takes the key for the rest of the transaction. `false`: another request has it right now.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(conn: &mut PgConnection, tenant: &str, key: &str) -> Result<bool, StoreError> {
    let locked = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0)) as "locked!""#,
        tenant,
        key,
    );
    Ok(locked.fetch_one(conn).await?)
}

/// Remembers the job that a request became. One that was forgotten by age makes way.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remember(
    conn: &mut PgConnection,
    tenant: &str,
    key: &str,
    earlier: &Earlier,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into idempotency_keys (tenant, key, request_sha256, job_id)
        values ($1, $2, $3, $4)
        on conflict (tenant, key) do update
        set request_sha256 = $3, job_id = $4, created_at = now()"#,
        tenant,
        key,
        earlier.request_sha256,
        earlier.job_id.0,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets keys by age, at most `limit` at once. Returns how many.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forget(conn: &mut PgConnection, limit: i64) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"
        delete from idempotency_keys
        where (tenant, key) in (
            select tenant, key
            from idempotency_keys
            where created_at <= now() - make_interval(secs => $1)
            limit $2
        )"#,
        KEPT.as_secs_f64(),
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// How many keys [`forget`] would forget.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_old(conn: &mut PgConnection) -> Result<u64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
        from idempotency_keys
        where created_at <= now() - make_interval(secs => $1)"#,
        KEPT.as_secs_f64(),
    );
    Ok(u64::try_from(count.fetch_one(conn).await?).unwrap_or_default())
}
