//! InvSR super-resolution: pixels in, pixels out, four times as large each way.
//!
//! The engine takes an image row by row, cuts it into overlapping tiles, and runs each through a
//! noise predictor, a latent encoder, a few steps of a diffusion sampler and a decoder (arXiv
//! 2412.09013). It owns the networks, the tiling, the noise and the colour fixes. It knows no job,
//! no image file and no network service.
//!
//! Start at [`InvSr::load`] and [`Upscale::upscale`], or [`Upscale::upscale_rows`] for images that
//! do not fit in memory; `pipeline.rs` reads beside the paper.
//!
//! ```no_run
//! use invsr::{DeviceSpec, Dtype, InvSr, Options, RgbImage, Upscale};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut model = InvSr::load("models/upres-tiny".as_ref(), &DeviceSpec::Cpu, Dtype::F32)?;
//! let grey = RgbImage::new(64, 48, vec![0.5; 64 * 48 * 3])?;
//! let large = model.upscale(&grey, &Options::default(), &mut ())?.image;
//! assert_eq!((large.width, large.height), (256, 192));
//! # Ok(())
//! # }
//! ```

/// Raised whenever the same weights, picture and options give other bits than before: a job that one
/// revision began is not gone on with by another. A test in `nn` holds the bits of the layers to it.
pub const REVISION: u32 = 2;

mod bands;
mod blend;
mod color_fix;
mod compare;
mod config;
mod device;
mod error;
mod hand_over;
mod identity;
mod image;
mod import;
mod input;
mod manifest;
mod memory;
mod networks;
mod nn;
mod noise;
mod noise_predictor;
mod npy;
mod pipeline;
mod prompt;
mod random;
mod resample;
mod rows;
mod run;
mod scheduler;
mod text_encoder;
mod tiling;
mod tokenizer;
mod unet;
mod upscale;
mod vae;
mod watch;
mod weights;

pub use candle_core::{Error as TensorError, Tensor};
pub use color_fix::{ColorFix, ParseColorFixError};
pub use compare::{StageDistance, compare_stages};
pub use device::{DeviceSpec, Dtype, ParseDeviceError, ParseDtypeError};
pub use error::{Fault, LoadError, UpscaleError};
pub use hand_over::HandOver;
pub use identity::Identity;
pub use image::{ImageSizeError, RgbImage};
pub use import::{Import, ImportError, ImportProgress, Watch, import_model};
pub use manifest::{MANIFEST_FILE, Manifest, ModelInfo, Prompts};
pub use memory::{MemoryLimit, ParseMemoryLimitError};
pub use noise::{InjectedNoise, NoiseError};
pub use npy::NpyDump;
pub use pipeline::InvSr;
pub use random::{ParseSizeError, Size, WriteModelError, write_random_model};
pub use rows::{ImageRows, RowSink, RowSource, Stop};
pub use scheduler::{MAX_TIMESTEP, Schedule, ScheduleError, TRAINED_FIRST_TIMESTEPS};
pub use tokenizer::TokenizerError;
pub use upscale::{
    DEFAULT_OVERLAP_PX, Observer, Options, Plan, Progress, Spent, Start, Timings, Upscale,
    Upscaled, Widened,
};
pub use weights::CheckpointError;
