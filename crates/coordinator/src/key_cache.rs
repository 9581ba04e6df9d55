//! API keys that were checked a moment ago, so that a caller of many requests costs the database one
//! look every few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::auth::{self, Caller, PresentedKey};
use crate::store::{StoreError, within_patience};

/// After so long a key that another coordinator revoked is refused here, too.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Keys remembered at once; beyond them, those that are out of date are forgotten.
const MOST: usize = 10_000;

/// Keys that are in force. What is refused is not remembered.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<HashMap<String, Known>>);

#[derive(Debug)]
struct Known {
    digest: Vec<u8>,
    caller: Caller,
    checked: Instant,
}

impl KeyCache {
    /// Who presents this key; `None` when there is no such key in force.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn authenticate(
        &self,
        pool: &PgPool,
        key: &PresentedKey,
    ) -> Result<Option<Caller>, StoreError> {
        let digest = key.digest();
        if let Some(caller) = self.find(key.id(), &digest) {
            return Ok(Some(caller));
        }
        // The moment before the look: what is revoked while it lasts is not remembered for longer.
        let checked = Instant::now();
        // On the heap, as it is rare: every request carries room for what it may have to wait for.
        let caller = Box::pin(within_patience(async {
            let mut conn = pool.acquire().await?;
            auth::authenticate(&mut conn, key).await
        }))
        .await?;
        if let Some(caller) = &caller {
            self.remember(
                key.id().to_owned(),
                Known {
                    digest,
                    caller: caller.clone(),
                    checked,
                },
            );
        }
        Ok(caller)
    }

    /// Forgets a key that was just revoked.
    pub fn forget(&self, key_id: &str) {
        self.lock().remove(key_id);
    }

    fn find(&self, key_id: &str, digest: &[u8]) -> Option<Caller> {
        let known = self.lock();
        let known = known.get(key_id)?;
        let fresh = known.checked.elapsed() < REMEMBERED;
        (fresh && auth::equal_in_constant_time(&known.digest, digest)).then(|| known.caller.clone())
    }

    fn remember(&self, key_id: String, known: Known) {
        let mut keys = self.lock();
        if keys.len() >= MOST {
            keys.retain(|_, known| known.checked.elapsed() < REMEMBERED);
        }
        keys.insert(key_id, known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
