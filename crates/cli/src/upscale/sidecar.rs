//! The record beside a result, as the queue writes it too; here only when it is asked for.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use imaging::{Info, SharedFile};
use sha2::{Digest, Sha256};
use upres_common::sidecar::{
    EngineRecord, FileRecord, LAYOUT, SUFFIX, Settings, Sidecar, TilePlan,
};

use super::UpscaleArgs;
use super::engine::Engine;
use super::failure::Failure;
use super::picture::SCALE;
use super::report::Done;

/// Where the record of `output` goes.
pub fn path(output: &Path) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// The time, by the clock of this machine.
pub fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

/// What is known of a picture before the engine begins.
pub struct Begun {
    input: FileRecord,
    at: DateTime<Utc>,
}

impl Begun {
    /// # Errors
    /// The file cannot be read.
    pub fn new(
        path: &Path,
        file: SharedFile,
        info: &Info,
        at: DateTime<Utc>,
    ) -> Result<Self, Failure> {
        let (sha256, bytes) = digest(file).map_err(|error| Failure::reading(&error))?;
        Ok(Self {
            input: FileRecord {
                uri: path.display().to_string(),
                format: info.format.to_string(),
                sha256: Some(sha256),
                bytes,
                width: info.width,
                height: info.height,
            },
            at,
        })
    }

    /// The record of a result that is written.
    pub fn finished(self, done: &Done<'_>, engine: &Engine, args: &UpscaleArgs) -> Sidecar {
        let provenance = engine.provenance(&args.spec);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Sidecar {
            layout: LAYOUT,
            input: self.input,
            output: FileRecord {
                uri: done.output.display().to_string(),
                format: done.format.clone(),
                sha256: Some(done.sha256.clone()),
                bytes: done.bytes,
                width: done.width,
                height: done.height,
            },
            job: None,
            tiles: TilePlan {
                side_px: args.spec.tile,
                overlap_px: provenance.overlap,
                tiles: count(done.tiles),
                tile_steps: count(done.tiles.saturating_mul(engine.steps_a_tile())),
            },
            settings: Settings {
                timesteps: args.spec.schedule(),
                seed: args.spec.seed,
                guidance: provenance.guidance,
                color_fix: args.spec.color_fix,
                scale: SCALE,
            },
            engine: EngineRecord {
                software: provenance.software,
                model: provenance.model,
                model_sha256: engine.model_sha256(),
                device: args.device.to_string(),
                dtype: args.dtype.to_string(),
            },
            pages: done.pages.clone(),
            began_at: self.at,
            finished_at: now(),
            timings_ms: done.timings_ms.whole_milliseconds(),
            warnings: done.warnings.clone(),
        }
    }
}

/// SHA-256 and length of a file.
fn digest(mut file: SharedFile) -> io::Result<(String, u64)> {
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hex::encode(digest.finalize()), bytes)),
            read => {
                digest.update(&piece[..read]);
                bytes += read as u64;
            }
        }
    }
}
