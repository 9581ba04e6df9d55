//! Which files of a network's folder hold its weights, and what kind of file one is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::read_json;
use crate::error::LoadError;

/// Where the released noise predictor lies when it was never converted.
const RELEASED_CHECKPOINT: &str = "noise_predictor_sd_turbo_v5.pth";

/// What diffusers and transformers call a network's weights.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// The files that hold the weights of the network in `folder`: the diffusers file, with or without
/// the `.fp16` suffix, whole or in the parts that its index names; else the folder's first
/// `.safetensors` or `.pth`; else (for the noise predictor) the released checkpoint beside it.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    for variant in ["", ".fp16"] {
        for stem in STEMS {
            let whole = folder.join(format!("{stem}{variant}.safetensors"));
            if whole.is_file() {
                return Ok(vec![whole]);
            }
            let index = folder.join(format!("{stem}.safetensors.index{variant}.json"));
            if index.is_file() {
                return parts(folder, &index);
            }
        }
    }
    let entries = fs::read_dir(folder).map_err(|source| LoadError::Read {
        path: folder.to_owned(),
        source,
    })?;
    let mut candidates: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    candidates.sort();
    if folder
        .file_name()
        .is_some_and(|name| name == "noise_predictor")
    {
        candidates.push(folder.with_file_name(RELEASED_CHECKPOINT));
    }
    for extension in ["safetensors", "pth"] {
        let mut found = candidates
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == extension) && path.is_file());
        if let Some(path) = found.next() {
            return Ok(vec![path.clone()]);
        }
    }
    Err(LoadError::NoWeights(folder.to_owned()))
}

/// The files that an index of a network in parts names, all of them in its own folder.
fn parts(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, LoadError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let read: Index = read_json(index)?;
    let names: BTreeSet<&String> = read.weight_map.values().collect();
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        // An index leads nowhere else.
        let plain = Path::new(name)
            .file_name()
            .is_some_and(|file| file == name.as_str());
        if !plain {
            return Err(LoadError::NoWeights(index.to_owned()));
        }
        files.push(folder.join(name));
    }
    Ok(files)
}

/// What a weights file is by its first bytes, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    /// PyTorch's zip archive.
    Checkpoint,
    /// PyTorch's formats before 1.6, or a bare pickle.
    Legacy,
    /// What Git leaves of a large file that was not fetched.
    LfsPointer,
    /// An error or login page, saved under the file's name.
    WebPage,
}

impl Kind {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut start = Vec::new();
        File::open(path)?.take(512).read_to_end(&mut start)?;
        let text = start.trim_ascii_start();
        Ok(match &start[..] {
            [b'P', b'K', 3 | 5, ..] => Self::Checkpoint,
            [0x80, 1..=5, ..] if start.get(8) != Some(&b'{') => Self::Legacy,
            _ if start.get(257..262) == Some(b"ustar") => Self::Legacy,
            _ if start.starts_with(b"version https://git-lfs") => Self::LfsPointer,
            _ if text.starts_with(b"<") => Self::WebPage,
            _ => Self::Safetensors,
        })
    }
}
