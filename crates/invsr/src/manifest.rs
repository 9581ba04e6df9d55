//! `upres-model.json`: what a model folder says about itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::read_json;
use crate::error::LoadError;
use crate::scheduler::Schedule;

/// The manifest's file name in a model folder.
pub const MANIFEST_FILE: &str = "upres-model.json";

/// A model folder's own account of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// A short name for people.
    pub name: String,
    /// Whether the weights were learnt; an untrained network makes noise, not pictures.
    #[serde(default = "learnt")]
    pub trained: bool,
    /// The licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// The prompts that were encoded, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// Schedules that suit the model, the default first.
    #[serde(default)]
    pub recommended_schedules: Vec<Schedule>,
    /// SHA-256 of every other file, in hexadecimal, by path inside the folder.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What a model is told of every picture: what it should be, and what it should not be.
///
/// The default is the method's own pair of prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompts {
    /// What the picture should be.
    pub positive: String,
    /// What it should not be; matters only with guidance.
    pub negative: String,
}

impl Default for Prompts {
    fn default() -> Self {
        let positive = "Cinematic, high-contrast, photo-realistic, 8k, ultra HD, meticulous \
                        detailing, hyper sharpness, perfect without deformations";
        let negative = "Low quality, blurring, jpeg artifacts, deformed, over-smooth, cartoon, \
                        noisy,painting, drawing, sketch, oil painting";
        Self {
            positive: positive.to_owned(),
            negative: negative.to_owned(),
        }
    }
}

impl Manifest {
    /// Reads a folder's manifest; `None` when it has none.
    ///
    /// # Errors
    /// [`LoadError::Read`] and [`LoadError::Parse`].
    pub fn read(dir: &Path) -> Result<Option<Self>, LoadError> {
        let path = dir.join(MANIFEST_FILE);
        if path.is_file() {
            read_json(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The listed files whose content is not as listed, or that are missing; in path order.
    ///
    /// # Errors
    /// [`LoadError::Read`] when a file is there and cannot be read.
    pub fn mismatches(&self, dir: &Path) -> Result<Vec<String>, LoadError> {
        let mut mismatches = Vec::new();
        for (name, listed) in &self.files {
            let path = dir.join(name);
            if !path.is_file() || digest_of_file(&path)? != *listed {
                mismatches.push(name.clone());
            }
        }
        Ok(mismatches)
    }

    /// Weights and configurations that the engine may read though they are not listed; in path
    /// order. Weights under another accepted name would take the place of those that were checked.
    ///
    /// # Errors
    /// [`LoadError::Read`] when a folder cannot be read.
    pub fn unlisted(&self, dir: &Path) -> Result<Vec<String>, LoadError> {
        let mut unlisted = Vec::new();
        for network in ["", "noise_predictor", "scheduler", "unet", "vae"] {
            let folder = dir.join(network);
            let failed = |source| LoadError::Read {
                path: folder.clone(),
                source,
            };
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let file = entry.file_name().to_string_lossy().into_owned();
                let name = match network {
                    "" => file,
                    _ => format!("{network}/{file}"),
                };
                let known = name == MANIFEST_FILE || self.files.contains_key(&name);
                if !known && is_read(&name) && entry.path().is_file() {
                    unlisted.push(name);
                }
            }
        }
        unlisted.sort();
        Ok(unlisted)
    }
}

fn is_read(name: &str) -> bool {
    const KINDS: [&str; 3] = [".safetensors", ".pth", ".json"];
    KINDS.iter().any(|kind| name.ends_with(kind))
}

fn learnt() -> bool {
    true
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn digest_of_file(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hex::encode(digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// What a loaded model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// From the manifest, else the folder's name.
    pub name: String,
    /// SHA-256 of the manifest in hexadecimal, which names every weight; `None` without one.
    pub digest: Option<String>,
    /// Whether the weights were learnt. A folder without a manifest is taken to be trained.
    pub trained: bool,
    /// The licence of the weights, where the manifest states it.
    pub licence: Option<String>,
    /// Where the weights come from, where the manifest states it.
    pub source: Option<String>,
    /// Schedules that suit the model, the default first; may be empty.
    pub recommended_schedules: Vec<Schedule>,
    /// What a tile side must be a multiple of, in input pixels.
    pub tile_multiple_px: u32,
}

impl ModelInfo {
    pub(crate) fn read(dir: &Path, tile_multiple_px: u32) -> Result<Self, LoadError> {
        let Some(manifest) = Manifest::read(dir)? else {
            let absolute = fs::canonicalize(dir).map_err(|source| LoadError::Read {
                path: dir.to_owned(),
                source,
            })?;
            let name = absolute.file_name().unwrap_or(absolute.as_os_str());
            return Ok(Self {
                name: name.to_string_lossy().into_owned(),
                digest: None,
                trained: true,
                licence: None,
                source: None,
                recommended_schedules: Vec::new(),
                tile_multiple_px,
            });
        };
        Ok(Self {
            name: manifest.name,
            digest: Some(digest_of_file(&dir.join(MANIFEST_FILE))?),
            trained: manifest.trained,
            licence: Some(manifest.licence),
            source: Some(manifest.source),
            recommended_schedules: manifest.recommended_schedules,
            tile_multiple_px,
        })
    }
}
