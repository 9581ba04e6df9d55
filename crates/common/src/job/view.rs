//! A job as it is read back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::request::{Class, IfExists};
use super::spec::UpscaleSpec;
use super::{ErrorType, JobId};
use crate::batch::BatchId;

/// A job as the API shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// UUIDv7.
    pub id: JobId,
    /// `scheduled`, `queued`, `running`, `succeeded`, `failed`, `cancelled` or `expired`.
    pub state: String,
    /// The batch it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Grows with every change; also the `ETag`.
    pub version: i64,
    /// The number of the current or last attempt; 0 before the first.
    pub attempt: i32,
    /// Where the image is.
    pub input: String,
    /// Where the result goes.
    pub output: String,
    /// What happens when the output exists.
    pub if_exists: IfExists,
    /// The settings, defaults filled in.
    pub upscale: UpscaleSpec,
    /// Which line it stands in.
    pub class: Class,
    /// Higher goes first within its class.
    pub priority: i32,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// Not to be started before.
    pub not_before: Option<DateTime<Utc>>,
    /// Not to be started after.
    pub finish_by: Option<DateTime<Utc>>,
    /// For finding it again.
    pub labels: BTreeMap<String, String>,
    /// Where its end is told of.
    #[serde(default)]
    pub webhook: Option<String>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Tile-steps of the whole job: tiles times denoising steps (with guidance twice that), by the size in the file's header. Where
    /// that could not be read, an estimate from the file's length until a worker has opened it.
    pub cost: Option<i64>,
    /// Milliseconds by stage of the attempt that succeeded.
    pub timings: Option<BTreeMap<String, u64>>,
    /// The published result.
    pub result: Option<ResultView>,
    /// Why it failed.
    pub error: Option<ErrorView>,
    /// Accepted or done, but worth a word.
    pub warnings: Vec<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached its terminal state.
    pub finished_at: Option<DateTime<Utc>>,
    /// Every attempt's story, oldest first. Left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Tiles done.
    pub tiles: u32,
    /// Tiles of the whole image.
    pub tiles_total: u32,
    /// Tiles times denoising steps of the whole image; with guidance twice that.
    pub tile_steps_total: u32,
}

/// The published object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultView {
    /// Its address.
    pub uri: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Its size.
    pub bytes: i64,
    /// Pixels across.
    pub width: i32,
    /// Pixels down.
    pub height: i32,
}

/// Why a job, or an attempt, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    /// The stable type.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// One sentence.
    pub detail: String,
    /// Whether another attempt could have helped.
    pub retryable: bool,
}

/// One attempt's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: i32,
    /// The worker that held the lease.
    pub worker: String,
    /// `running`, `succeeded`, `failed`, `lost`, `handed_back` or `cancelled`.
    pub outcome: String,
    /// When the lease was claimed.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub error: Option<ErrorView>,
}

/// What a job would take, without making it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobPrice {
    /// Tiles times denoising steps; with guidance twice that.
    pub tile_steps: u32,
    /// Seconds of work at the pace of this deployment's last jobs, if it has one.
    pub seconds: Option<f64>,
    /// Acceptable, but worth a word.
    pub warnings: Vec<String>,
}

/// Why a job is not running yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The job.
    pub id: JobId,
    /// Its state.
    pub state: String,
    /// A stable word: `running`, `ended`, `changing`, `cancelled`, `backoff`, `scheduled`, `paused`,
    /// `listing`, `no_worker`, `unpriced`, `tenant_limit` or `turn`.
    pub reason: String,
    /// One sentence for a person.
    pub sentence: String,
}

/// A page of jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobView>,
    /// Give it back as `?cursor=` for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

impl JobView {
    /// Whether the job's life is over.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.state.as_str(),
            "succeeded" | "failed" | "cancelled" | "expired"
        )
    }
}
