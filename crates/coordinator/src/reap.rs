//! The reaper: picks up what was dropped. A lapsed lease goes back into the queue, or fails when
//! attempts are spent; an unfinished publication is finished; a job past its deadline expires.
//!
//! A reconciler: [`Reaper::tick`] has no input, may run anywhere at any time, and several may run at once,
//! because everything it does is guarded by the lease token it saw.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::job::{JobEvent, JobId};
use upres_common::lease::LeaseRef;
use upres_common::objects::ObjectStore;

use crate::config::RetryConfig;
use crate::fail::{Failed, fail};
use crate::publish::{self, Door};
use crate::store::jobs::{TransitionError, transition};
use crate::store::leases::{self, Lapsed};
use crate::store::{StoreError, in_seconds, outbox, within_patience};

/// Jobs looked at in one tick.
const BATCH: i64 = 100;
/// Publications finished at once.
const PUBLICATIONS: usize = 16;
/// A publication that does not end is looked at again after this long, and others come first.
const PUBLICATION_PAUSE_SECS: f64 = 30.0;
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
}

impl Reaper {
    /// Ticks until `stop`. Publications wait for the object store, so they have a loop of their own:
    /// a bucket that is away delays no other job.
    pub async fn run(self, interval: Duration, stop: CancellationToken) {
        let leases = async {
            while tokio::time::timeout(interval, stop.cancelled())
                .await
                .is_err()
            {
                log(within_patience(self.tick()).await);
            }
        };
        let publications = async {
            while tokio::time::timeout(interval, stop.cancelled())
                .await
                .is_err()
            {
                log(self.tick_publications().await);
            }
        };
        tokio::join!(leases, publications);
    }

    /// Looks once at all lapsed leases and deadlines.
    ///
    /// # Errors
    /// [`StoreError`]; what was not reached is reached by the next tick.
    pub async fn tick(&self) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let lapsed = leases::lapsed(&mut conn, false, BATCH).await?;
        let overdue = leases::overdue(&mut conn, BATCH).await?;
        drop(conn);
        let mut left = Vec::new();
        for job in lapsed {
            let Some(upload_id) = self.requeue(&job).await? else {
                continue;
            };
            left.push((job.output, upload_id));
        }
        for id in overdue {
            left.extend(expire(&self.pool, id).await?);
        }
        let aborts = left
            .iter()
            .map(|(output, upload_id)| publish::abort(&self.objects, output, upload_id));
        let _ = tokio::time::timeout(ABORT_TIME, join_all(aborts)).await;
        Ok(())
    }

    /// Looks once at all publications that were not finished in time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tick_publications(&self) -> Result<(), StoreError> {
        let lapsed = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            leases::lapsed(&mut conn, true, BATCH).await
        });
        stream::iter(lapsed.await?)
            .for_each_concurrent(PUBLICATIONS, |job| async move {
                log(self.finish(&job).await);
            })
            .await;
        Ok(())
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
        let (id, token) = (job.job_id, job.token);
        let renewed = within_patience(async {
            let mut tx = self.pool.begin().await?;
            let lease_until = in_seconds(&mut tx, PUBLICATION_PAUSE_SECS).await?;
            transition(&mut tx, id, &JobEvent::Renewed { token, lease_until }).await?;
            Ok(tx.commit().await?)
        });
        match renewed.await {
            Ok(()) => {}
            Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => return Ok(()),
            Err(TransitionError::Store(error)) => return Err(error),
        }
        match self.door.finish(id).await {
            Ok(state) => tracing::info!(job.id = %id, state, "unfinished publication finished"),
            Err(error) => {
                tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "publication stays unfinished for now");
            }
        }
        Ok(())
    }
}

const fn reference(job: &Lapsed) -> LeaseRef {
    LeaseRef {
        job_id: job.job_id,
        token: job.token,
    }
}

fn log(done: Result<(), StoreError>) {
    if let Err(error) = done {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "reaper waits for the database"
        );
    }
}

/// Returns the upload that was kept for the job and is to be aborted, and where it was to go.
async fn expire(pool: &PgPool, id: JobId) -> Result<Option<(String, String)>, StoreError> {
    let mut tx = pool.begin().await?;
    let kept = leases::uploads(&mut tx, &[id.0]).await?.pop();
    match transition(&mut tx, id, &JobEvent::Expired).await {
        Ok(_) => {
            outbox::delete(&mut tx, &[id.0]).await?;
            tx.commit().await?;
            tracing::info!(job.id = %id, "job expired before it started");
            metrics::counter!("upres_jobs_total", "outcome" => "expired").increment(1);
            Ok(kept)
        }
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => Ok(None),
        Err(TransitionError::Store(error)) => Err(error),
    }
}
