//! The `audit_log` table: who did what to keys and secrets.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StoreError;

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A key was made.
    KeyCreated,
    /// A key was made in another's place, which ends soon.
    KeyRotated,
    /// A key was ended.
    KeyRevoked,
    /// A webhook secret was made.
    SecretCreated,
    /// A webhook secret was ended.
    SecretEnded,
}

impl Act {
    const fn as_str(self) -> &'static str {
        match self {
            Self::KeyCreated => "key.created",
            Self::KeyRotated => "key.rotated",
            Self::KeyRevoked => "key.revoked",
            Self::SecretCreated => "webhook_secret.created",
            Self::SecretEnded => "webhook_secret.ended",
        }
    }
}

/// Notes an act upon `subject`, in the transaction that does it. `key_id` is the key that was used.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn note(
    conn: &mut PgConnection,
    tenant: &str,
    key_id: Option<&str>,
    act: Act,
    subject: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into audit_log (tenant, key_id, act, subject) values ($1, $2, $3, $4)",
        tenant,
        key_id,
        act.as_str(),
        subject,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Line {
    /// Grows.
    pub audit_id: i64,
    /// The key that was used, if it was one.
    pub key_id: Option<String>,
    /// What was done.
    pub act: String,
    /// To what.
    pub subject: String,
    /// When.
    pub happened_at: DateTime<Utc>,
}

/// A page of the tenant's log, newest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn page(
    conn: &mut PgConnection,
    tenant: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Line>, StoreError> {
    let lines = sqlx::query_as!(
        Line,
        r#"
        select audit_id, key_id, act, subject, happened_at
        from audit_log
        where tenant = $1 and audit_id < coalesce($2, 9223372036854775807)
        order by audit_id desc
        limit $3"#,
        tenant,
        before,
        limit,
    );
    Ok(lines.fetch_all(conn).await?)
}
