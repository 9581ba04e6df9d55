//! The record beside a result, `<output>.upres.json`: what was made of what, by what and how.
//!
//! Described for people in `docs/provenance.md` and for programs in `docs/sidecar.schema.json`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::JobId;
use crate::job::spec::{ColorFix, Timesteps};

/// What a record's name has behind the name of its result.
pub const SUFFIX: &str = ".upres.json";

/// Changes whenever a program that reads records would have to.
pub const LAYOUT: u32 = 1;

/// The record of one result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sidecar {
    /// The layout of this document: 1.
    pub layout: u32,
    /// What was read.
    pub input: FileRecord,
    /// What was written.
    pub output: FileRecord,
    /// The job of the queue; absent for a result of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRecord>,
    /// How it was upscaled.
    pub settings: Settings,
    /// How it was cut.
    pub tiles: TilePlan,
    /// The pages that were upscaled, if the source has several; sizes elsewhere are those of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageRecord>,
    /// With what.
    pub engine: EngineRecord,
    /// When the work began, by the clock of the machine that did it.
    pub began_at: DateTime<Utc>,
    /// When the last row was written.
    pub finished_at: DateTime<Utc>,
    /// Milliseconds by stage. Of work that went on where other work had stopped: those of the last part.
    pub timings_ms: BTreeMap<String, u64>,
    /// What a careful person should know.
    pub warnings: Vec<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileRecord {
    /// Its address or path.
    pub uri: String,
    /// `jpeg`, `png`, `tiff`, `webp`, and for inputs also `gif`, `bmp` and `jpeg2000`.
    pub format: String,
    /// Of its bytes, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// Upright, in pixels.
    pub width: u32,
    /// Upright, in pixels.
    pub height: u32,
}

/// One page of a source of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageRecord {
    /// In the source, from 1.
    pub page: u32,
    /// Of the source, upright, in pixels.
    pub width: u32,
    /// Of the source, upright, in pixels.
    pub height: u32,
    /// How many tiles it was cut into.
    pub tiles: u32,
}

/// A job and the attempt that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRecord {
    /// Which job.
    pub id: JobId,
    /// From 1.
    pub attempt: i32,
}

/// The settings that decide over the pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// The denoising schedule.
    pub timesteps: Timesteps,
    /// What keys the noise.
    pub seed: u64,
    /// How far the model kept away from its negative prompt; 1 is not at all.
    pub guidance: f64,
    /// How colours were brought back.
    pub color_fix: ColorFix,
    /// Result pixels for each of the source, in each direction.
    pub scale: u32,
}

/// How the picture was cut into tiles; sides in pixels of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TilePlan {
    /// Side of a tile.
    pub side_px: u32,
    /// What neighbours share.
    pub overlap_px: u32,
    /// How many there are.
    pub tiles: u32,
    /// Tiles times denoising steps.
    pub tile_steps: u32,
}

/// What did the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineRecord {
    /// Program and version.
    pub software: String,
    /// Name of the model.
    pub model: String,
    /// SHA-256 of the model's manifest, which lists the digests of its weights; lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
}

impl Sidecar {
    /// The document, as it is written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data becomes JSON");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;
