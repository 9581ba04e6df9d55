//! Carry out: what the owner of a batch asked for in one word (cancel it, retry its failed jobs, move it to
//! another class) is done to its jobs in pieces, and a batch of which every job has ended is ended itself.
//!
//! A reconciler: [`Steward::tick`] has no input, may run anywhere at any time, and several may run at once.
//! The end of a batch is found by looking at its jobs and not by counting them down: a counter would be a
//! row that every completion waits for, and one that is wrong once is wrong for ever.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::objects::ObjectStore;

use super::report::ReportError;
use super::{bag, report};
use crate::dispatch::Bell;
use crate::store::batches::promised::{self, Ended};
use crate::store::{StoreError, webhooks, within, within_patience};
use crate::{lease, publish};

/// Jobs in one transaction.
const PIECE: i64 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What an object store that hangs may cost a tick; what is not aborted is left to the janitor.
const ABORT_TIME: Duration = Duration::from_secs(5);
/// A report of half a million lines takes a while.
const REPORT_TIME: Duration = Duration::from_secs(900);

/// What it needs.
#[derive(Debug, Clone)]
pub struct Steward {
    /// The database.
    pub pool: PgPool,
    /// The object store.
    pub objects: ObjectStore,
    /// Rung for jobs that wait again.
    pub bell: Arc<Bell>,
}

impl Steward {
    /// Ticks until `stop`. Reports wait for the object store, so the ends of batches have a loop of their own.
    pub async fn run(self, stop: CancellationToken) {
        let promises = async {
            while !stop.is_cancelled() {
                if log(within_patience(self.tick()).await) != Some(true) {
                    let _ = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await;
                }
            }
        };
        let ends = async {
            while tokio::time::timeout(LOOK_EVERY, stop.cancelled())
                .await
                .is_err()
            {
                log(self.tick_ends().await);
            }
        };
        tokio::join!(promises, ends);
    }

    /// Does one piece of everything that was promised. `true` when there may be more.
    ///
    /// # Errors
    /// [`StoreError`]; what was not reached is reached by the next tick.
    pub async fn tick(&self) -> Result<bool, StoreError> {
        let mut more = self.cancel().await?;
        let mut conn = self.pool.acquire().await?;
        let retries = promised::retries(&mut conn).await?;
        more |= promised::reclass(&mut conn, PIECE).await? > 0;
        for retry in retries {
            let ids = promised::to_retry(&mut conn, &retry, PIECE).await?;
            if ids.is_empty() {
                promised::retried(&mut conn, &retry).await?;
                continue;
            }
            lease::revive_all(&mut conn, &ids).await?;
            self.bell.work.ring();
            more = true;
        }
        Ok(more)
    }

    async fn cancel(&self) -> Result<bool, StoreError> {
        let mut conn = self.pool.acquire().await?;
        let ids = promised::to_cancel(&mut conn, PIECE).await?;
        if ids.is_empty() {
            return Ok(false);
        }
        let left = lease::cancel_all(&mut conn, &ids).await?;
        drop(conn);
        let aborts = left
            .iter()
            .map(|left| publish::abort(&self.objects, &left.output, &left.upload_id));
        let _ = tokio::time::timeout(ABORT_TIME, join_all(aborts)).await;
        Ok(true)
    }

    /// Ends the batches of which every job has ended, each with its report.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tick_ends(&self) -> Result<(), StoreError> {
        let ended = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            promised::ended(&mut conn).await
        });
        for batch in ended.await? {
            within(REPORT_TIME, Box::pin(self.end(&batch))).await?;
        }
        Ok(())
    }

    async fn write(&self, batch: &Ended, folder: &str) -> Result<(), ReportError> {
        let reports = report::write(&self.pool, &self.objects, batch.id, folder).await?;
        if batch.bagit {
            bag::write(&self.pool, &self.objects, batch.id, folder, reports).await?;
        }
        Ok(())
    }

    async fn end(&self, batch: &Ended) -> Result<(), StoreError> {
        if let Some(folder) = &batch.report {
            let written = Box::pin(self.write(batch, folder)).await;
            if let Err(error) = written {
                tracing::warn!(batch.id = %batch.id, error = &error as &dyn std::error::Error, "report is not written yet");
                if !error.is_final() {
                    return Ok(());
                }
            }
        }
        let mut tx = self.pool.begin().await?;
        let ended = promised::finish(&mut tx, batch.id).await?;
        if ended {
            webhooks::enqueue_batch(&mut tx, batch.id).await?;
        }
        tx.commit().await?;
        if ended {
            tracing::info!(batch.id = %batch.id, "batch finished");
            metrics::counter!("upres_batches_finished_total").increment(1);
        }
        Ok(())
    }
}

fn log<T>(done: Result<T, StoreError>) -> Option<T> {
    done.inspect_err(|error| {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "work on batches waits for the database"
        );
    })
    .ok()
}
