//! The workers' own door: requests and answers of `/v1/leases`.
//!
//! Requests carry lists, so that one call can serve many jobs and the coordinator can group the
//! calls of many workers into one statement.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::state::LeaseToken;
use crate::job::view::Progress;
use crate::job::{Class, IfExists, JobError, JobId, UpscaleSpec};
use crate::sidecar::Sidecar;

/// Asks for the leases of jobs that the worker was woken for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClaimRequest {
    /// Who asks; unique to the process.
    pub worker_id: String,
    /// At most 100 jobs.
    pub job_ids: Vec<JobId>,
    /// The class of their wake-ups: interactive claims stand behind no bulk.
    #[serde(default)]
    pub class: Class,
}

/// The jobs that were granted. One that is absent is held by somebody else, not due, or done: its
/// wake-up is stale and can be dropped.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClaimAnswer {
    /// What the worker now owns.
    pub leases: Vec<Lease>,
}

/// One owned job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Which job.
    pub job_id: JobId,
    /// The attempt that this lease stands for, from 1.
    pub attempt: i32,
    /// To be presented with everything that follows.
    pub token: LeaseToken,
    /// How long it lasts without a heartbeat, in seconds.
    pub ttl_secs: u32,
    /// Where the image is.
    pub input: String,
    /// Where the result goes.
    pub output: String,
    /// What to do when the output exists.
    pub if_exists: IfExists,
    /// How to upscale.
    pub upscale: UpscaleSpec,
    /// What it takes, about; unknown where no header was read yet.
    #[serde(default)]
    pub tile_steps: Option<u64>,
    /// At most so many tiles at once: an earlier attempt ran out of memory with more.
    #[serde(default)]
    pub tile_batch: Option<u32>,
    /// Where an earlier attempt got to. A worker that cannot go on from there begins anew.
    #[serde(default)]
    pub resume: Option<ResumePoint>,
    /// Where the worker may leave, when it is drained, what it has not uploaded. Absent if this
    /// deployment has no place for it.
    #[serde(default)]
    pub hand_over_to: Option<String>,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
}

/// From where another worker can go on: the rows of the result above `next_row` lie in the parts of an
/// upload that is not completed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResumePoint {
    /// The multipart upload.
    pub upload_id: String,
    /// The lease under which it was begun, which its object will bear.
    pub upload_token: LeaseToken,
    /// Its parts so far, in order.
    pub parts: Vec<UploadedPart>,
    /// First row of the result that is in no part.
    pub next_row: u32,
    /// What only workers understand: which input, model and settings the rows were made with, and what
    /// the writer of the file has to remember.
    pub state: String,
    /// What a drained worker left beside the parts, with which no tile is computed again. A worker that
    /// cannot have it goes on from `next_row`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_over: Option<HandedOver>,
}

/// An object for the next worker alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandedOver {
    /// Where it is.
    pub address: String,
    /// Of its bytes, lower-case hex. It may be that of another attempt, which would be no use.
    pub sha256: String,
}

/// Names one held lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseRef {
    /// Which job.
    pub job_id: JobId,
    /// The lease's token.
    pub token: LeaseToken,
}

/// Keeps leases alive.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatRequest {
    /// Who asks; unique to the process.
    pub worker_id: String,
    /// Every lease the worker holds; none is fine and says that the worker is alive.
    pub leases: Vec<Beat>,
    /// What it works with; for people, said every few seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<AboutWorker>,
}

/// What a worker works with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AboutWorker {
    /// Program and version.
    pub software: String,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
    /// The model's short name.
    pub model: String,
}

/// A sign of life for one lease.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Beat {
    /// Which lease.
    #[serde(flatten)]
    pub lease: LeaseRef,
    /// How far the attempt is.
    pub progress: Option<Progress>,
    /// The multipart upload the attempt writes to, once begun, so that it can be cleaned up
    /// should the worker vanish.
    pub upload_id: Option<String>,
    /// From where another could go on, if that has changed since the last heartbeat that was answered.
    #[serde(default)]
    pub resume: Option<ResumePoint>,
}

/// A worker that is here, or was in the last ten minutes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// Its name.
    pub id: String,
    /// Program and version, if it has said so.
    pub software: Option<String>,
    /// `cpu` or `cuda:N`, if it has said so.
    pub device: Option<String>,
    /// `f32`, `bf16` or `f16`, if it has said so.
    pub dtype: Option<String>,
    /// The model's short name, if it has said so.
    pub model: Option<String>,
    /// Leases that it holds.
    pub leases: i64,
    /// Attempts that it ended in the last ten minutes.
    pub jobs_ended: i64,
    /// Tile-steps a second in that time.
    pub tile_steps_per_second: f64,
    /// When it was last heard of; now, while it holds a lease.
    pub last_seen: DateTime<Utc>,
}

/// What became of each lease, in the order asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatAnswer {
    /// One verdict a beat.
    pub verdicts: Vec<Verdict>,
}

/// What a worker is to do with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Go on.
    Held,
    /// Stop: the owner cancelled the job.
    Cancelled,
    /// Stop: the lease lapsed, somebody else may have the job.
    Lost,
}

/// One uploaded part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadedPart {
    /// From 1.
    pub number: i32,
    /// As the store returned it.
    pub etag: String,
    /// Base64 of the part's SHA-256, as the store checked it.
    pub sha256: String,
}

/// The input as an attempt read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputRead {
    /// Of its bytes, lower-case hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The store's own mark of these bytes, by which a later batch sees at a glance that they are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// What a finished attempt made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// What it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputRead>,
    /// The multipart upload that holds the result, invisible until the coordinator completes it.
    pub upload_id: String,
    /// The lease under which that upload was begun: this attempt's, or that of the one it went on from.
    pub upload_token: LeaseToken,
    /// Its parts in order.
    pub parts: Vec<UploadedPart>,
    /// Of the whole object, lower-case hex. Absent when an earlier attempt wrote the first parts: the
    /// coordinator then reads the object once it is complete.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Its size.
    pub bytes: i64,
    /// Pixels across.
    pub width: i32,
    /// Pixels down.
    pub height: i32,
    /// Tiles and tile-steps done.
    pub progress: Progress,
    /// Milliseconds by stage.
    pub timings: BTreeMap<String, u64>,
    /// Done, but worth a word.
    pub warnings: Vec<String>,
    /// The record that is to lie beside the result; without the result's SHA-256, which the coordinator
    /// knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Box<Sidecar>>,
}

/// Asks the coordinator to publish an attempt's result.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CompleteRequest {
    /// Which lease.
    #[serde(flatten)]
    pub lease: LeaseRef,
    /// What was made.
    pub outcome: Outcome,
}

/// Reports that an attempt failed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FailRequest {
    /// Which lease.
    #[serde(flatten)]
    pub lease: LeaseRef,
    /// Why.
    pub error: JobError,
    /// How many tiles the worker ran at once, if that mattered: after running out of memory the next
    /// attempt gets half of it.
    #[serde(default)]
    pub tile_batch: Option<u32>,
}

/// Returns a job unfinished; no attempt is spent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReleaseRequest {
    /// Which lease.
    #[serde(flatten)]
    pub lease: LeaseRef,
    /// Why, for the attempt's story.
    pub reason: String,
    /// From where another can go on; without one, from where the last heartbeat said, if it did.
    #[serde(default)]
    pub resume: Option<ResumePoint>,
}

/// Where the job stands after a report.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SettledAnswer {
    /// The job's state.
    pub state: String,
    /// The report came from a superseded attempt and changed nothing; its upload is to be aborted.
    pub superseded: bool,
}
