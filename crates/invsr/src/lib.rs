//! InvSR: super-resolution by diffusion inversion (arXiv 2412.09013), on candle.
//!
//! Pixels in, pixels out: an image of any size is cut into overlapping tiles, each goes through four
//! networks, and the results are blended. Owns the networks, the tiling, the noise and the colour
//! correction. Refuses files, jobs and queues.
//!
//! Written from the published description; no official code, no official weights.

mod blend;
mod color_fix;
mod config;
mod device;
mod error;
mod image;
mod manifest;
mod nn;
mod noise;
mod noise_predictor;
mod npy;
mod pipeline;
mod prompt;
mod random;
mod resample;
mod run;
mod scheduler;
mod tiling;
mod unet;
mod upscale;
mod vae;
mod weights;

pub use color_fix::{ColorFix, ParseColorFixError};
pub use device::{DeviceSpec, Dtype, ParseDeviceError, ParseDtypeError};
pub use error::{Fault, LoadError, UpscaleError};
pub use image::{ImageSizeError, RgbImage};
pub use manifest::{MANIFEST_FILE, Manifest, ModelInfo};
pub use noise::{InjectedNoise, NoiseError};
pub use npy::NpyDump;
pub use pipeline::InvSr;
pub use random::{ParseSizeError, Size, WriteModelError, write_random_model};
pub use scheduler::{Schedule, ScheduleError};
pub use upscale::{Observer, Options, Plan, Progress, Timings, Upscale, Upscaled};
