//! Random-weight model folders, for tests and rehearsals: real shapes, real layout, no training.
//!
//! Which tensors there are, and their shapes, the networks themselves say. A value depends on the
//! seed, the tensor's name and its place only: it follows from Philox4x32-10 and Box-Muller as in
//! `noise.rs`, with counter `(block low, block high, name 0, name 1)`, where the name stands for the
//! first two little-endian words of the SHA-256 of `network.tensor`.

mod sizes;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use safetensors::tensor::{Dtype, View};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::{PredictorConfig, UnetConfig, VaeConfig};
use crate::error::LoadError;
use crate::manifest::{MANIFEST_FILE, Manifest, digest_of_file};
use crate::noise::{halves, normals, philox};
use crate::noise_predictor::NoisePredictor;
use crate::prompt::PROMPT_FILE;
use crate::scheduler::Schedule;
use crate::unet::Unet;
use crate::vae::Vae;
use crate::weights::Weights;

const WEIGHTS_FILE: &str = "diffusion_pytorch_model.safetensors";
/// Tokens of the stored prompt.
const PROMPT_LENGTH: usize = 77;
/// Brings a random VAE's posterior near the narrowness of a trained one.
const POSTERIOR_BIAS: f32 = -4.0;

/// The shapes of a random model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The release's structure with few channels: 6 MB, for tests.
    Tiny,
    /// A latent of a quarter of the image with eight channels, a predictor of one level without
    /// attention.
    Quarter,
    /// The release's shapes: 4 GB.
    Full,
}

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tiny" => Ok(Self::Tiny),
            "quarter" => Ok(Self::Quarter),
            "full" => Ok(Self::Full),
            _ => Err(ParseSizeError(text.to_owned())),
        }
    }
}

/// A size by an unknown name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("size {0:?} is unknown: use tiny, quarter or full")]
pub struct ParseSizeError(String);

/// Why a model folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteModelError {
    /// A file or a folder could not be written.
    #[error("write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A weights file could not be written.
    #[error("write weights to {path}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// What was written cannot be read back.
    #[error("lay out the networks")]
    ReadBack(#[from] LoadError),
}

/// The configuration of the released noise predictor, whose file does not hold it.
pub(crate) fn released_noise_predictor() -> Value {
    sizes::noise_predictor(Size::Full)
}

/// Writes the configurations alone; returns their paths.
pub(crate) fn write_configs(size: Size, out: &Path) -> Result<Vec<String>, WriteModelError> {
    let mut paths = Vec::new();
    for (path, value) in sizes::configs(size) {
        write_json(&out.join(path), &value)?;
        paths.push(path.to_owned());
    }
    Ok(paths)
}

/// Writes a model folder of random `f32` weights, with a manifest that says it is untrained. Files
/// of the same names are replaced; one tensor at a time is in memory.
///
/// The same size and seed give the same bytes.
///
/// # Errors
/// [`WriteModelError`], most likely a full disk.
pub fn write_random_model(size: Size, seed: u64, out: &Path) -> Result<(), WriteModelError> {
    let configs = write_configs(size, out)?;
    let (vae, unet) = (VaeConfig::read(out)?, UnetConfig::read(out)?);
    let predictor = PredictorConfig::read(out)?;
    let draw = Draw {
        seed,
        latent_channels: vae.latent_channels,
    };
    draw.network(out, "vae", |weights| {
        Vae::load(&weights.root(), &vae).map(drop)
    })?;
    draw.network(out, "unet", |weights| {
        Unet::load(&weights.root(), &unet).map(drop)
    })?;
    draw.network(out, "noise_predictor", |weights| {
        NoisePredictor::load(&weights.root(), &predictor).map(drop)
    })?;
    let prompts = ["positive", "negative"].map(|name| {
        let shape = vec![1, PROMPT_LENGTH, unet.cross_attention_dim];
        (name.to_owned(), draw.tensor("prompt", name, shape))
    });
    write_tensors(&out.join(PROMPT_FILE), prompts.into())?;

    let networks = ["vae", "unet", "noise_predictor"].map(|name| format!("{name}/{WEIGHTS_FILE}"));
    let paths = configs
        .into_iter()
        .chain(networks)
        .chain([PROMPT_FILE.to_owned()]);
    write_manifest(size, seed, paths, out)
}

fn write_manifest(
    size: Size,
    seed: u64,
    paths: impl Iterator<Item = String>,
    out: &Path,
) -> Result<(), WriteModelError> {
    let mut files = BTreeMap::new();
    for path in paths {
        let digest = digest_of_file(&out.join(&path))?;
        files.insert(path, digest);
    }
    let manifest = Manifest {
        name: format!("random-{size:?}-{seed}").to_lowercase(),
        trained: false,
        licence: "CC0-1.0".to_owned(),
        source: format!("random weights, seed {seed}"),
        prompts: None,
        recommended_schedules: vec![Schedule::default()],
        files,
    };
    write_json(&out.join(MANIFEST_FILE), &json!(manifest))
}

fn write_tensors(path: &Path, tensors: Vec<(String, Drawn)>) -> Result<(), WriteModelError> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|source| {
        WriteModelError::Weights {
            path: path.to_owned(),
            source,
        }
    })?;
    // The library writes through a temporary file, which its owner alone may read.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(|source| {
        WriteModelError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

fn write_json(path: &Path, value: &Value) -> Result<(), WriteModelError> {
    let failed = |source| WriteModelError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, format!("{value:#}\n")).map_err(failed)
}

/// Draws the tensors of one model.
#[derive(Clone, Copy)]
struct Draw {
    seed: u64,
    latent_channels: usize,
}

impl Draw {
    /// Writes the weights of the network that `load` asks the shapes of.
    fn network(
        self,
        out: &Path,
        name: &'static str,
        load: impl FnOnce(&Weights) -> Result<(), LoadError>,
    ) -> Result<(), WriteModelError> {
        let weights = Weights::shapes_only();
        load(&weights)?;
        let shapes = weights.into_shapes().into_iter();
        let drawn = shapes.map(|(tensor, shape)| {
            let drawn = self.tensor(name, &tensor, shape);
            (tensor, drawn)
        });
        write_tensors(&out.join(name).join(WEIGHTS_FILE), drawn.collect())
    }

    /// One tensor, scaled so that a random network's output stays in the range of a trained one's.
    fn tensor(self, network: &str, name: &str, shape: Vec<usize>) -> Drawn {
        let digest = Sha256::digest(format!("{network}.{name}"));
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| digest[at + i]));
        let [high, low] = halves(self.seed);
        let inputs: usize = shape.iter().skip(1).product();
        let gain = match (network, name) {
            ("vae", "decoder.conv_out.weight") => 0.5,
            ("noise_predictor", "encoder.conv_out.weight") => 0.7,
            _ => 1.0,
        };
        let (scale, shift) = match shape.len() {
            _ if network == "prompt" => (1.0, 0.0),
            0 | 1 if name.ends_with("weight") => (0.1, 1.0),
            0 | 1 => (0.05, 0.0),
            _ => (gain / (inputs as f32).sqrt(), 0.0),
        };
        let is_posterior = network == "vae" && name == "quant_conv.bias";
        let lowered_from = if is_posterior {
            self.latent_channels
        } else {
            usize::MAX
        };
        Drawn {
            shape,
            key: [low, high],
            stream: [word(0), word(4)],
            scale,
            shift,
            lowered_from,
        }
    }
}

/// A tensor that is drawn when it is written.
struct Drawn {
    shape: Vec<usize>,
    key: [u32; 2],
    stream: [u32; 2],
    scale: f32,
    shift: f32,
    /// From this index on [`POSTERIOR_BIAS`] is added.
    lowered_from: usize,
}

impl Drawn {
    /// Normals `4 * block` to `4 * block + 3` of this tensor.
    fn block(&self, block: u64) -> [f32; 4] {
        let ([high, low], [a, b]) = (halves(block), self.stream);
        normals(philox([low, high, a, b], self.key))
    }
}

impl View for Drawn {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        bytes
            .par_chunks_mut(4 * size_of::<f32>())
            .enumerate()
            .for_each(|(block, bytes)| {
                let normals = self.block(block as u64);
                for (i, (bytes, normal)) in bytes.chunks_exact_mut(4).zip(normals).enumerate() {
                    let lowered = 4 * block + i >= self.lowered_from;
                    let bias = if lowered { POSTERIOR_BIAS } else { 0.0 };
                    bytes.copy_from_slice(&(normal * self.scale + self.shift + bias).to_le_bytes());
                }
            });
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}
