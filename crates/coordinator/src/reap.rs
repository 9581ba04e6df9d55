//! The reaper: picks up what was dropped. A lapsed lease goes back into the queue, or fails when
//! attempts are spent; an unfinished publication is finished; a job past its deadline expires.
//!
//! A reconciler: what [`Reaper`] does at each tick has no input, may run anywhere at any time, and several may run at once,
//! because everything it does is guarded by the lease token it saw.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::job::JobEvent;
use upres_common::lease::LeaseRef;
use upres_common::objects::ObjectStore;

use crate::config::RetryConfig;
use crate::fail::{Failed, fail};
use crate::lease::{self, LeftUpload};
use crate::publish::{self, Door};
use crate::store::jobs::{TransitionError, transition};
use crate::store::leases::{self, Lapsed};
use crate::store::{StoreError, in_seconds, within_patience};

/// Jobs looked at in one tick.
const BATCH: i64 = 100;
/// Publications finished at once.
const PUBLICATIONS: usize = 16;
/// A publication that does not end is looked at again after this long, and others come first.
const PUBLICATION_PAUSE: Duration = Duration::from_secs(30);
/// What an object store that hangs may cost a tick; what is not aborted is left to the janitor.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// What the reaper needs.
#[derive(Debug, Clone)]
pub struct Reaper {
    /// The database.
    pub pool: PgPool,
    /// The object store.
    pub objects: ObjectStore,
    /// Where publications are finished.
    pub door: Door,
    /// What an error costs.
    pub retry: RetryConfig,
    /// How long a lease lasts without a heartbeat.
    pub lease_ttl: Duration,
}

/// Since when heartbeats can be heard. While the database is away, or this process stands still, leases lapse
/// whose workers are well: each of them gets a whole lease to be heard again.
#[derive(Debug)]
struct Hearing {
    lease_ttl: Duration,
    /// Between two looks at the database.
    interval: Duration,
    since: Option<Instant>,
    last: Instant,
}

impl Hearing {
    fn new(lease_ttl: Duration, interval: Duration) -> Self {
        Self {
            lease_ttl,
            interval,
            since: None,
            last: Instant::now(),
        }
    }

    /// Takes note of how a look at the database ended. Returns whether a worker that is silent still has had its time.
    fn has_lasted(&mut self, is_well: bool, now: Instant) -> bool {
        // A gap of less than half a lease leaves time for a heartbeat before it or after it.
        let was_away = now - self.last > self.interval + self.lease_ttl / 2;
        if !is_well || was_away {
            self.since = None;
        }
        if is_well {
            self.last = now;
            self.since.get_or_insert(now);
        }
        self.since
            .is_some_and(|since| now - since >= self.lease_ttl)
    }
}

impl Reaper {
    /// Ticks until `stop`. Publications wait for the object store, so they have a loop of their own: a bucket
    /// that is away delays no other job. Deadlines have one, too: a hundred thousand of them take a while.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let goes_on = async || {
            let stopped = tokio::time::timeout(interval, stop.cancelled()).await;
            stopped.is_err()
        };
        let leases = async {
            let mut hearing = Hearing::new(self.lease_ttl, interval);
            while goes_on().await {
                let answered = within_patience(self.is_database_there()).await;
                let may_reap = hearing.has_lasted(answered.is_ok(), Instant::now());
                log(answered);
                if may_reap {
                    log(within_patience(self.tick_lapsed()).await);
                }
            }
        };
        let deadlines = async {
            while goes_on().await {
                // A hundred are done at a time, so that a program that is to stop has not long to wait.
                while log(within_patience(self.tick_overdue()).await) == Some(true)
                    && !stop.is_cancelled()
                {}
            }
        };
        tokio::join!(leases, deadlines, self.finish_publications(interval, &stop));
    }

    async fn is_database_there(&self) -> Result<(), StoreError> {
        sqlx::query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Looks once at all lapsed leases.
    ///
    /// # Errors
    /// [`StoreError`]; what was not reached is reached by the next tick.
    pub async fn tick_lapsed(&self) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let lapsed = leases::lapsed(&mut conn, false, BATCH).await?;
        drop(conn);
        let mut left = Vec::new();
        for job in lapsed {
            // One that cannot be done keeps no other waiting.
            if let Some(Some(upload_id)) = log(self.requeue(&job).await) {
                let output = job.output;
                left.push(LeftUpload { output, upload_id });
            }
        }
        self.abort(&left).await;
        Ok(())
    }

    /// Expires jobs past their deadlines. `true` when there may be more.
    ///
    /// # Errors
    /// [`StoreError`]; what was not reached is reached by the next tick.
    pub async fn tick_overdue(&self) -> Result<bool, StoreError> {
        let mut conn = self.pool.acquire().await?;
        let overdue = leases::overdue(&mut conn, BATCH).await?;
        // Some may have been claimed since we looked: they stay.
        let left = lease::end_all(&mut conn, &overdue, &JobEvent::Expired).await?;
        drop(conn);
        self.abort(&left).await;
        Ok(overdue.len() >= usize::try_from(BATCH).unwrap_or_default())
    }

    async fn abort(&self, left: &[LeftUpload]) {
        let aborts = left
            .iter()
            .map(|left| publish::abort(&self.objects, &left.output, &left.upload_id));
        let _ = tokio::time::timeout(ABORT_TIME, join_all(aborts)).await;
    }

    /// Finishes publications that were not finished in time, [`PUBLICATIONS`] at once: one that takes long, as its
    /// result is large or its store slow, holds up no other.
    async fn finish_publications(&self, interval: Duration, stop: &CancellationToken) {
        let (mut under_way, mut ids) = (FuturesUnordered::new(), HashSet::new());
        while !stop.is_cancelled() {
            let lapsed = within_patience(async {
                let mut conn = self.pool.acquire().await?;
                leases::lapsed(&mut conn, true, BATCH).await
            });
            for job in log(lapsed.await).unwrap_or_default() {
                if ids.len() < PUBLICATIONS && ids.insert(job.job_id) {
                    under_way.push(async move {
                        let _ = log(self.finish(&job).await);
                        job.job_id
                    });
                }
            }
            let next_look = tokio::time::sleep(interval);
            tokio::pin!(next_look);
            loop {
                tokio::select! {
                    Some(ended) = under_way.next() => drop(ids.remove(&ended)),
                    () = &mut next_look => break,
                    () = stop.cancelled() => break,
                }
            }
        }
        // Safe to drop, but whoever takes them over begins anew.
        while under_way.next().await.is_some() {}
    }

    /// Ends the attempt if its lease is still lapsed. Returns the upload that it leaves behind, unless the
    /// next attempt goes on with it.
    async fn requeue(&self, job: &Lapsed) -> Result<Option<String>, StoreError> {
        let lease = reference(job);
        match fail(&self.pool, lease, &Failed::lost(), &self.retry).await {
            Ok(_) => metrics::counter!("upres_leases_lapsed_total").increment(1),
            // Renewed or settled since we looked.
            Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => return Ok(None),
            Err(TransitionError::Store(error)) => return Err(error),
        }
        let Some(upload_id) = &job.upload_id else {
            return Ok(None);
        };
        // Asked only now: since the look that found the lease lapsed the attempt may have told from where
        // another can go on.
        let mut conn = self.pool.acquire().await?;
        let named = leases::names_upload(&mut conn, job.job_id, upload_id).await?;
        Ok((!named).then(|| upload_id.clone()))
    }

    async fn finish(&self, job: &Lapsed) -> Result<(), StoreError> {
        let id = job.job_id;
        if !self.renew_publication(job).await? {
            return Ok(());
        }
        let finishing = self.door.finish(id);
        tokio::pin!(finishing);
        let finished = loop {
            tokio::select! {
                finished = &mut finishing => break finished,
                // Else another coordinator does the same beside this one.
                () = tokio::time::sleep(PUBLICATION_PAUSE / 3) => drop(log(self.renew_publication(job).await)),
            }
        };
        match finished {
            Ok(state) => tracing::info!(job.id = %id, state, "unfinished publication finished"),
            Err(error) => {
                tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "publication stays unfinished for now");
            }
        }
        Ok(())
    }

    /// `false` when it is over, or somebody else's.
    async fn renew_publication(&self, job: &Lapsed) -> Result<bool, StoreError> {
        let (id, token) = (job.job_id, job.token);
        let renewed = within_patience(async {
            let mut tx = self.pool.begin().await?;
            let lease_until = in_seconds(&mut tx, PUBLICATION_PAUSE.as_secs_f64()).await?;
            transition(&mut tx, id, &JobEvent::Renewed { token, lease_until }).await?;
            Ok(tx.commit().await?)
        });
        match renewed.await {
            Ok(()) => Ok(true),
            Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => Ok(false),
            Err(TransitionError::Store(error)) => Err(error),
        }
    }
}

const fn reference(job: &Lapsed) -> LeaseRef {
    LeaseRef {
        job_id: job.job_id,
        token: job.token,
    }
}

fn log<T>(done: Result<T, StoreError>) -> Option<T> {
    done.inspect_err(|error| {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "reaper waits for the database"
        );
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_could_not_be_heard_gets_a_whole_lease() {
        let secs = Duration::from_secs;
        let mut hearing = Hearing::new(secs(60), secs(5));
        let begun = hearing.last;
        let mut look = |is_well, at| hearing.has_lasted(is_well, begun + secs(at));
        assert!(!look(true, 5), "it just began");
        assert!(!look(true, 35));
        assert!(look(true, 65), "a lease later");
        assert!(!look(false, 70), "away");
        assert!(!look(true, 75));
        assert!(!look(true, 100) && !look(true, 130), "counted anew");
        assert!(look(true, 135));
        assert!(look(true, 170), "a short silence");
        assert!(!look(true, 206), "a long one");
        assert!(!look(true, 240) && look(true, 266));
    }
}
