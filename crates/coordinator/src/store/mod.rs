//! All SQL, one file a table. Functions take a connection: the caller owns the transaction, and no
//! transaction spans a call over the network.

pub mod attempts;
pub mod audit;
pub mod batches;
pub mod events;
pub mod explain;
pub mod idempotency;
pub mod jobs;
pub mod kept;
pub mod keys;
pub mod leases;
pub mod listing;
pub mod outbox;
pub mod publications;
pub mod retention;
pub mod submissions;
pub mod unpriced;
pub mod webhook_secrets;
pub mod webhooks;
pub mod workers;

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

/// The schema, applied in order by `migrate` and at the start of `serve`. What a later release has applied beside
/// it is passed over: a coordinator may be started again while others are newer already.
pub static MIGRATOR: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("../../migrations")
};

/// A request waits this long for a free connection before it is answered with 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection may fall silent without an end (a firewall forgot it, a machine vanished). Its session
/// would hold its locks for hours: rows of jobs, the key of a submission. No transaction of ours waits
/// for anything but the database.
const SESSION: &str = "
    set idle_in_transaction_session_timeout = '10s';
    set tcp_keepalives_idle = 10;
    set tcp_keepalives_interval = 5;
    set tcp_keepalives_count = 3;";

/// Longer than any tick or batch takes. Nothing tells our end of a connection that fell silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than a connection that lives takes to say so, before it goes back into the pool, and when it is taken
/// again. The pool itself would wait for ever in the one case, and miss the connection; in the other, until
/// whoever asked has to go away without one. So it is replaced.
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// The database failed, or holds what this program cannot read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database, or the connection to it.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// A stored value that does not parse.
    #[error("job {job_id} holds an unreadable {column}")]
    Unreadable {
        /// Which job.
        job_id: uuid::Uuid,
        /// Which column.
        column: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    /// Whether the database looked at it and refused, so that the transaction is rolled back for
    /// certain. Not so when the server or the connection went away.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| !code.starts_with("57") && !code.starts_with("08")),
            _ => false,
        }
    }

    /// Whether a unique index stood against it.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.is_unique_violation(),
            _ => false,
        }
    }
}

/// Opens a pool. Connects on first use, so that a coordinator may start before its database.
///
/// # Errors
/// A sentence when the address cannot be read.
pub fn pool(url: &SecretString, max_connections: u32) -> Result<PgPool, String> {
    let text = url.expose_secret();
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("--database-url must begin with postgres:// or postgresql://".to_owned());
    }
    let options: PgConnectOptions = text
        .parse()
        .map_err(|error| format!("--database-url cannot be read: {error}"))?;
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|conn, _| {
            Box::pin(async move { sqlx::raw_sql(SESSION).execute(conn).await.map(drop) })
        })
        .test_before_acquire(false)
        .before_acquire(|conn, _| Box::pin(is_well(conn)))
        .after_release(|conn, _| Box::pin(is_well(conn)))
        .connect_lazy_with(options.application_name("upres-coordinator")))
}

async fn is_well(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let answer = tokio::time::timeout(PING_PATIENCE, conn.ping()).await;
    answer.unwrap_or_else(|_| Err(silent())).map(|()| true)
}

/// Gives `work` up when the database says nothing for long, so that whoever does it again and again
/// does not stop for ever.
///
/// # Errors
/// Those of `work`, or that it was given up.
pub async fn within_patience<T, E: From<StoreError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(PATIENCE, work).await
}

/// The same for work that takes longer than a request or a tick may.
///
/// # Errors
/// Those of `work`, or that it was given up.
pub async fn within<T, E: From<StoreError>>(
    patience: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = tokio::time::timeout(patience, work).await;
    done.unwrap_or_else(|_| Err(StoreError::Database(silent()).into()))
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

/// The database's clock at the start of the transaction, `seconds` later.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn in_seconds(
    conn: &mut PgConnection,
    seconds: f64,
) -> Result<DateTime<Utc>, StoreError> {
    let time = sqlx::query_scalar!(
        r#"select now() + make_interval(secs => $1) as "time!""#,
        seconds
    );
    Ok(time.fetch_one(conn).await?)
}

/// Reads a stored JSON value.
fn from_json<T: serde::de::DeserializeOwned>(
    job_id: uuid::Uuid,
    column: &'static str,
    value: serde_json::Value,
) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|source| StoreError::Unreadable {
        job_id,
        column,
        source,
    })
}

/// Plain data always becomes JSON.
fn to_json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("only plain data with text keys is stored")
}
