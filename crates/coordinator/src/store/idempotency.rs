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

/// What was submitted under each key, if it is still remembered.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find(
    conn: &mut PgConnection,
    tenants: &[String],
    keys: &[String],
) -> Result<Vec<Option<Earlier>>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select job_id as "job_id?", request_sha256 as "request_sha256?"
        from unnest($1::text[], $2::text[]) with ordinality as asked (tenant, key, position)
        left join idempotency_keys as known
            on known.tenant = asked.tenant and known.key = asked.key
            and created_at > now() - make_interval(secs => $3)
        order by position"#,
        tenants,
        keys,
        KEPT.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    let earlier = rows.into_iter().map(|row| {
        Some(Earlier {
            job_id: JobId(row.job_id?),
            request_sha256: row.request_sha256?,
        })
    });
    Ok(earlier.collect())
}

/// Takes keys for the rest of the transaction. Returns the positions of those that another request has
/// right now.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(
    conn: &mut PgConnection,
    tenants: &[String],
    keys: &[String],
) -> Result<Vec<i64>, StoreError> {
    let busy = sqlx::query_scalar!(
        r#"
        select position - 1 as "position!"
        from unnest($1::text[], $2::text[]) with ordinality as asked (tenant, key, position)
        where not pg_try_advisory_xact_lock(hashtextextended(tenant || ' ' || key, 0))"#,
        tenants,
        keys,
    );
    Ok(busy.fetch_all(conn).await?)
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
