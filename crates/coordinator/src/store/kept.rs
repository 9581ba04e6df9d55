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

/// One in so many connections of a pool is never kept.
const LEFT_FOR_OTHERS: u32 = 3;

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

    /// Keeps it for the next use, if the pool has enough without it: what is kept serves nobody else, and
    /// whoever keeps one may not need it again for hours.
    pub fn keep(&self, conn: PoolConnection<Postgres>) {
        let most = self.pool.options().get_max_connections();
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let free = most.saturating_sub(self.pool.size()).saturating_add(idle);
        if free >= most.div_ceil(LEFT_FOR_OTHERS) {
            *self.lock() = Some((conn, Instant::now()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(PoolConnection<Postgres>, Instant)>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
