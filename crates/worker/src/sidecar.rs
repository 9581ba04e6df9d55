//! The record of an attempt, for the coordinator to write beside the result.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use imaging::{Format, Info};
use upres_common::lease::{InputRead, Lease, Outcome};
use upres_common::sidecar::{
    EngineRecord, FileRecord, JobRecord, LAYOUT, PageRecord, Settings, Sidecar, TilePlan,
};

use crate::engine::MadeBy;
use crate::spec::{self, SCALE};

/// What is known of an attempt before the engine begins.
pub(crate) struct Begun {
    input: FileRecord,
    format: String,
    /// Of an input of several.
    pub(crate) pages: Vec<PageRecord>,
    at: DateTime<Utc>,
}

/// The time, by the clock of this machine: a record is for people, nothing is decided by it.
pub(crate) fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

impl Begun {
    pub(crate) fn new(
        lease: &Lease,
        read: &InputRead,
        info: &Info,
        format: Format,
        at: DateTime<Utc>,
    ) -> Self {
        Self {
            input: FileRecord {
                uri: lease.input.clone(),
                format: info.format.to_string(),
                sha256: Some(read.sha256.clone()),
                bytes: read.bytes,
                width: info.width,
                height: info.height,
            },
            format: format.to_string(),
            pages: Vec::new(),
            at,
        }
    }

    /// The record of a finished attempt, if the job wants one.
    pub(crate) fn finished(
        self,
        lease: &Lease,
        made_by: &MadeBy,
        outcome: &Outcome,
    ) -> Option<Box<Sidecar>> {
        let spec = &lease.upscale;
        let unsigned = |number: i32| u32::try_from(number).unwrap_or(0);
        spec.sidecar.then(|| {
            Box::new(Sidecar {
                layout: LAYOUT,
                output: FileRecord {
                    uri: lease.output.clone(),
                    format: self.format,
                    sha256: outcome.sha256.clone(),
                    bytes: u64::try_from(outcome.bytes).unwrap_or(0),
                    width: unsigned(outcome.width),
                    height: unsigned(outcome.height),
                },
                input: self.input,
                job: Some(JobRecord {
                    id: lease.job_id,
                    attempt: lease.attempt,
                }),
                settings: Settings {
                    timesteps: spec.timesteps.clone(),
                    seed: spec.seed,
                    guidance: spec.guidance.scale(),
                    color_fix: spec.color_fix,
                    scale: SCALE,
                },
                tiles: TilePlan {
                    side_px: spec.tile,
                    overlap_px: spec.overlap_px(),
                    tiles: outcome.progress.tiles_total,
                    tile_steps: outcome.progress.tile_steps_total,
                },
                pages: self.pages,
                engine: EngineRecord {
                    software: spec::SOFTWARE.to_owned(),
                    model: made_by.model.clone(),
                    model_sha256: made_by.model_sha256.clone(),
                    device: made_by.device.clone(),
                    dtype: made_by.dtype.clone(),
                },
                began_at: self.at,
                finished_at: now(),
                timings_ms: outcome.timings.clone(),
                warnings: outcome.warnings.clone(),
            })
        })
    }
}
