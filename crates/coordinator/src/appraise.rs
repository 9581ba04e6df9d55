//! Appraise: looks at the inputs of a batch's jobs shortly before their turn, so that each is released at
//! its price, and at their outputs, so that no device spends an hour on what may not be published.
//!
//! A job that was submitted alone was looked at then; three hundred thousand at once cannot be.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::job::{ErrorType, JobError, JobEvent, JobId};
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri};

use crate::dispatch::Bell;
use crate::price::price;
use crate::publish;
use crate::store::jobs::{self, Charge};
use crate::store::unpriced::{self, Unpriced};
use crate::store::{StoreError, leases, outbox, within_patience};

/// Jobs looked at in one tick, and at once.
const USUAL: Stride = Stride {
    batch: 128,
    at_once: 16,
};
/// The same while somebody waits: nothing that is done for many jobs at a stretch.
const STEPPING_BACK: Stride = Stride {
    batch: 8,
    at_once: 4,
};
/// A store that does not answer is asked again after this long.
const AGAIN_SECS: f64 = 5.0;
/// Costs nothing and is refused by the worker, which says why.
const NOTHING_THERE: u32 = 1;
const LOOK_EVERY: Duration = Duration::from_millis(500);

struct Stride {
    batch: i64,
    at_once: usize,
}

/// What appraisal needs.
#[derive(Debug, Clone)]
pub struct Appraiser {
    /// The database.
    pub pool: PgPool,
    /// The object store.
    pub objects: ObjectStore,
    /// Rung for what may be released; says whether somebody waits.
    pub bell: Arc<Bell>,
}

/// What a look at a job's objects showed.
enum Seen {
    Price(u32),
    OutputExists,
    /// The store did not answer.
    Nothing,
}

impl Appraiser {
    /// Looks at what is next, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.tick().await {
                Ok(looked_at) if looked_at > 0 => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "appraisal waits for the database"
                ),
            }
            let _ = tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await;
        }
    }

    /// Looks at some jobs; returns at how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tick(&self) -> Result<usize, StoreError> {
        let stride = match self.bell.courtesy.is_called_for() {
            true => STEPPING_BACK,
            false => USUAL,
        };
        let taken = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            unpriced::take(&mut conn, stride.batch).await
        });
        let taken = taken.await?;
        if taken.is_empty() {
            return Ok(0);
        }
        let looks: Vec<_> = taken.iter().map(|job| self.look(job)).collect();
        let seen: Vec<_> = stream::iter(looks)
            .buffer_unordered(stride.at_once)
            .collect()
            .await;
        let (mut priced, mut exist, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
        for (id, seen) in seen {
            match seen {
                Seen::Price(cost) => priced.push((id, cost)),
                Seen::OutputExists => exist.push(id),
                Seen::Nothing => unseen.push(id),
            }
        }
        within_patience(async {
            let mut conn = self.pool.acquire().await?;
            unpriced::price(&mut conn, &priced).await?;
            unpriced::give_back(&mut conn, &unseen, AGAIN_SECS).await
        })
        .await?;
        self.bell.work.ring();
        if !exist.is_empty() {
            within_patience(self.refuse(&exist)).await?;
        }
        Ok(taken.len())
    }

    async fn look(&self, job: &Unpriced) -> (JobId, Seen) {
        (job.job_id, self.see(job).await)
    }

    async fn see(&self, job: &Unpriced) -> Seen {
        let (Ok(input), Ok(output)) = (job.input.parse(), job.output.parse::<ObjectUri>()) else {
            return Seen::Price(NOTHING_THERE);
        };
        if !job.overwrite {
            match self.objects.head(&output).await {
                Ok(Some(there)) if !there.is_of(job.replaces) => return Seen::OutputExists,
                Ok(_) => {}
                Err(error) if error.is_refusal() => {}
                Err(error) => return unanswered(job.job_id, &error),
            }
        }
        match price(&self.objects, &input, &job.upscale).await {
            Ok(Some(cost)) => Seen::Price(cost),
            Ok(None) => Seen::Price(NOTHING_THERE),
            Err(error) if error.is_refusal() => Seen::Price(NOTHING_THERE),
            Err(error) => unanswered(job.job_id, &error),
        }
    }

    /// Fails jobs whose output is there already.
    async fn refuse(&self, ids: &[JobId]) -> Result<(), StoreError> {
        let error = JobError::new(
            ErrorType::OutputExists,
            "an object is there already: give another address, or \"if_exists\": \"overwrite\"",
        );
        let mut tx = self.pool.begin().await?;
        let states = jobs::lock_all(&mut tx, ids).await?;
        let failed: Vec<_> = states
            .iter()
            .filter_map(|(id, state)| Some((*id, state.apply(&JobEvent::Refused).ok()?)))
            .collect();
        let charges: Vec<_> = failed
            .iter()
            .map(|(id, _)| Charge {
                job_id: *id,
                error: &error,
                attempt: false,
                tile_batch: None,
            })
            .collect();
        let ids: Vec<_> = failed.iter().map(|(id, _)| id.0).collect();
        let left = leases::uploads(&mut tx, &ids).await?;
        jobs::charge(&mut tx, &charges).await?;
        jobs::save(&mut tx, &failed).await?;
        outbox::delete(&mut tx, &ids).await?;
        tx.commit().await?;
        for (output, upload_id) in &left {
            publish::abort(&self.objects, output, upload_id).await;
        }
        metrics::counter!("upres_jobs_total", "outcome" => "failed").increment(ids.len() as u64);
        Ok(())
    }
}

fn unanswered(id: JobId, error: &ObjectError) -> Seen {
    tracing::warn!(job.id = %id, error = error as &dyn std::error::Error, "cannot look at a job's objects yet");
    Seen::Nothing
}
