//! The `api_keys` table.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;

/// A stored key, without its secret.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The public half.
    pub key_id: String,
    /// Whose jobs it sees.
    pub tenant: String,
    /// What it is for.
    pub label: String,
    /// Digest of the secret half.
    pub secret_sha256: Vec<u8>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What its jobs may read.
    pub read_prefixes: Vec<String>,
    /// Where its jobs may write.
    pub write_prefixes: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Inserts a key that is good for `lifetime`, or for ever.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    conn: &mut PgConnection,
    key: &StoredKey,
    lifetime: Option<Duration>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into api_keys (key_id, tenant, label, secret_sha256, scopes, read_prefixes,
            write_prefixes, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))"#,
        key.key_id,
        key.tenant,
        key.label,
        key.secret_sha256,
        &key.scopes,
        &key.read_prefixes,
        &key.write_prefixes,
        lifetime.map(|lifetime| lifetime.as_secs_f64()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The key of that id, unless it was revoked or is past its end.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find(conn: &mut PgConnection, key_id: &str) -> Result<Option<StoredKey>, StoreError> {
    let key = sqlx::query_as!(
        StoredKey,
        r#"
        select key_id, tenant, label, secret_sha256, scopes, read_prefixes, write_prefixes,
            created_at, expires_at
        from api_keys
        where key_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())"#,
        key_id
    );
    Ok(key.fetch_optional(conn).await?)
}

/// The keys of a tenant that are in force, oldest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn list(conn: &mut PgConnection, tenant: &str) -> Result<Vec<StoredKey>, StoreError> {
    let keys = sqlx::query_as!(
        StoredKey,
        r#"
        select key_id, tenant, label, secret_sha256, scopes, read_prefixes, write_prefixes,
            created_at, expires_at
        from api_keys
        where tenant = $1 and revoked_at is null and (expires_at is null or expires_at > now())
        order by created_at, key_id"#,
        tenant
    );
    Ok(keys.fetch_all(conn).await?)
}

/// Lets a key end after `rest`, unless it ends sooner.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end_after(
    conn: &mut PgConnection,
    key_id: &str,
    rest: Duration,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update api_keys
        set expires_at = least(expires_at, now() + make_interval(secs => $2))
        where key_id = $1"#,
        key_id,
        rest.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a key. Returns whether there was one to end.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn revoke(
    conn: &mut PgConnection,
    tenant: &str,
    key_id: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        r#"
        update api_keys
        set revoked_at = now()
        where tenant = $1 and key_id = $2 and revoked_at is null"#,
        tenant,
        key_id,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Locks the table against a second program that also looks whether a first key is needed, and
/// tells whether one is.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_and_is_empty(conn: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query!("lock table api_keys in share row exclusive mode")
        .execute(&mut *conn)
        .await?;
    let any = sqlx::query_scalar!(r#"select exists (select 1 from api_keys) as "any!""#);
    Ok(!any.fetch_one(conn).await?)
}
