//! Expand: a batch's source becomes jobs, piece by piece, while the first of them run already. A piece and
//! how far the source was read are written down in one transaction, so that after a crash at any point
//! another coordinator goes on to exactly the same jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::batch::BatchId;
use upres_common::job::{IfExists, JobId};
use upres_common::objects::ObjectStore;

use super::items::Mould;
use super::parent::{self, SiftError, State};
use super::source::{Chunk, Position, Source, SourceError};
use crate::dispatch::Bell;
use crate::price::estimated_cost;
use crate::store::batches::expansion::{self, Expansion, NewItem, RefusedItem, Step};
use crate::store::batches::parents;
use crate::store::{StoreError, submissions, within_patience};

/// Items in one transaction.
const CHUNK: usize = 1000;
/// Nobody else takes a batch for this long after its last step. If it takes longer to open a source, two are
/// at it, and one of them finds that the other was quicker.
const HOLD_SECS: f64 = 10.0;
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

    /// Takes one batch and expands it as far as it goes. `false` when there was none.
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
        let mut source = match Source::open(&self.objects, &batch.request, position).await {
            Ok(source) => source,
            Err(error) => return self.give_up(batch, from, error).await,
        };
        while !stop.is_cancelled() {
            let chunk = match source.next(CHUNK).await {
                Ok(chunk) => chunk,
                Err(error) => return self.give_up(batch, from, error).await,
            };
            let end = chunk.end;
            from = self.accept(batch, &mould, from, chunk).await?;
            self.bell.work.notify_one();
            if end {
                tracing::info!(batch.id = %batch.id, "batch expanded");
                break;
            }
        }
        Ok(())
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
        let (items, refused) = sort(mould, &chunk);
        let mut sorted = Sorted {
            items,
            refused,
            unchanged: Vec::new(),
        };
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
        let (read, skipped) = (chunk.reads.len() as u64, chunk.skipped);
        let to = serde_json::to_value(&chunk.position).expect("a position is plain data");
        let mut tx = self.pool.begin().await?;
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
            listed: i64::try_from(read + skipped).unwrap_or(i64::MAX),
            skipped: i64::try_from(skipped).unwrap_or(i64::MAX),
            unchanged,
            end: chunk.end,
            failure,
        };
        if !expansion::advance(&mut tx, batch.id, &step, count, HOLD_SECS).await? {
            return Err(Stopped::Overtaken);
        }
        tx.commit().await?;
        Ok(to)
    }
}

/// What a piece of the source holds.
struct Sorted {
    items: Vec<NewItem>,
    refused: Vec<RefusedItem>,
    unchanged: Vec<parents::Unchanged>,
}

impl Sorted {
    /// What is unchanged is no job; what is stale is written anew.
    ///
    /// - `states`: of the items, in order.
    fn leave_out(&mut self, states: &[State]) {
        for (mut item, state) in std::mem::take(&mut self.items).into_iter().zip(states) {
            match *state {
                State::New => self.items.push(item),
                State::Stale => {
                    item.job.if_exists = IfExists::Overwrite;
                    self.items.push(item);
                }
                State::Unchanged(job_id) => self.unchanged.push(parents::Unchanged {
                    line: item.line,
                    input: item.job.input.to_string(),
                    output: item.job.output.to_string(),
                    job_id,
                }),
            }
        }
    }
}

/// Writes down what is unchanged, and says how many. Of items that go where an earlier one is, none is left.
async fn without_twins(
    conn: &mut sqlx::PgConnection,
    id: BatchId,
    items: Vec<NewItem>,
    unchanged: Vec<parents::Unchanged>,
    refused: &mut Vec<RefusedItem>,
) -> Result<(Vec<NewItem>, i64), StoreError> {
    let written = parents::insert_unchanged(conn, id, &unchanged).await?;
    for item in unchanged
        .iter()
        .filter(|item| !written.contains(&item.line))
    {
        refused.push(twin(item.line, item.input.clone(), &item.output));
    }
    let outputs: Vec<_> = items
        .iter()
        .map(|item| item.job.output.to_string())
        .collect();
    let taken = parents::left_unchanged(conn, id, &outputs).await?;
    let (twins, items): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| taken.contains(&item.job.output.to_string()));
    refused.extend(twins.iter().map(|item| {
        twin(
            item.line,
            item.job.input.to_string(),
            &item.job.output.to_string(),
        )
    }));
    Ok((items, i64::try_from(written.len()).unwrap_or(i64::MAX)))
}

fn twin(line: i64, input: String, output: &str) -> RefusedItem {
    let detail = format!("output: an earlier item of this batch goes to {output}, too");
    refusal(line, input, detail)
}

/// Items that are acceptable in themselves, and the others.
fn sort(mould: &Mould, chunk: &Chunk) -> (Vec<NewItem>, Vec<RefusedItem>) {
    let (mut items, mut refused) = (Vec::new(), Vec::new());
    for read in &chunk.reads {
        let line = i64::try_from(read.line).unwrap_or(i64::MAX);
        let job = read
            .item
            .clone()
            .and_then(|item| mould.cast(item, read.line));
        match job {
            Ok(job) => items.push(NewItem {
                id: JobId::fresh(),
                line,
                estimate: read
                    .bytes
                    .map(|bytes| i64::from(estimated_cost(bytes, &job.upscale))),
                job,
            }),
            Err(detail) => refused.push(refusal(line, read.input.clone(), detail)),
        }
    }
    (items, refused)
}

fn refusal(line: i64, input: String, detail: String) -> RefusedItem {
    RefusedItem {
        line,
        input,
        detail,
    }
}

/// Refuses inputs that are about to change and outputs that are masters, as for single jobs; also outputs
/// that are inputs of this very piece.
async fn without_masters(
    conn: &mut sqlx::PgConnection,
    items: Vec<NewItem>,
    refused: &mut Vec<RefusedItem>,
) -> Result<Vec<NewItem>, StoreError> {
    let inputs: Vec<_> = items
        .iter()
        .map(|item| item.job.input.to_string())
        .collect();
    let outputs: Vec<_> = items
        .iter()
        .map(|item| item.job.output.to_string())
        .collect();
    let being_published = submissions::being_published(conn, &inputs).await?;
    let masters = submissions::inputs_among(conn, &outputs).await?;
    let own: HashMap<&String, i64> = inputs
        .iter()
        .zip(&items)
        .map(|(input, item)| (input, item.line))
        .collect();
    let refusals = inputs.iter().zip(&outputs).map(|(input, output)| {
        if being_published.contains(input) {
            Some("input: a job is writing this object right now".to_owned())
        } else if masters.contains(output) {
            Some(format!(
                "output: {output} is the input of a job: a master is never overwritten"
            ))
        } else {
            own.get(output).map(|line| {
                format!(
                    "output: {output} is the input of line {line}: a master is never overwritten"
                )
            })
        }
    });
    let refusals: Vec<_> = refusals.collect();
    let mut kept = Vec::with_capacity(items.len());
    for (item, refusal_detail) in items.into_iter().zip(refusals) {
        match refusal_detail {
            None => kept.push(item),
            Some(detail) => refused.push(refusal(item.line, item.job.input.to_string(), detail)),
        }
    }
    Ok(kept)
}
