//! Write back: rows become a file, and the file a multipart upload, part by part while the engine still
//! works. Nobody sees it until the coordinator completes it.
//!
//! After each part another worker could go on from there, and the next heartbeat says so. What one attempt
//! began and another finished neither has seen whole; its SHA-256 is left to the coordinator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use imaging::{EncodeError, Finished, Format, Writer};
use invsr::HandOver;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use upres_common::job::state::LeaseToken;
use upres_common::job::view::Progress;
use upres_common::lease::{HandedOver, Outcome, ResumePoint, UploadedPart};
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri, Ownership, sha256_hex};

use crate::digest::FileDigest;
use crate::hand_over;
use crate::lease::Held;

/// Stores ask for 5 MiB at least. The smaller the parts, the less is made again after an interruption.
const PART_BYTES: u64 = 8 << 20;
/// Stores allow 10,000.
const MAX_PARTS: u64 = 9_000;

/// Why nothing was written back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteBackError {
    #[error("encode the result")]
    Encode(#[from] EncodeError),
    #[error("the encoder panicked")]
    EncoderPanicked,
    #[error("upload the result")]
    Upload(#[from] ObjectError),
    #[error("keep the result on disk until it is uploaded")]
    Disk(#[from] std::io::Error),
}

/// An upload with all its parts, not yet visible.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) upload: OpenUpload,
    pub(crate) parts: Vec<UploadedPart>,
    /// `None` if an earlier attempt wrote the first parts.
    pub(crate) sha256: Option<String>,
    pub(crate) bytes: u64,
    /// Time spent encoding.
    pub(crate) encoding: Duration,
    /// Time spent uploading.
    pub(crate) uploading: Duration,
}

impl Uploaded {
    /// What the coordinator is told, but for the record.
    ///
    /// - `width`, `height`: of the result, in pixels.
    pub(crate) fn outcome(
        self,
        (width, height): (u32, u32),
        progress: Progress,
        timings: BTreeMap<String, u64>,
        warnings: Vec<String>,
    ) -> Outcome {
        let side = |pixels| i32::try_from(pixels).unwrap_or(i32::MAX);
        Outcome {
            input: None,
            upload_id: self.upload.id,
            upload_token: self.upload.token,
            parts: self.parts,
            sha256: self.sha256,
            bytes: i64::try_from(self.bytes).unwrap_or(i64::MAX),
            width: side(width),
            height: side(height),
            progress,
            timings,
            warnings,
            sidecar: None,
        }
    }
}

/// How writing ended.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it in each attempt"
)]
pub(crate) enum Written<'a> {
    /// With the last row.
    Whole(Uploaded),
    /// Before it: no more rows came.
    Cut(WriteBack<'a>, Writer),
}

/// An upload, and the lease under which it was begun.
#[derive(Debug, Clone)]
pub(crate) struct OpenUpload {
    pub(crate) id: String,
    pub(crate) token: LeaseToken,
}

/// What a result depends on beside the job itself. Work goes on only where both are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeWith {
    /// [`Loaded::identity`](crate::engine::Loaded::identity).
    pub(crate) engine: String,
    pub(crate) input_sha256: String,
}

/// [`ResumePoint::state`], as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ResumeState {
    pub(crate) made_with: MadeWith,
    pub(crate) checkpoint: imaging::Checkpoint,
}

/// Where a file goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) objects: &'a ObjectStore,
    pub(crate) held: &'a Held,
    pub(crate) output: &'a ObjectUri,
    pub(crate) format: Format,
    /// Rows of the result, of all its pages.
    pub(crate) rows: u32,
    /// What the file may come to.
    pub(crate) largest_bytes: u64,
}

/// One file on its way to the store.
pub(crate) struct WriteBack<'a> {
    to: Destination<'a>,
    made_with: MadeWith,
    upload: Option<OpenUpload>,
    parts: Vec<UploadedPart>,
    bytes: u64,
    digest: FileDigest,
    encoding: Duration,
    uploading: Duration,
}

impl<'a> WriteBack<'a> {
    /// A file from its first row.
    pub(crate) fn new(to: Destination<'a>, made_with: MadeWith) -> Self {
        Self {
            digest: FileDigest::new(to.format),
            to,
            made_with,
            upload: None,
            parts: Vec::new(),
            bytes: 0,
            encoding: Duration::ZERO,
            uploading: Duration::ZERO,
        }
    }

    /// A file that another attempt began.
    ///
    /// - `bytes`: those that lie in its parts.
    pub(crate) fn going_on(
        to: Destination<'a>,
        made_with: MadeWith,
        point: &ResumePoint,
        bytes: u64,
    ) -> Self {
        to.held
            .upload_id
            .send_replace(Some(point.upload_id.clone()));
        to.held.resume.send_replace(Some(point.clone()));
        Self {
            upload: Some(OpenUpload {
                id: point.upload_id.clone(),
                token: point.upload_token,
            }),
            parts: point.parts.clone(),
            bytes,
            digest: FileDigest::Unseen,
            ..Self::new(to, made_with)
        }
    }

    /// Writes rows as they come, until the file is whole or no more come.
    pub(crate) async fn run(
        mut self,
        mut writer: Writer,
        mut bands: mpsc::Receiver<Vec<u8>>,
    ) -> Result<Written<'a>, WriteBackError> {
        let part_bytes = PART_BYTES.max(self.to.largest_bytes / MAX_PARTS);
        while writer.next_row() < self.to.rows {
            let Some(rows) = bands.recv().await else {
                return Ok(Written::Cut(self, writer));
            };
            let started = Instant::now();
            writer = off_the_runtime(move || {
                writer.push_samples(&rows)?;
                Ok(writer)
            })
            .await?;
            self.encoding += started.elapsed();
            if writer.ready_bytes() as u64 >= part_bytes {
                self.put_next(writer.take()).await?;
                self.announce(&writer);
            }
        }
        let started = Instant::now();
        let Finished { head, tail } = off_the_runtime(move || Ok(writer.finish()?)).await?;
        self.encoding += started.elapsed();
        if !tail.is_empty() {
            self.put_next(tail).await?;
        }
        Ok(Written::Whole(self.finish(head).await?))
    }

    /// Leaves all that was not uploaded to the next worker: what the engine keeps, and what the writer
    /// does. A place that cannot be written to costs the next worker some tiles, nothing else.
    ///
    /// - `before`: tiles of pages that this attempt finished.
    pub(crate) async fn leave(
        mut self,
        writer: Writer,
        engine: &HandOver,
        before: usize,
    ) -> Result<(), WriteBackError> {
        let Some(place) = self.to.held.lease.hand_over_to.as_deref() else {
            return Ok(());
        };
        let Ok(place) = place.parse::<ObjectUri>() else {
            return Ok(());
        };
        // Its parts so far are where a worker goes on that cannot have the rest. Where the store is away a
        // drain still costs the job no attempt.
        if let Err(error) = self.upload().await {
            tracing::warn!(object.key = %place, error = &error as &dyn std::error::Error, "cannot leave unfinished work to the next worker");
            return Ok(());
        }
        self.announce(&writer);
        let Some(point) = self.to.held.resume.borrow().clone() else {
            return Ok(());
        };
        let Some(bytes) = hand_over::to_bytes(writer, engine) else {
            return Ok(());
        };
        let hand_over = HandedOver {
            address: place.to_string(),
            sha256: sha256_hex(&bytes),
        };
        let length = bytes.len();
        if let Err(error) = self.to.objects.put(&place, bytes).await {
            tracing::warn!(object.key = %place, error = &error as &dyn std::error::Error, "cannot leave unfinished work to the next worker");
            return Ok(());
        }
        tracing::info!(
            tile = engine.next_tile(),
            computed = before + engine.computed(),
            bytes = length,
            "unfinished work left to the next worker"
        );
        self.to.held.resume.send_replace(Some(ResumePoint {
            hand_over: Some(hand_over),
            ..point
        }));
        Ok(())
    }

    /// Uploads what follows the parts so far.
    async fn put_next(&mut self, bytes: Vec<u8>) -> Result<(), WriteBackError> {
        // What stands at the beginning of some files is known only at the end, and becomes part 1 then.
        let first = if self.to.format.head_comes_last() {
            2
        } else {
            1
        };
        let number = self.parts.last().map_or(first, |part| part.number + 1);
        let mut digest = std::mem::replace(&mut self.digest, FileDigest::Unseen);
        let (digest, bytes) = off_the_runtime(move || {
            digest.follow(&bytes)?;
            Ok((digest, bytes))
        })
        .await?;
        self.digest = digest;
        let part = self.put(number, bytes).await?;
        self.parts.push(part);
        Ok(())
    }

    async fn put(&mut self, number: i32, bytes: Vec<u8>) -> Result<UploadedPart, WriteBackError> {
        let started = Instant::now();
        let upload = self.upload().await?;
        let length = bytes.len() as u64;
        let Destination {
            objects, output, ..
        } = self.to;
        let part = objects
            .put_part(output, &upload.id, number, bytes.into())
            .await?;
        self.bytes += length;
        self.uploading += started.elapsed();
        Ok(part)
    }

    /// The upload, begun when it is first needed.
    async fn upload(&mut self) -> Result<OpenUpload, ObjectError> {
        if let Some(upload) = &self.upload {
            return Ok(upload.clone());
        }
        let Destination {
            objects,
            held,
            output,
            format,
            ..
        } = self.to;
        let ownership = Ownership {
            job_id: held.lease.job_id,
            attempt: held.lease.attempt,
            token: held.lease.token,
        };
        let id = objects
            .begin_upload(output, format.media_type(), &ownership)
            .await?;
        held.upload_id.send_replace(Some(id.clone()));
        let upload = OpenUpload {
            id,
            token: held.lease.token,
        };
        Ok(self.upload.insert(upload).clone())
    }

    /// Lets the next heartbeat tell where another worker could go on.
    fn announce(&self, writer: &Writer) {
        let (Some(upload), Some(checkpoint)) = (&self.upload, writer.checkpoint()) else {
            return;
        };
        let next_row = checkpoint.next_row;
        let state = ResumeState {
            made_with: self.made_with.clone(),
            checkpoint,
        };
        self.to.held.resume.send_replace(Some(ResumePoint {
            upload_id: upload.id.clone(),
            upload_token: upload.token,
            parts: self.parts.clone(),
            next_row,
            state: serde_json::to_string(&state).expect("plain data becomes JSON"),
            hand_over: None,
        }));
    }

    async fn finish(mut self, head: Vec<u8>) -> Result<Uploaded, WriteBackError> {
        let digest = std::mem::replace(&mut self.digest, FileDigest::Unseen);
        let (sha256, head) = off_the_runtime(move || Ok((digest.finish(&head)?, head))).await?;
        if !head.is_empty() {
            let part = self.put(1, head).await?;
            self.parts.insert(0, part);
        }
        Ok(Uploaded {
            upload: self.upload().await?,
            parts: self.parts,
            sha256,
            bytes: self.bytes,
            encoding: self.encoding,
            uploading: self.uploading,
        })
    }
}

/// Runs what computes or writes to a disk; a panic in a codec ends this attempt, not the process.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WriteBackError> + Send + 'static,
) -> Result<T, WriteBackError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(WriteBackError::EncoderPanicked))
}

/// Gives an upload up. A failure here costs storage, not correctness.
pub(crate) async fn abort(objects: &ObjectStore, output: &ObjectUri, upload_id: &str) {
    if let Err(error) = objects.abort_upload(output, upload_id).await {
        tracing::warn!(object.key = %output, error = &error as &dyn std::error::Error, "an abandoned upload was left behind");
    }
}
