//! What a batch would be: its source is read, a sample of its files is looked at, nothing is written.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use upres_common::batch::view::BatchPrice;
use upres_common::batch::{BatchId, BatchRequest};
use upres_common::job::request::ValidJob;
use upres_common::objects::{ObjectError, ObjectStore};

use super::items::Mould;
use super::parent::{self, SiftError, State};
use super::source::{Position, Source, SourceError};
use super::{check, made};
use crate::auth::Caller;
use crate::price::{estimated_cost, price};
use crate::store::{listing, within_patience};
use crate::submit::SubmitError;

/// Files whose header is read.
const SAMPLE: usize = 200;
const AT_ONCE: usize = 32;
/// The source is read this long.
const READING_TIME: Duration = Duration::from_secs(60);
const CHUNK: usize = 1000;
/// Problems that are told.
const TOLD: usize = 20;

/// Prices a batch.
///
/// # Errors
/// [`SubmitError`], as [`create`](super::create) would; also when the source cannot be read.
pub async fn estimate(
    pool: &PgPool,
    objects: &ObjectStore,
    caller: &Caller,
    request: BatchRequest,
) -> Result<BatchPrice, SubmitError> {
    let new = check(caller, request)?;
    super::check_buckets(objects, &new).await?;
    super::check_report(objects, &new.request).await?;
    super::check_promised(pool, &new).await?;
    let mould = Mould::new(new.request.clone(), new.read_prefixes, new.write_prefixes);
    let mould = mould.map_err(|problem| unreadable(&problem))?;
    let (begin, stop) = (Position::default(), CancellationToken::new());
    let source = Source::open(objects, &new.request, begin, &stop).await;
    let mut source = source.map_err(of_source)?;
    let mut counted = Counted::default();
    let end = Instant::now() + READING_TIME;
    loop {
        let chunk = source.next(CHUNK).await.map_err(of_source)?;
        counted.skipped += i64::try_from(chunk.skipped).unwrap_or(i64::MAX);
        let jobs: Vec<_> = chunk
            .reads
            .into_iter()
            .map(|read| {
                let job = read.item.and_then(|item| mould.cast(item, read.line));
                (read.line, read.bytes, job)
            })
            .collect();
        let unchanged = unchanged(pool, objects, new.request.parent, &jobs).await?;
        let results = results(pool, &new.tenant, new.request.prefix.as_deref(), &jobs).await?;
        for (line, bytes, job) in jobs {
            if (job.as_ref()).is_ok_and(|job| results.contains(&job.input.to_string())) {
                counted.skipped += 1;
            } else if unchanged.contains(&line) {
                counted.unchanged += 1;
            } else {
                counted.add(line, bytes, job);
            }
        }
        if chunk.end {
            break;
        }
        if Instant::now() >= end {
            counted.partial = true;
            break;
        }
    }
    counted.price(pool, objects).await
}

/// Lines that the parent has done.
async fn unchanged(
    pool: &PgPool,
    objects: &ObjectStore,
    parent: Option<BatchId>,
    jobs: &[(u64, Option<u64>, Result<ValidJob, String>)],
) -> Result<HashSet<u64>, SubmitError> {
    let Some(parent) = parent else {
        return Ok(HashSet::new());
    };
    let sound = jobs
        .iter()
        .filter_map(|(line, _, job)| Some((*line, job.as_ref().ok()?)));
    let (lines, sound): (Vec<_>, Vec<_>) = sound.unzip();
    let states = parent::states(pool, objects, parent, &sound).await;
    let states = states.map_err(|error| match error {
        SiftError::Store(error) => error.into(),
        SiftError::Objects(error) => SubmitError::Objects(error),
    })?;
    let done = lines.into_iter().zip(states);
    Ok(done
        .filter(|(_, state)| matches!(state, State::Unchanged(_)))
        .map(|(line, _)| line)
        .collect())
}

/// Inputs that are results of what lies under the same prefix, or of a report.
async fn results(
    pool: &PgPool,
    tenant: &str,
    prefix: Option<&str>,
    jobs: &[(u64, Option<u64>, Result<ValidJob, String>)],
) -> Result<HashSet<String>, SubmitError> {
    let Some(prefix) = prefix else {
        return Ok(HashSet::new());
    };
    let inputs = jobs.iter().flat_map(|(.., job)| job);
    let inputs: Vec<_> = inputs.map(|job| job.input.to_string()).collect();
    let results = within_patience(async {
        let mut conn = pool.acquire().await?;
        made(&mut conn, tenant, prefix, &inputs).await
    });
    Ok(results.await?)
}

fn unreadable(problem: &str) -> SubmitError {
    SubmitError::Invalid(vec![upres_common::job::request::FieldError::new(
        "/manifest",
        problem,
    )])
}

fn of_source(error: SourceError) -> SubmitError {
    match error {
        SourceError::Objects(error @ ObjectError::Unavailable { .. }) => {
            SubmitError::Objects(error)
        }
        error => unreadable(&error.to_string()),
    }
}

/// Everything acceptable, counted, and every n-th of it kept.
#[derive(Debug, Default)]
struct Counted {
    files: i64,
    skipped: i64,
    unchanged: i64,
    refused: i64,
    problems: Vec<String>,
    bytes: Option<i64>,
    /// By the lengths of the files.
    reckoned: i64,
    sample: Vec<(ValidJob, Option<u64>)>,
    stride: i64,
    outputs: HashSet<u64>,
    partial: bool,
}

impl Counted {
    fn add(&mut self, line: u64, bytes: Option<u64>, job: Result<ValidJob, String>) {
        let job = job.and_then(|job| {
            if self.outputs.insert(digest(&job.output.to_string())) {
                Ok(job)
            } else {
                Err(format!(
                    "output: an earlier item goes to {}, too",
                    job.output
                ))
            }
        });
        let job = match job {
            Ok(job) => job,
            Err(problem) => {
                self.refused += 1;
                if self.problems.len() < TOLD {
                    self.problems.push(format!("line {line}: {problem}"));
                }
                return;
            }
        };
        if let Some(bytes) = bytes {
            *self.bytes.get_or_insert(0) += i64::try_from(bytes).unwrap_or(i64::MAX);
            self.reckoned += i64::from(estimated_cost(bytes, &job.upscale));
        }
        self.stride = self.stride.max(1);
        if self.files % self.stride == 0 {
            self.sample.push((job, bytes));
            if self.sample.len() > SAMPLE {
                // Every second is enough from here on.
                let mut keep = false;
                self.sample.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
        }
        self.files += 1;
    }

    async fn price(self, pool: &PgPool, objects: &ObjectStore) -> Result<BatchPrice, SubmitError> {
        let looks: Vec<_> = self
            .sample
            .iter()
            .map(|(job, bytes)| look(objects, job, *bytes))
            .collect();
        let looked: Vec<_> = stream::iter(looks)
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let seen: i64 = looked.iter().map(|(cost, _)| cost).sum();
        let sampled = i64::try_from(looked.len()).unwrap_or(i64::MAX);
        let reckoned: i64 = looked.iter().filter_map(|(_, by)| by.map(i64::from)).sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "an estimate need not be exact"
        )]
        let tile_steps = if reckoned > 0 && self.reckoned > 0 {
            // Files differ in size: the sample tells by how much their length misleads.
            (self.reckoned as f64 * seen as f64 / reckoned as f64) as i64
        } else if sampled > 0 {
            (self.files as f64 * seen as f64 / sampled as f64) as i64
        } else {
            self.reckoned
        };
        let pace = within_patience(async {
            let mut conn = pool.acquire().await?;
            listing::pace(&mut conn).await
        });
        #[expect(clippy::cast_precision_loss, reason = "an estimate need not be exact")]
        let seconds = pace.await?.map(|pace| tile_steps as f64 / pace);
        Ok(BatchPrice {
            files: self.files,
            skipped: self.skipped,
            unchanged: self.unchanged,
            refused: self.refused,
            problems: self.problems,
            bytes: self.bytes,
            tile_steps,
            sampled,
            seconds: seconds.filter(|seconds| seconds.is_finite()),
            partial: self.partial,
        })
    }
}

/// What one file costs by its header, and by its length.
async fn look(
    objects: &ObjectStore,
    job: &ValidJob,
    bytes: Option<u64>,
) -> Option<(i64, Option<u32>)> {
    let cost = price(objects, &job.input, &job.upscale).await.ok()??;
    let by_length = bytes.map(|bytes| estimated_cost(bytes, &job.upscale));
    Some((i64::from(cost), by_length))
}

/// Eight bytes for each output instead of its text: half a million take 4 MB.
fn digest(text: &str) -> u64 {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(text.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}
