//! Expand: a batch's source becomes jobs, piece by piece, while the first of them run already. A piece and
//! how far the source was read are written down in one transaction, so that after a crash at any point
//! another coordinator goes on to exactly the same jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::objects::ObjectStore;

use super::items::Mould;
use super::parent::{self, SiftError};
use super::sorted::{Sorted, twin, without_masters, without_results, without_twins};
use super::source::{Chunk, Position, Source, SourceError};
use crate::dispatch::Bell;
use crate::store::batches::expansion::{self, Expansion, Step};
use crate::store::{StoreError, within_patience};

/// Items in one transaction.
const CHUNK: usize = 1000;
/// After so many of them, four times as many and so on, and at the end, the database counts its rows anew.
const FIRST_LOOK: u32 = 10;
/// Nobody else takes a batch for this long after its last step. If it takes longer to open a source, two are
/// at it, and one of them finds that the other was quicker.
const HOLD_SECS: f64 = 10.0;
/// After this long a batch makes way for one that waits: a list of a few lines is not to stand behind
/// hundreds of thousands. Opening a source in its middle again costs much less.
const TURN: Duration = Duration::from_secs(4);
/// A source that cannot be read for now is tried again after this long.
const AGAIN_SECS: f64 = 5.0;
/// How often somebody looks for batches that another coordinator accepted, or let go.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What expansion needs.
#[derive(Debug, Clone)]
pub struct Expander {
    /// The database.
    pub pool: PgPool,
    /// The object store.
    pub objects: ObjectStore,
    /// Rung for what was accepted.
    pub bell: Arc<Bell>,
}

/// Why an expansion stopped before its end. Another goes on.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another coordinator is at it, or its owner cancelled it.
    #[error("somebody else has the batch")]
    Overtaken,
    #[error(transparent)]
    Source(SourceError),
}

impl From<SiftError> for Stopped {
    fn from(error: SiftError) -> Self {
        match error {
            SiftError::Store(error) => Self::Store(error),
            SiftError::Objects(error) => Self::Source(SourceError::Objects(error)),
        }
    }
}

impl From<sqlx::Error> for Stopped {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Expander {
    /// Expands what there is, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.tick(&stop).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expansion waits for the database"
                ),
            }
            let _ = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await;
        }
    }

    /// Takes one batch and expands it to its end, or until its turn is over. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`] when none could be taken.
    pub async fn tick(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        let taken = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            expansion::take(&mut conn, HOLD_SECS).await
        });
        let Some(batch) = taken.await? else {
            return Ok(false);
        };
        // On the heap: it holds what reads the source, and a piece of it.
        let again_after = match Box::pin(self.expand(&batch, stop)).await {
            Ok(()) => 0.0,
            Err(Stopped::Overtaken) => return Ok(true),
            Err(error) => {
                tracing::warn!(batch.id = %batch.id, error = &error as &dyn std::error::Error, "expansion stopped, to be gone on with");
                AGAIN_SECS
            }
        };
        within_patience(async {
            let mut conn = self.pool.acquire().await?;
            expansion::give_back(&mut conn, batch.id, again_after).await
        })
        .await?;
        Ok(true)
    }

    async fn expand(&self, batch: &Expansion, stop: &CancellationToken) -> Result<(), Stopped> {
        let mut from = batch.position.clone();
        let position: Position = serde_json::from_value(from.clone()).unwrap_or_default();
        let mould = Mould::new(
            batch.request.clone(),
            batch.read_prefixes.clone(),
            batch.write_prefixes.clone(),
        );
        let mould = match mould {
            Ok(mould) => mould,
            Err(problem) => return self.fail(batch, from, problem).await,
        };
        let mut source = match Source::open(&self.objects, &batch.request, position, stop).await {
            Ok(source) => source,
            Err(error) => return self.give_up(batch, from, error).await,
        };
        let (mut chunks, mut look_again) = (0, FIRST_LOOK);
        let began = Instant::now();
        while !stop.is_cancelled() {
            let chunk = match source.next(CHUNK).await {
                Ok(chunk) => chunk,
                Err(error) => return self.give_up(batch, from, error).await,
            };
            let end = chunk.end;
            chunks += 1;
            if chunks == look_again || end && chunks > FIRST_LOOK {
                look_again *= 4;
                within_patience(self.count_anew()).await?;
            }
            from = self.accept(batch, &mould, from, chunk).await?;
            self.bell.work.ring();
            if end {
                tracing::info!(batch.id = %batch.id, "batch expanded");
                break;
            }
            if began.elapsed() >= TURN && within_patience(self.does_another_wait()).await? {
                break;
            }
        }
        Ok(())
    }

    async fn does_another_wait(&self) -> Result<bool, StoreError> {
        expansion::does_one_wait(&mut *self.pool.acquire().await?).await
    }

    async fn count_anew(&self) -> Result<(), StoreError> {
        expansion::count_anew(&mut *self.pool.acquire().await?).await
    }

    /// What can be tried again is; anything else ends the expansion with a sentence.
    async fn give_up(
        &self,
        batch: &Expansion,
        from: serde_json::Value,
        error: SourceError,
    ) -> Result<(), Stopped> {
        if error.is_transient() {
            return Err(Stopped::Source(error));
        }
        self.fail(batch, from, error.to_string()).await
    }

    async fn fail(
        &self,
        batch: &Expansion,
        from: serde_json::Value,
        failure: String,
    ) -> Result<(), Stopped> {
        tracing::warn!(batch.id = %batch.id, failure, "batch cannot be expanded");
        let step = Step {
            to: from.clone(),
            from,
            listed: 0,
            skipped: 0,
            unchanged: 0,
            end: true,
            failure: Some(failure),
        };
        within_patience(async {
            let mut conn = self.pool.acquire().await?;
            let advanced = expansion::advance(&mut conn, batch.id, &step, 0, 0.0).await?;
            if advanced {
                Ok(())
            } else {
                Err(Stopped::Overtaken)
            }
        })
        .await
    }

    /// One piece of the source, to its position, which is returned.
    async fn accept(
        &self,
        batch: &Expansion,
        mould: &Mould,
        from: serde_json::Value,
        chunk: Chunk,
    ) -> Result<serde_json::Value, Stopped> {
        let mut sorted = Sorted::of(mould, &chunk);
        if let Some(parent) = batch.request.parent {
            let jobs: Vec<_> = sorted.items.iter().map(|item| &item.job).collect();
            let states = parent::states(&self.pool, &self.objects, parent, &jobs).await?;
            sorted.leave_out(&states);
        }
        within_patience(self.write_down(batch, from, &chunk, sorted)).await
    }

    /// Jobs, refusals and the new position in one transaction.
    async fn write_down(
        &self,
        batch: &Expansion,
        from: serde_json::Value,
        chunk: &Chunk,
        sorted: Sorted,
    ) -> Result<serde_json::Value, Stopped> {
        let Sorted {
            items,
            mut refused,
            unchanged,
        } = sorted;
        let read = chunk.reads.len() as u64 + chunk.skipped;
        let to = serde_json::to_value(&chunk.position).expect("a position is plain data");
        let mut tx = self.pool.begin().await?;
        let (items, results) = match &batch.request.prefix {
            Some(prefix) => without_results(&mut tx, &batch.tenant, prefix, items).await?,
            None => (items, 0),
        };
        let skipped = chunk.skipped + results;
        let (items, unchanged) =
            without_twins(&mut tx, batch.id, items, unchanged, &mut refused).await?;
        let items = without_masters(&mut tx, items, &mut refused).await?;
        let inserted = expansion::insert_items(&mut tx, batch, &items).await?;
        for item in items.iter().filter(|item| !inserted.contains(&item.id)) {
            refused.push(twin(
                item.line,
                item.job.input.to_string(),
                &item.job.output.to_string(),
            ));
        }
        expansion::insert_refused(&mut tx, batch.id, &refused).await?;
        let count = i64::try_from(refused.len()).unwrap_or(i64::MAX);
        let failure = if chunk.end && batch.request.atomic {
            let before = expansion::refused_so_far(&mut tx, batch.id).await?;
            (before + count > 0).then(|| {
                format!(
                    "{} items are not acceptable, and the batch is atomic: the report says why",
                    before + count
                )
            })
        } else {
            None
        };
        let step = Step {
            from,
            to: to.clone(),
            listed: i64::try_from(read).unwrap_or(i64::MAX),
            skipped: i64::try_from(skipped).unwrap_or(i64::MAX),
            unchanged,
            end: chunk.end,
            failure,
        };
        if !expansion::advance(&mut tx, batch.id, &step, count, HOLD_SECS).await? {
            return Err(Stopped::Overtaken);
        }
        tx.commit().await?;
        metrics::counter!("upres_jobs_submitted_total").increment(inserted.len() as u64);
        Ok(to)
    }
}
