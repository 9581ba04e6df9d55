//! What can go wrong, and whose fault it is.

use std::path::PathBuf;

use crate::device::{DeviceSpec, Dtype};
use crate::hand_over::HandOver;
use crate::noise::NoiseError;
use crate::rows::Stop;
use crate::weights::CheckpointError;

/// Why a model folder could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The CPU backend has no half-precision arithmetic.
    #[error("the CPU computes in f32 only, not in {0}")]
    CpuDtype(Dtype),
    /// The program was built without CUDA.
    #[error("device {0} needs a build with CUDA: cargo build --release --features cuda,cudnn")]
    NoCuda(DeviceSpec),
    /// The device exists in name only, or is busy.
    #[error("open device {device}")]
    OpenDevice {
        /// The device asked for.
        device: DeviceSpec,
        /// What the driver said.
        #[source]
        source: candle_core::Error,
    },
    /// The weights are over the limit, without any picture.
    #[error(
        "the model's weights take {} MiB, over the memory limit of {} MiB",
        .needed.div_ceil(1 << 20), .limit >> 20
    )]
    Memory {
        /// What the weights take, in bytes.
        needed: u64,
        /// What may be taken, in bytes.
        limit: u64,
    },
    /// A file of the model folder could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// A configuration file is not what it should be.
    #[error("parse {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A configuration asks for something that this engine does not have.
    #[error("{network} configuration: {reason}")]
    Unsupported {
        /// `unet`, `vae`, `noise_predictor` or `scheduler`.
        network: &'static str,
        /// What is asked for, and what would be accepted.
        reason: String,
    },
    /// A network's folder has no weights file.
    #[error("no weights in {0}: expected a .safetensors file")]
    NoWeights(PathBuf),
    /// Git left a pointer where it should have put the weights.
    #[error(
        "{0} is only Git's pointer to the weights: fetch them with `git lfs pull` in its repository"
    )]
    LfsPointer(PathBuf),
    /// A download saved an error or login page.
    #[error("{0} is a web page and holds no weights: download the file itself")]
    WebPage(PathBuf),
    /// A PyTorch checkpoint cannot or must not be read.
    #[error("read checkpoint {path}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CheckpointError,
    },
    /// Two tensors have one name once the prefixes of training are taken off, or two parts of a
    /// network hold the same tensor.
    #[error("{path} holds tensor {name:?} a second time")]
    TwiceTheTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        name: String,
    },
    /// A weights file is damaged or of another kind.
    #[error("read weights from {path}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: candle_core::Error,
    },
    /// A weights file lacks a tensor that the configuration implies.
    #[error("{path} has no tensor {name:?}")]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        name: String,
    },
    /// A stored tensor has another shape than the configuration implies.
    #[error("tensor {name:?} in {path} is {found:?}, expected {expected:?}")]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor's full name.
        name: String,
        /// The shape stored.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// The prompt was never encoded; this engine has no text encoder.
    #[error(
        "{0} is missing: `upres models import` encodes the prompt once and stores it beside the networks"
    )]
    NoPrompt(PathBuf),
    /// The weights were read but could not be made ready on the device.
    #[error("prepare the networks")]
    Prepare(#[source] candle_core::Error),
}

/// Why an image could not be upscaled.
#[derive(Debug, thiserror::Error)]
pub enum UpscaleError {
    /// The observer answered `Break`.
    #[error("cancelled")]
    Cancelled,
    /// The observer asked for it: this much is done.
    #[error("suspended before tile {}", .0.next_tile())]
    Suspended(Box<HandOver>),
    /// What an earlier run left belongs to another image, other options, or another model.
    #[error("what was handed over belongs to another run")]
    HandOver,
    /// The tile side does not fit the model's networks.
    #[error(
        "a tile side of {tile_px} px does not fit this model: use a multiple of {multiple} px, at most {largest}"
    )]
    TileSize {
        /// The side asked for.
        tile_px: u32,
        /// What it must be a multiple of.
        multiple: u32,
        /// The largest side accepted.
        largest: u32,
    },
    /// The overlap does not fit the tiles, or would put neighbours' latents off each other.
    #[error(
        "an overlap of {overlap_px} px does not fit tiles of {tile_px} px: use a multiple of {multiple} px, less than a tile"
    )]
    Overlap {
        /// The overlap asked for.
        overlap_px: u32,
        /// The tile side.
        tile_px: u32,
        /// What it must be a multiple of.
        multiple: u32,
    },
    /// A tile batch of nothing.
    #[error("a tile batch must hold at least one tile")]
    EmptyTileBatch,
    /// The image has no pixels, or its result could not be addressed.
    #[error("an image of {width}x{height} px cannot be upscaled")]
    ImageSize {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A first row that the result does not have.
    #[error("row {first_row} is not in the result, which has {rows} rows")]
    FirstRow {
        /// The row asked for.
        first_row: u32,
        /// Rows of the result.
        rows: u32,
    },
    /// The source could not give a row.
    #[error("read the rows of the input")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sink could not take rows.
    #[error("hand over finished rows")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Guidance that is no number, or that would pull towards the negative prompt.
    #[error("guidance is {0}: use 1 for none, or a number above")]
    Guidance(f64),
    /// Guidance needs the negative prompt, and the model folder holds none.
    #[error(
        "the model has no negative prompt, which guidance needs: `upres models import` stores one"
    )]
    NoNegativePrompt,
    /// The injected noise was made for another run.
    #[error("injected noise does not fit this run")]
    Noise(#[source] NoiseError),
    /// Even with one tile at a time more memory is needed than may be taken.
    #[error(
        "about {} MiB of memory are needed even for one tile at a time, over the limit of {} MiB",
        .needed.div_ceil(1 << 20), .limit >> 20
    )]
    Memory {
        /// What was reckoned, in bytes.
        needed: u64,
        /// What may be taken, in bytes.
        limit: u64,
    },
    /// The device had no room for this batch now.
    #[error("out of device memory in {stage} on tile {tile}")]
    OutOfMemory {
        /// The stage that asked for memory.
        stage: &'static str,
        /// First tile of the batch, counted from 0 in raster order.
        tile: usize,
        /// What the driver said.
        #[source]
        source: candle_core::Error,
    },
    /// The device no longer answers; only a new process can use it again.
    #[error("device lost in {stage} on tile {tile}")]
    DeviceLost {
        /// The stage that noticed.
        stage: &'static str,
        /// First tile of the batch.
        tile: usize,
        /// What the driver said.
        #[source]
        source: candle_core::Error,
    },
    /// A network produced an infinity or not a number.
    #[error("{stage} produced a value that is not finite on tile {tile}")]
    NonFinite {
        /// The stage whose output is spoilt.
        stage: &'static str,
        /// The tile, counted from 0 in raster order.
        tile: usize,
    },
    /// Half precision could not hold a tile, and the networks in `f32` cannot be had either.
    #[error("load the networks in f32 for tile {tile}, which half precision cannot hold")]
    Widen {
        /// The tile, counted from 0 in raster order.
        tile: usize,
        /// Why not.
        #[source]
        source: Box<LoadError>,
    },
    /// A tensor operation was refused: a bug, or a model that contradicts its configuration.
    #[error("compute {stage} on tile {tile}")]
    Compute {
        /// The stage that failed.
        stage: &'static str,
        /// First tile of the batch.
        tile: usize,
        /// What was refused.
        #[source]
        source: candle_core::Error,
    },
    /// The observer could not take a tensor.
    #[error("hand tensor {name:?} to the observer")]
    Observer {
        /// The tensor's name.
        name: String,
        /// What the observer said.
        #[source]
        source: candle_core::Error,
    },
}

/// Whose fault a failure is, and so what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request: it fails every time.
    Input,
    /// The moment: the same request may succeed later, here.
    Moment,
    /// The device: the same request may succeed in another process.
    Device,
    /// The engine or the model: a person must look.
    Engine,
    /// The caller's own source or sink, which knows why.
    Caller,
    /// Nobody's: it was asked for.
    Cancelled,
}

impl UpscaleError {
    /// Whose fault it is; the caller decides what follows. No `_` arm: a new error must choose.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Cancelled | Self::Suspended(_) => Fault::Cancelled,
            Self::TileSize { .. }
            | Self::Overlap { .. }
            | Self::EmptyTileBatch
            | Self::ImageSize { .. }
            | Self::FirstRow { .. }
            | Self::Guidance(_)
            | Self::NoNegativePrompt
            | Self::Noise(_) => Fault::Input,
            Self::Memory { .. } | Self::OutOfMemory { .. } | Self::Observer { .. } => Fault::Moment,
            Self::DeviceLost { .. } => Fault::Device,
            Self::Source(_) | Self::Sink(_) | Self::HandOver => Fault::Caller,
            Self::NonFinite { .. } | Self::Widen { .. } | Self::Compute { .. } => Fault::Engine,
        }
    }

    /// Sorts what came of reading the networks in `f32`: the device may have no room for them.
    pub(crate) fn from_load(tile: usize, source: LoadError) -> Self {
        match source {
            LoadError::Weights { source, .. } | LoadError::Prepare(source) => {
                Self::from_candle("networks in f32", tile, source)
            }
            source => Self::Widen {
                tile,
                source: Box::new(source),
            },
        }
    }

    pub(crate) fn from_source(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Cancelled,
            Stop::Failed(source) => Self::Source(source),
        }
    }

    pub(crate) fn from_sink(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Cancelled,
            Stop::Failed(source) => Self::Sink(source),
        }
    }

    /// Sorts a tensor library's error by what the driver said, which is text only.
    pub(crate) fn from_candle(
        stage: &'static str,
        tile: usize,
        source: candle_core::Error,
    ) -> Self {
        let text = source.to_string();
        let said = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if said(&["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED"]) {
            Self::OutOfMemory {
                stage,
                tile,
                source,
            }
        } else if said(&["CUDA_ERROR", "DriverError", "CUBLAS_STATUS", "CUDNN_STATUS"]) {
            Self::DeviceLost {
                stage,
                tile,
                source,
            }
        } else {
            Self::Compute {
                stage,
                tile,
                source,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_errors_are_sorted_by_what_may_follow() {
        let fault = |text: &str| {
            let source = candle_core::Error::Cuda(text.to_owned().into());
            UpscaleError::from_candle("unet", 0, source).fault()
        };
        assert_eq!(
            fault("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"),
            Fault::Moment
        );
        assert_eq!(
            fault("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"..\")"),
            Fault::Device
        );
        assert_eq!(fault("no cuda implementation for softmax"), Fault::Engine);
    }
}
