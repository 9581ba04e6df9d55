//! The reaper: picks up what was dropped. A lapsed lease goes back into the queue, or fails when
//! attempts are spent; an unfinished publication is finished; a job past its deadline expires.
//!
//! A reconciler: [`tick`] has no input, may run anywhere at any time, and several may run at once,
//! because everything it does is guarded by the lease token it saw.

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::job::{JobEvent, JobId};
use upres_common::lease::LeaseRef;
use upres_common::objects::ObjectStore;

use crate::config::RetryConfig;
use crate::lease::{self, Failed};
use crate::publish;
use crate::store::jobs::{TransitionError, transition};
use crate::store::leases::{self, Lapsed};
use crate::store::{StoreError, outbox};

/// Jobs looked at in one tick.
const BATCH: i64 = 100;

/// Ticks until `stop`.
pub async fn run(
    pool: PgPool,
    objects: ObjectStore,
    retry: RetryConfig,
    interval: Duration,
    stop: CancellationToken,
) {
    while tokio::time::timeout(interval, stop.cancelled())
        .await
        .is_err()
    {
        if let Err(error) = tick(&pool, &objects, &retry).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "reaper waits for the database"
            );
        }
    }
}

/// Looks once at everything that may have been dropped.
///
/// # Errors
/// [`StoreError`]; what was not reached is reached by the next tick.
pub async fn tick(
    pool: &PgPool,
    objects: &ObjectStore,
    retry: &RetryConfig,
) -> Result<(), StoreError> {
    let mut conn = pool.acquire().await?;
    let lapsed = leases::lapsed(&mut conn, BATCH).await?;
    let overdue = leases::overdue(&mut conn, BATCH).await?;
    drop(conn);
    for job in lapsed {
        if job.publishing {
            finish(pool, objects, retry, job.job_id).await;
        } else {
            requeue(pool, objects, retry, &job).await?;
        }
    }
    for id in overdue {
        expire(pool, id).await?;
    }
    Ok(())
}

async fn requeue(
    pool: &PgPool,
    objects: &ObjectStore,
    retry: &RetryConfig,
    job: &Lapsed,
) -> Result<(), StoreError> {
    metrics::counter!("upres_leases_lapsed_total").increment(1);
    let lease = LeaseRef {
        job_id: job.job_id,
        token: job.token,
    };
    match lease::fail(pool, lease, &Failed::lost(), retry).await {
        Ok(_) => {
            if let Some(upload_id) = &job.upload_id {
                publish::abort(objects, &job.output, upload_id).await;
            }
            Ok(())
        }
        // Renewed or settled since we looked.
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => Ok(()),
        Err(TransitionError::Store(error)) => Err(error),
    }
}

async fn finish(pool: &PgPool, objects: &ObjectStore, retry: &RetryConfig, id: JobId) {
    match publish::finish(pool, objects, retry, id).await {
        Ok(state) => tracing::info!(job.id = %id, state, "unfinished publication finished"),
        Err(error) => {
            tracing::warn!(job.id = %id, error = &error as &dyn std::error::Error, "publication stays unfinished for now");
        }
    }
}

async fn expire(pool: &PgPool, id: JobId) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    match transition(&mut tx, id, &JobEvent::Expired).await {
        Ok(_) => {
            outbox::delete(&mut tx, &[id.0]).await?;
            tx.commit().await?;
            tracing::info!(job.id = %id, "job expired before it started");
            metrics::counter!("upres_jobs_total", "outcome" => "expired").increment(1);
            Ok(())
        }
        Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => Ok(()),
        Err(TransitionError::Store(error)) => Err(error),
    }
}
