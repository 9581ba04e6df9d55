//! Changes: wakes those who wait for a job (or anything else with an id) to change, and remembers what a
//! poller needs to hear that nothing did.
//!
//! Whoever changes a job says so on the channel `upres_changes`, in the same transaction. One connection
//! of this process listens. What it hears forgets the remembered glance first and wakes the waiters
//! then. As long as it hears nothing, nothing has changed, so a glance may be kept; when the connection
//! has given no sign of life for a while, nothing remembered is believed, and those who wait look for
//! themselves from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use sqlx::{Executor as _, PgPool};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::events::Glance;

const CHANNEL: &str = "upres_changes";
/// A connection that is silent for so long is asked for a sign of life …
const PING_AFTER: Duration = Duration::from_secs(5);
/// … which it has to give within this time.
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// Without a sign of life for so long nothing remembered is believed.
const BELIEVED: Duration = PING_AFTER.saturating_add(PING_PATIENCE);
/// Between two tries to listen.
const RECONNECT: Duration = Duration::from_secs(1);
/// Glances remembered at once; beyond them all are forgotten.
const MOST: usize = 100_000;

/// Who waits, and what was seen.
#[derive(Debug, Default)]
pub struct Changes {
    waiting: Mutex<HashMap<Uuid, Waiting>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Waiting {
    bell: Arc<Notify>,
    waiters: usize,
}

#[derive(Debug, Default)]
struct Seen {
    alive: Option<Instant>,
    looks: u64,
    glances: HashMap<Uuid, Remembered>,
}

#[derive(Debug)]
enum Remembered {
    /// Somebody looks right now; void as soon as a change is heard of.
    Look(u64),
    Glance(Arc<str>, Glance, Instant),
}

/// The right to remember what a look finds, unless a change comes in between.
#[derive(Debug, Clone, Copy)]
pub struct Look(u64);

impl Changes {
    /// Waits for changes of `id`. Ask for [`Watch::change`] first, then look, then await it: no change
    /// falls between.
    #[must_use]
    pub fn watch(self: &Arc<Self>, id: Uuid) -> Watch {
        let mut waiting = lock(&self.waiting);
        let entry = waiting.entry(id).or_default();
        entry.waiters += 1;
        Watch {
            changes: Arc::clone(self),
            id,
            bell: Arc::clone(&entry.bell),
        }
    }

    /// Something about `id` has changed, and was committed.
    pub fn tell(&self, id: Uuid) {
        lock(&self.seen).glances.remove(&id);
        if let Some(entry) = lock(&self.waiting).get(&id) {
            entry.bell.notify_waiters();
        }
    }

    /// Anything may have changed.
    fn tell_all(&self) {
        lock(&self.seen).glances.clear();
        for entry in lock(&self.waiting).values() {
            entry.bell.notify_waiters();
        }
    }

    /// What was last seen of the job, and when, if it is sure to be so still.
    #[must_use]
    pub fn remembered(&self, tenant: &str, id: Uuid) -> Option<(Glance, Instant)> {
        let seen = lock(&self.seen);
        if seen.alive.is_none_or(|alive| alive.elapsed() >= BELIEVED) {
            return None;
        }
        match seen.glances.get(&id)? {
            Remembered::Glance(owner, glance, since) if **owner == *tenant => {
                Some((glance.clone(), *since))
            }
            _ => None,
        }
    }

    /// To be called before a look at the database whose finding is to be remembered.
    #[must_use]
    pub fn look(&self, id: Uuid) -> Look {
        let mut seen = lock(&self.seen);
        seen.looks += 1;
        let look = seen.looks;
        if seen.glances.len() >= MOST {
            seen.glances.clear();
        }
        seen.glances.insert(id, Remembered::Look(look));
        Look(look)
    }

    /// Remembers what the look found; nothing, if a change was heard of or somebody looked later.
    pub fn remember(&self, tenant: &str, id: Uuid, look: Look, glance: Option<&Glance>) {
        let mut seen = lock(&self.seen);
        let Some(Remembered::Look(last)) = seen.glances.get(&id) else {
            return;
        };
        if *last != look.0 {
            return;
        }
        match glance {
            Some(glance) => {
                let known = Remembered::Glance(tenant.into(), glance.clone(), Instant::now());
                seen.glances.insert(id, known);
            }
            None => drop(seen.glances.remove(&id)),
        }
    }

    /// Listens until `stop`, over connections beside the pool's, reconnecting as often as it takes.
    pub async fn listen(self: Arc<Self>, pool: PgPool, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                heard = self.hear(&pool) => if let Err(error) = heard {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot listen for changes, will try again");
                },
                () = stop.cancelled() => return,
            }
            lock(&self.seen).alive = None;
            let _ = tokio::time::timeout(RECONNECT, stop.cancelled()).await;
        }
    }

    /// Listens until the connection is lost.
    async fn hear(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        // For this one connection, which may never come back: a listener that is dropped says goodbye first, and to
        // a connection that fell silent it does so for ever.
        let own = pool.options().clone().max_connections(1);
        let own = own.connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await?;
        let begun = tokio::time::timeout(PING_PATIENCE, listener.listen(CHANNEL)).await;
        begun.map_err(|_| sqlx::Error::PoolTimedOut)??;
        metrics::counter!("upres_listening_begun_total").increment(1);
        lock(&self.seen).alive = Some(Instant::now());
        // Whatever happened before is known to nobody.
        self.tell_all();
        loop {
            match tokio::time::timeout(PING_AFTER, listener.try_recv()).await {
                Ok(heard) => match heard? {
                    Some(told) => told
                        .payload()
                        .split(',')
                        .filter_map(|id| id.parse().ok())
                        .for_each(|id| self.tell(id)),
                    None => return Ok(()),
                },
                Err(_) => {
                    let ping = listener.execute("select 1");
                    let answer = tokio::time::timeout(PING_PATIENCE, ping).await;
                    answer.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
            lock(&self.seen).alive = Some(Instant::now());
        }
    }
}

/// Somebody who waits for changes of one id.
#[derive(Debug)]
pub struct Watch {
    changes: Arc<Changes>,
    id: Uuid,
    bell: Arc<Notify>,
}

impl Watch {
    /// Resolves with the next change after this call.
    pub fn change(&self) -> OwnedNotified {
        Arc::clone(&self.bell).notified_owned()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = lock(&self.changes.waiting);
        if let Some(entry) = waiting.get_mut(&self.id) {
            entry.waiters -= 1;
            if entry.waiters == 0 {
                waiting.remove(&self.id);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::events::Stage;

    fn glance(version: i64) -> Glance {
        Glance {
            version,
            ended: false,
            stage: Stage::Running(None),
        }
    }

    fn listening() -> Arc<Changes> {
        let changes = Arc::new(Changes::default());
        lock(&changes.seen).alive = Some(Instant::now());
        changes
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_its_own_id_only_and_leaves_nothing_behind() {
        let (changes, id) = (listening(), Uuid::now_v7());
        let watch = changes.watch(id);
        let change = watch.change();
        tokio::pin!(change);
        changes.tell(Uuid::now_v7());
        assert!(futures_util::poll!(&mut change).is_pending());
        changes.tell(id);
        change.await;
        drop(watch);
        assert!(lock(&changes.waiting).is_empty());
    }

    #[test]
    fn a_change_during_a_look_voids_what_the_look_finds() {
        let (changes, id) = (listening(), Uuid::now_v7());
        let look = changes.look(id);
        changes.tell(id);
        changes.remember("a", id, look, Some(&glance(1)));
        assert!(changes.remembered("a", id).is_none());

        let (first, second) = (changes.look(id), changes.look(id));
        changes.remember("a", id, second, Some(&glance(3)));
        changes.remember("a", id, first, Some(&glance(2)));
        let (found, _) = changes.remembered("a", id).unwrap();
        assert_eq!(found, glance(3));
        assert!(changes.remembered("b", id).is_none(), "another tenant's");
        lock(&changes.seen).alive = None;
        assert!(changes.remembered("a", id).is_none(), "nobody listens");
    }
}
