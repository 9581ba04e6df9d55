//! A connection that is kept for work that comes again and again.
//!
//! The pool asks a connection for a sign of life whenever it is taken and twice when it comes back.
//! Under load that is most of what the database is asked.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

use super::StoreError;

/// Kept unused for longer, it goes back to the pool, which looks whether it lives.
const FRESH: Duration = Duration::from_secs(1);

/// At most one connection, between two uses.
#[derive(Debug)]
pub struct Kept {
    pool: PgPool,
    unused: Mutex<Option<(PoolConnection<Postgres>, Instant)>>,
}

impl Kept {
    /// Keeps a connection of this pool.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        Self {
            pool: pool.clone(),
            unused: Mutex::new(None),
        }
    }

    /// Takes the connection. One on which something went wrong is not to come back here: dropped, it
    /// goes to the pool, which tests it.
    ///
    /// # Errors
    /// [`StoreError::Database`] when none can be had.
    pub async fn take(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let unused = self.lock().take();
        if let Some((conn, since)) = unused
            && since.elapsed() < FRESH
        {
            return Ok(conn);
        }
        Ok(self.pool.acquire().await?)
    }

    /// Keeps it for the next use.
    pub fn keep(&self, conn: PoolConnection<Postgres>) {
        *self.lock() = Some((conn, Instant::now()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(PoolConnection<Postgres>, Instant)>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
