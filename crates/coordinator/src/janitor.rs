//! The janitor: removes what nobody will come back for. Uploads of attempts that died before they
//! could name them, idempotency keys of yesterday, and, if asked to, jobs that ended long ago.
//!
//! Slow and patient on purpose: small batches with pauses between them, so that claims hardly notice.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use upres_common::objects::{
    ObjectError, ObjectStore, ObjectUri, UriPrefix, hand_over_folder, hand_over_job,
};

use crate::batch::report_folder;
use crate::config::JanitorConfig;
use crate::store::{StoreError, idempotency, retention, within, workers};

/// Rows in one statement.
const BATCH: i64 = 200;
/// Behind each of them a pause, in multiples of what it took: the database is there for others.
const REST: u32 = 2;
/// Jobs that ended longer ago say nothing about which buckets are still in use.
const BUCKET_MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longer than the slowest statement takes on a table of millions of jobs.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Uploads that nobody will complete.
    pub uploads: u64,
    /// Unfinished work that nobody will go on with.
    pub hand_overs: u64,
    /// Idempotency keys past their day.
    pub idempotency_keys: u64,
    /// Jobs past their retention.
    pub jobs: u64,
    /// Batches whose jobs are gone; a dry run counts none, as their jobs are there.
    pub batches: u64,
}

/// Why a part of a sweep was not finished. The next one begins anew.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object store.
    #[error("the object store")]
    Objects(#[from] ObjectError),
}

impl From<sqlx::Error> for SweepError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Sweeps at every interval until `stop`.
pub async fn run(
    pool: PgPool,
    objects: ObjectStore,
    uploads: Option<UriPrefix>,
    config: JanitorConfig,
    stop: CancellationToken,
) {
    while tokio::time::timeout(config.sweep_interval, stop.cancelled())
        .await
        .is_err()
    {
        let (swept, _) = sweep(&pool, &objects, uploads.as_ref(), &config, false).await;
        if swept != Swept::default() {
            tracing::info!(
                uploads = swept.uploads,
                hand_overs = swept.hand_overs,
                idempotency_keys = swept.idempotency_keys,
                jobs = swept.jobs,
                batches = swept.batches,
                "janitor removed leftovers"
            );
        }
    }
}

/// Sweeps once, each part whether or not the one before succeeded; `false` when one did not, which the log
/// tells. With `dry_run` it only counts.
pub async fn sweep(
    pool: &PgPool,
    objects: &ObjectStore,
    uploads: Option<&UriPrefix>,
    config: &JanitorConfig,
    dry_run: bool,
) -> (Swept, bool) {
    let (age, days) = (config.orphan_after, config.retain_days);
    let mut is_whole = true;
    let mut told = |what, part: Result<(), SweepError>| {
        if let Err(error) = part {
            is_whole = false;
            let error = &error as &dyn std::error::Error;
            tracing::warn!(what, error, "janitor will try again");
        }
    };
    let mut swept = Swept::default();
    if !dry_run {
        told("workers", forget_workers(pool).await);
    }
    let part = sweep_uploads(pool, objects, age, dry_run, &mut swept.uploads).await;
    told("uploads", part);
    if let Some(uploads) = uploads {
        let found = &mut swept.hand_overs;
        let part = sweep_hand_overs(pool, objects, uploads, age, dry_run, found).await;
        told("hand-overs", part);
    }
    let part = sweep_keys(pool, dry_run, &mut swept.idempotency_keys).await;
    told("idempotency keys", part);
    if let Some(days) = days {
        let part = sweep_jobs(pool, days, dry_run, &mut swept.jobs).await;
        told("jobs", part);
    }
    if let Some(days) = days.filter(|_| !dry_run) {
        let part = sweep_batches(pool, days, &mut swept.batches).await;
        told("batches", part);
    }
    (swept, is_whole)
}

async fn forget_workers(pool: &PgPool) -> Result<(), SweepError> {
    let forgotten = within(PATIENCE, async {
        let mut conn = pool.acquire().await?;
        workers::forget(&mut conn).await
    });
    forgotten.await?;
    Ok(())
}

async fn sweep_uploads(
    pool: &PgPool,
    objects: &ObjectStore,
    age: Duration,
    dry_run: bool,
    found: &mut u64,
) -> Result<(), SweepError> {
    let looked = within(PATIENCE, async {
        let mut conn = pool.acquire().await?;
        let buckets = retention::buckets(&mut conn, BUCKET_MEMORY).await?;
        Ok::<_, SweepError>((buckets, retention::moment_ago(&mut conn, age).await?))
    });
    let (buckets, before) = looked.await?;
    for bucket in buckets {
        let uploads = match objects.list_uploads(&bucket).await {
            Ok(uploads) => uploads,
            Err(error) => {
                // Deleted, or not ours to list: the others are swept all the same.
                tracing::warn!(
                    bucket,
                    error = &error as &dyn std::error::Error,
                    "cannot list uploads"
                );
                continue;
            }
        };
        for upload in uploads {
            if upload.begun_at.is_none_or(|begun_at| begun_at > before) {
                continue;
            }
            let orphan = within(PATIENCE, async {
                let mut conn = pool.acquire().await?;
                let address = upload.uri.to_string();
                let folder = report_folder(&address);
                retention::is_orphan(&mut conn, &upload.uri, &upload.upload_id, folder).await
            });
            if !orphan.await? {
                continue;
            }
            tracing::info!(object.key = %upload.uri, dry_run, "orphaned upload");
            let is_gone = dry_run || {
                let aborted = objects.abort_upload(&upload.uri, &upload.upload_id).await;
                succeeded(&upload.uri, aborted)
            };
            *found += u64::from(is_gone);
        }
    }
    Ok(())
}

/// Removes what drained workers left for jobs that have ended since, or gone on without it: at once, or, where the job is
/// not known here, when it is old.
async fn sweep_hand_overs(
    pool: &PgPool,
    objects: &ObjectStore,
    uploads: &UriPrefix,
    age: Duration,
    dry_run: bool,
    found: &mut u64,
) -> Result<(), SweepError> {
    let Ok(folder) = hand_over_folder(uploads) else {
        return Ok(());
    };
    let listed = objects.list(&folder).await?;
    let ids: Vec<_> = listed
        .iter()
        .filter_map(|object| hand_over_job(&object.uri))
        .collect();
    let looked = within(PATIENCE, async {
        let mut conn = pool.acquire().await?;
        let going_on = retention::going_on(&mut conn, &ids).await?;
        Ok::<_, SweepError>((going_on, retention::moment_ago(&mut conn, age).await?))
    });
    let (going_on, before) = looked.await?;
    for object in listed {
        let old = object.written_at.is_some_and(|written| written < before);
        let unwanted = match hand_over_job(&object.uri) {
            None => false,
            Some(job) => going_on.get(&job).map_or(old, |going_on| !going_on),
        };
        if !unwanted {
            continue;
        }
        tracing::info!(object.key = %object.uri, dry_run, "unfinished work that nobody goes on with");
        let is_gone = dry_run || succeeded(&object.uri, objects.delete(&object.uri).await);
        *found += u64::from(is_gone);
    }
    Ok(())
}

/// What cannot be removed is left to the next sweep; the rest is swept all the same.
fn succeeded(uri: &ObjectUri, removed: Result<(), ObjectError>) -> bool {
    if let Err(error) = &removed {
        tracing::warn!(
            object.key = %uri,
            error = error as &dyn std::error::Error,
            "cannot be removed"
        );
    }
    removed.is_ok()
}

async fn sweep_keys(pool: &PgPool, dry_run: bool, removed: &mut u64) -> Result<(), SweepError> {
    loop {
        let begun = Instant::now();
        let piece = within(PATIENCE, async {
            let mut conn = pool.acquire().await?;
            match dry_run {
                true => idempotency::count_old(&mut conn).await,
                false => idempotency::forget(&mut conn, BATCH).await,
            }
        });
        let piece = piece.await?;
        *removed += piece;
        if piece == 0 || dry_run {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed() * REST).await;
    }
}

async fn sweep_jobs(
    pool: &PgPool,
    days: u32,
    dry_run: bool,
    removed: &mut u64,
) -> Result<(), SweepError> {
    let age = Duration::from_secs(u64::from(days) * 24 * 3600);
    loop {
        let begun = Instant::now();
        let piece = within(PATIENCE, async {
            let mut conn = pool.acquire().await?;
            match dry_run {
                true => retention::count_ended(&mut conn, age).await,
                false => retention::remove_ended(&mut conn, age, BATCH).await,
            }
        });
        let piece = piece.await?;
        *removed += piece;
        if piece == 0 || dry_run {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed() * REST).await;
    }
}

async fn sweep_batches(pool: &PgPool, days: u32, removed: &mut u64) -> Result<(), SweepError> {
    let age = Duration::from_secs(u64::from(days) * 24 * 3600);
    loop {
        let begun = Instant::now();
        let piece = within(PATIENCE, async {
            let mut conn = pool.acquire().await?;
            retention::remove_batches(&mut conn, age, BATCH).await
        });
        let piece = piece.await?;
        *removed += piece;
        if piece == 0 {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed() * REST).await;
    }
}
