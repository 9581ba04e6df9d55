//! A batch as it is read back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BatchId;
use crate::job::Class;

/// A batch as the API shows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchView {
    /// UUIDv7.
    pub id: BatchId,
    /// What it is about at the moment.
    pub phase: Phase,
    /// Nothing more of it is started until it is resumed.
    pub paused: bool,
    /// Its owner wants it no more; what waited or ran is being cancelled, or was.
    pub cancelled: bool,
    /// Why there are no (more) items: the source cannot be read, or it was atomic and an item was refused.
    pub failure: Option<String>,
    /// Where its items come from: `{"prefix": …}`, `{"manifest": …}` or `{"items": 12}`.
    pub source: serde_json::Value,
    /// Which line its jobs stand in.
    pub class: Class,
    /// Added to its jobs' own.
    pub priority: i32,
    /// For finding it again.
    pub labels: BTreeMap<String, String>,
    /// Items read so far: jobs, refused, unchanged and skipped ones together.
    pub listed: i64,
    /// Items that the patterns left out, and records and results that are no pictures to begin with.
    pub skipped: i64,
    /// Items that did not become jobs; the report says why.
    pub refused: i64,
    /// Items that the parent had done and nobody has touched since: no jobs.
    pub unchanged: i64,
    /// The batch whose sources it runs again.
    pub parent: Option<BatchId>,
    /// Jobs by state, counted from the jobs themselves.
    pub counts: Counts,
    /// Work in tile-steps.
    pub work: Work,
    /// When all will be done, by the pace of the last half hour; absent while there is none, and while it is
    /// paused.
    pub eta: Option<Eta>,
    /// Failed jobs by the type of their error.
    pub errors: BTreeMap<String, i64>,
    /// Where the report is, once it was written.
    pub report: Option<String>,
    /// Why it could not be written there: for the last time, or once the batch is finished, for good. The API
    /// has it in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_failure: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When the last item was read.
    pub expanded_at: Option<DateTime<Utc>>,
    /// When the last job ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a batch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its items are being read; jobs may run already.
    Listing,
    /// All items are read, no job has started.
    Queued,
    /// Jobs run, or have run and others wait.
    Running,
    /// All jobs have ended; the report is being written.
    Finishing,
    /// It is over.
    Finished,
}

/// Jobs by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Not due yet.
    pub scheduled: i64,
    /// Wait for a worker.
    pub queued: i64,
    /// Under a lease.
    pub running: i64,
    /// Published.
    pub succeeded: i64,
    /// Given up.
    pub failed: i64,
    /// Cancelled.
    pub cancelled: i64,
    /// Not started in time.
    pub expired: i64,
}

impl Counts {
    /// All jobs.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.open() + self.succeeded + self.failed + self.cancelled + self.expired
    }

    /// Those that have not ended.
    #[must_use]
    pub const fn open(&self) -> i64 {
        self.scheduled + self.queued + self.running
    }
}

/// Work in tile-steps. A job whose header was not read yet counts as the mean of those that were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Work {
    /// Of the jobs that succeeded; what failed or was cancelled took few of its steps, or none.
    pub done: i64,
    /// Of those that have not ended.
    pub left: i64,
    /// Tile-steps a second over the last half hour, if there were any.
    pub pace: Option<f64>,
}

/// When all will be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Eta {
    /// At the middle one of the last half hour's rates by the minute.
    pub p50: DateTime<Utc>,
    /// At a rate that nine of ten of those minutes exceeded; absent where too few were measured.
    pub p90: Option<DateTime<Utc>>,
}

/// A page of batches.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchPage {
    /// The batches, newest first.
    pub batches: Vec<BatchView>,
    /// Give it back as `?cursor=` for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// One line of the report: what became of one input.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct ReportLine {
    /// The item's place in its source, from 1.
    pub line: i64,
    /// The job's state; `refused` for an item that did not become a job, `unchanged` for one that the
    /// parent's job had done.
    pub status: String,
    /// Where the image is.
    pub input: String,
    /// Where the result is, or would have gone.
    pub output: Option<String>,
    /// The job.
    pub job_id: Option<crate::job::JobId>,
    /// Stable type of the error.
    pub error_type: Option<String>,
    /// Why it did not succeed.
    pub reason: Option<String>,
    /// Of the input as it was read, lower-case hex.
    pub input_sha256: Option<String>,
    /// Of the result, lower-case hex.
    pub output_sha256: Option<String>,
    /// Size of the result.
    pub bytes: Option<i64>,
    /// Pixels across.
    pub width: Option<i64>,
    /// Pixels down.
    pub height: Option<i64>,
    /// The schedule.
    pub timesteps: Vec<u32>,
    /// Tile-steps.
    pub cost: Option<i64>,
    /// Attempts that were begun.
    pub attempts: i32,
    /// From the first attempt to the end.
    pub seconds: Option<f64>,
    /// What a careful person should know.
    pub warnings: Vec<String>,
}

impl ReportLine {
    /// A line that tells no more than what became of an input.
    #[must_use]
    pub fn of(line: i64, status: &str, input: String) -> Self {
        Self {
            line,
            status: status.to_owned(),
            input,
            ..Self::default()
        }
    }
}

/// What a batch would be, without making it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchPrice {
    /// Items that would become jobs.
    pub files: i64,
    /// Items that the patterns leave out, and records and results that are no pictures to begin with.
    pub skipped: i64,
    /// Items that the parent has done.
    pub unchanged: i64,
    /// Items that would be refused.
    pub refused: i64,
    /// The first of those, as sentences.
    pub problems: Vec<String>,
    /// Size of all inputs, where the listing tells it.
    pub bytes: Option<i64>,
    /// Of all jobs; reckoned from the headers of `sampled` files.
    pub tile_steps: i64,
    /// Files whose header was read.
    pub sampled: i64,
    /// Seconds of work at the pace of this deployment's last jobs, if it has one.
    pub seconds: Option<f64>,
    /// Whether the source was too large to be read to its end: the figures are of its beginning then.
    pub partial: bool,
}
