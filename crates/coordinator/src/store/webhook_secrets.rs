//! The `webhook_secrets` table: what deliveries are signed with.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;

/// A secret, without itself.
#[derive(Debug, Clone)]
pub struct SecretRow {
    /// Its name.
    pub secret_id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends, if that is known.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Adds a secret. The one before it signs beside it for `overlap` more; any other ends.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    conn: &mut PgConnection,
    tenant: &str,
    id: Uuid,
    secret: &[u8],
    overlap: Duration,
) -> Result<(), StoreError> {
    // One after the other: each must find what the other has made.
    let lock = sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('webhook secrets of ' || $1, 0))",
        tenant
    );
    lock.execute(&mut *conn).await?;
    sqlx::query!(
        r#"
        update webhook_secrets
        set expires_at = least(expires_at, case secret_id
            when (
                select secret_id
                from webhook_secrets
                where tenant = $1 and (expires_at is null or expires_at > now())
                order by created_at desc, secret_id desc
                limit 1
            ) then now() + make_interval(secs => $2)
            else now()
        end)
        where tenant = $1"#,
        tenant,
        overlap.as_secs_f64(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into webhook_secrets (secret_id, tenant, secret) values ($1, $2, $3)",
        id,
        tenant,
        secret,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The tenant's secrets that are in force, the newest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn list(conn: &mut PgConnection, tenant: &str) -> Result<Vec<SecretRow>, StoreError> {
    let rows = sqlx::query_as!(
        SecretRow,
        r#"
        select secret_id, created_at, expires_at
        from webhook_secrets
        where tenant = $1 and (expires_at is null or expires_at > now())
        order by created_at desc, secret_id desc"#,
        tenant,
    );
    Ok(rows.fetch_all(conn).await?)
}

/// The secrets themselves, the newest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn in_force(conn: &mut PgConnection, tenant: &str) -> Result<Vec<Vec<u8>>, StoreError> {
    let secrets = sqlx::query_scalar!(
        r#"
        select secret
        from webhook_secrets
        where tenant = $1 and (expires_at is null or expires_at > now())
        order by created_at desc, secret_id desc"#,
        tenant,
    );
    Ok(secrets.fetch_all(conn).await?)
}

/// Ends a secret at once. Returns whether there was one to end.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end(conn: &mut PgConnection, tenant: &str, id: Uuid) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        r#"
        update webhook_secrets
        set expires_at = now()
        where tenant = $1 and secret_id = $2 and (expires_at is null or expires_at > now())"#,
        tenant,
        id,
    );
    Ok(done.execute(conn).await?.rows_affected() > 0)
}
