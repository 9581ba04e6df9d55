//! Carry out: what the owner of a batch asked for in one word (cancel it, retry its failed jobs, move it to
//! another class) is done to its jobs in pieces, and a batch of which every job has ended is ended itself.
//!
//! A reconciler: [`Steward::tick`] has no input, may run anywhere at any time, and several may run at once.
//! The end of a batch is found by looking at its jobs and not by counting them down: a counter would be a
//! row that every completion waits for, and one that is wrong once is wrong for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use upres_common::job::JobEvent;
use upres_common::objects::ObjectStore;

use super::report::ReportError;
use super::{bag, report};
use crate::dispatch::Bell;
use crate::store::batches::ending::{self, Ended};
use crate::store::batches::promised;
use crate::store::{StoreError, webhooks, within, within_patience};
use crate::{lease, publish};

/// Jobs in one transaction.
const PIECE: i64 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What an object store that hangs may cost a tick; what is not aborted is left to the janitor.
const ABORT_TIME: Duration = Duration::from_secs(5);
/// Reports that one coordinator writes at once: one that takes long holds up no other.
const ENDS: usize = 16;
/// A store that hangs is to hold up none for ever.
const REPORT_TIME: Duration = Duration::from_secs(3600);
/// Of a coordinator that is told to stop: what is nearly written is written.
const LAST_WORDS: Duration = Duration::from_secs(6);
/// One that dies while it writes a report keeps others from it for so long.
const HOLD: Duration = Duration::from_secs(60);
const KEEP_EVERY: Duration = Duration::from_secs(10);

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
        tokio::join!(promises, self.end_batches(&stop));
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
        let left = lease::end_all(&mut conn, &ids, &JobEvent::Cancelled).await?;
        drop(conn);
        let aborts = left
            .iter()
            .map(|left| publish::abort(&self.objects, &left.output, &left.upload_id));
        let _ = tokio::time::timeout(ABORT_TIME, join_all(aborts)).await;
        Ok(true)
    }

    /// Reports are written side by side, [`ENDS`] at most; what has none waits for none.
    async fn end_batches(&self, stop: &CancellationToken) {
        let (mut writing, mut held) = (JoinSet::new(), Vec::new());
        while !stop.is_cancelled() {
            log(within_patience(self.tick_ends()).await);
            let room = ENDS.saturating_sub(writing.len());
            let taken = within_patience(self.take_ended(room)).await;
            for batch in log(taken).unwrap_or_default() {
                held.push(batch.clone());
                let steward = self.clone();
                writing.spawn(async move {
                    log(steward.end(&batch).await);
                    batch.by
                });
            }
            tokio::select! {
                Some(ended) = writing.join_next() => {
                    held.retain(|batch: &Ended| !matches!(ended, Ok(by) if by == batch.by));
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        let written = async { while writing.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS, written).await;
        writing.shutdown().await;
        for batch in held {
            log(within_patience(self.leave(&batch)).await);
        }
    }

    async fn leave(&self, batch: &Ended) -> Result<(), StoreError> {
        ending::leave(&mut *self.pool.acquire().await?, batch).await
    }

    /// Ends the batches without a report of which every job has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tick_ends(&self) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let ended = ending::take_ended(&mut conn, HOLD.as_secs_f64(), false, PIECE).await?;
        drop(conn);
        for batch in ended {
            self.finish(&batch, None).await?;
        }
        Ok(())
    }

    /// Takes batches with a report of which every job has ended, `limit` at most, each for [`Steward::end`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_ended(&self, limit: usize) -> Result<Vec<Ended>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut conn = self.pool.acquire().await?;
        ending::take_ended(&mut conn, HOLD.as_secs_f64(), true, limit).await
    }

    /// Ends a batch with its report, unless it goes on meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; another try follows when the hold has passed.
    pub async fn end(&self, batch: &Ended) -> Result<(), StoreError> {
        let written = tokio::select! {
            written = tokio::time::timeout(REPORT_TIME, Box::pin(self.write(batch))) => written,
            // What another writes is not to be written over.
            () = self.is_taken(batch) => {
                return within_patience(self.leave(batch)).await;
            }
        };
        let (failure, is_final) = match written {
            Ok(Ok(())) => (None, true),
            Ok(Err(error)) => (Some(told(&error)), error.is_final() || batch.cancelled),
            Err(_) => (
                Some("it took more than an hour".to_owned()),
                batch.cancelled,
            ),
        };
        if let Some(why) = &failure {
            tracing::warn!(batch.id = %batch.id, why, is_final, "report cannot be written");
        }
        if is_final {
            return within_patience(self.finish(batch, failure.as_deref())).await;
        }
        within_patience(async {
            let mut conn = self.pool.acquire().await?;
            ending::not_written(&mut conn, batch, &failure.unwrap_or_default()).await
        })
        .await
    }

    async fn write(&self, batch: &Ended) -> Result<(), ReportError> {
        let Some(folder) = &batch.report else {
            return Ok(());
        };
        let reports = report::write(&self.pool, &self.objects, batch.id, folder).await?;
        if batch.bagit {
            bag::write(&self.pool, &self.objects, batch.id, folder, reports).await?;
        }
        Ok(())
    }

    /// Keeps the batch in these hands; returns when it is not any more, or may soon not be.
    async fn is_taken(&self, batch: &Ended) {
        let mut kept = Instant::now();
        while kept.elapsed() + 2 * KEEP_EVERY < HOLD {
            tokio::time::sleep(KEEP_EVERY).await;
            let asked = Instant::now();
            let answer = within(KEEP_EVERY, async {
                let mut conn = self.pool.acquire().await?;
                ending::keep(&mut conn, batch, HOLD.as_secs_f64()).await
            });
            match log(answer.await) {
                Some(true) => kept = asked,
                Some(false) => return,
                None => {}
            }
        }
    }

    async fn finish(&self, batch: &Ended, report_failure: Option<&str>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let ended = ending::finish(&mut tx, batch, report_failure).await?;
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

/// With its causes.
fn told(error: &ReportError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
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
