//! The whole method, in the order of the paper; `run.rs` takes tiles through it and `bands.rs` an image.
//!
//! For a tile and a schedule with noise levels `sigma_0 > ... > sigma_S = 0`:
//!
//! ```text
//! noise  = predictor mean + deviation * eps               at the first timestep only
//! lr     = scaling * (VAE mean + deviation * eps')        of the tile, enlarged by bicubic
//! latent = lr + sigma_0 * noise
//! latent = latent + (sigma_k+1 - sigma_k) * unet(latent / sqrt(sigma_k^2 + 1), t_k)    for each k
//! pixels = VAE decoder of latent / scaling
//! ```
//!
//! With guidance `s` above 1 the UNet runs twice, and `negative + s * (positive - negative)` of what
//! it says for the two prompts takes its place.
//!
//! Source: arXiv 2412.09013, section 3; the colour fixes are those of its predecessors.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::bands::Bands;
use crate::config::{PredictorConfig, SCALE, SchedulerConfig, UnetConfig, VaeConfig};
use crate::device::{DeviceSpec, Dtype};
use crate::error::{LoadError, UpscaleError};
use crate::manifest::ModelInfo;
use crate::noise_predictor::NoisePredictor;
use crate::prompt::{self, Encoded};
use crate::rows::{RowSink, RowSource};
use crate::run::Run;
use crate::scheduler::NoiseTable;
use crate::tiling::{Cells, Tiling};
use crate::unet::{Prompted, Unet};
use crate::upscale::{Observer, Options, Plan, Spent, Start, Upscale};
use crate::vae::Vae;
use crate::weights::Weights;

/// The InvSR model, ready on a device.
///
/// On CUDA, load and use it on one thread: each thread has a stream of its own.
#[derive(Debug)]
pub struct InvSr {
    info: ModelInfo,
    device: Device,
    dtype: DType,
    predictor: NoisePredictor,
    vae: Vae,
    unet: Unet,
    positive: Prompt,
    negative: Option<Prompt>,
    noise_table: NoiseTable,
    grid: Grid,
}

/// An encoded prompt, and what the UNet's attentions make of it.
#[derive(Debug)]
struct Prompt {
    encoded: Tensor,
    read: Vec<Prompted>,
}

/// How pixels and latents relate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Latent channels.
    pub channels: usize,
    cells: Cells,
    /// What a latent is multiplied with after encoding.
    pub scaling: f64,
}

impl Grid {
    /// The shape of a tile's latent.
    pub(crate) fn latent(&self, tile: usize) -> [usize; 3] {
        let side = tile / self.cells.latent_px;
        [self.channels, side, side]
    }
}

impl InvSr {
    /// Loads a model folder: `unet/`, `vae/`, `scheduler/` and `noise_predictor/` with their
    /// configurations, `prompt_embeds.safetensors`, and `upres-model.json` if there is one. Sizes
    /// come from the configurations.
    ///
    /// # Errors
    /// [`LoadError`] names the file, or says what device and number format would do.
    pub fn load(dir: &Path, device: &DeviceSpec, dtype: Dtype) -> Result<Self, LoadError> {
        let device = device.open(dtype)?;
        let dtype = DType::from(dtype);
        let vae = VaeConfig::read(dir)?;
        let unet = UnetConfig::read(dir)?;
        let predictor = PredictorConfig::read(dir)?;
        let scheduler = SchedulerConfig::read(dir)?;
        let grid = grid(&vae, &unet, &predictor)?;
        let Encoded { positive, negative } = prompt::read(dir, unet.cross_attention_dim, &device)?;
        let weights = |network: &str| Weights::open(&dir.join(network), &device, dtype);
        let predictor = NoisePredictor::load(&weights("noise_predictor")?.root(), &predictor)?;
        let vae = Vae::load(&weights("vae")?.root(), &vae)?;
        let unet = Unet::load(&weights("unet")?.root(), &unet)?;
        let read = |encoded: Tensor| {
            let read = encoded
                .to_dtype(dtype)
                .and_then(|prompt| unet.read_prompt(&prompt))
                .map_err(LoadError::Prepare)?;
            Ok(Prompt { encoded, read })
        };
        let (positive, negative) = (read(positive)?, negative.map(read).transpose()?);
        let info = ModelInfo::read(dir, grid.cells.tile_multiple_px())?;
        tracing::debug!(model = info.name, trained = info.trained, "model loaded");
        Ok(Self {
            info,
            device,
            dtype,
            predictor,
            vae,
            unet,
            positive,
            negative,
            noise_table: NoiseTable::new(&scheduler),
            grid,
        })
    }

    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tiling(&self, width: u32, height: u32, options: &Options) -> Result<Tiling, UpscaleError> {
        let tiling = Tiling::new(width, height, options, self.grid.cells)?;
        if !options.guidance.is_finite() || options.guidance < 1.0 {
            return Err(UpscaleError::Guidance(options.guidance));
        }
        if options.is_guided() && self.negative.is_none() {
            return Err(UpscaleError::NoNegativePrompt);
        }
        if let Some(noise) = &options.noise {
            let latent = self.grid.latent(tiling.tile);
            noise
                .check(tiling.len(), latent)
                .map_err(UpscaleError::Noise)?;
        }
        Ok(tiling)
    }

    /// - `tiles`: `[B, 3, p, p]` in `[0, 1]`, in main memory.
    /// - returns mean and deviation of the starting noise, `[B, C, h, w]`, in `f32`.
    pub(crate) fn predict_noise(
        &self,
        tiles: &Tensor,
        timestep: u32,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let tiles = self.centred(tiles)?;
        self.predictor
            .forward(&tiles, &self.timesteps(timestep, tiles.dim(0)?)?)
    }

    /// - `enlarged`: `[B, 3, 4p, 4p]` around `[0, 1]`, in main memory.
    /// - returns mean and deviation of the latent before scaling, `[B, C, h, w]`, in `f32`.
    pub(crate) fn encode(&self, enlarged: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        self.vae.encode(&self.centred(enlarged)?)
    }

    /// The noise that the UNet sees in `latent` (`[B, C, h, w]`, `f32`) at noise level `sigma`.
    pub(crate) fn denoise(
        &self,
        latent: &Tensor,
        timestep: u32,
        sigma: f64,
        guidance: f64,
    ) -> candle_core::Result<Tensor> {
        let input = (latent / (sigma * sigma + 1.0).sqrt())?.to_dtype(self.dtype)?;
        let timesteps = self.timesteps(timestep, latent.dim(0)?)?;
        let seen = |prompt: &Prompt| {
            self.unet
                .forward(&input, &timesteps, &prompt.read)?
                .to_dtype(DType::F32)
        };
        let positive = seen(&self.positive)?;
        match &self.negative {
            // One after the other: both at once would take the memory of twice the tiles.
            Some(negative) if guidance > 1.0 => {
                let negative = seen(negative)?;
                &negative + ((positive - &negative)? * guidance)?
            }
            _ => Ok(positive),
        }
    }

    /// `[B, C, h, w]` to `[B, 3, 4p, 4p]` around `[-1, 1]`, in `f32` and main memory.
    pub(crate) fn decode(&self, latent: &Tensor) -> candle_core::Result<Tensor> {
        let input = (latent / self.grid.scaling)?.to_dtype(self.dtype)?;
        self.vae
            .decode(&input)?
            .to_dtype(DType::F32)?
            .to_device(&Device::Cpu)
    }

    /// A tensor from main memory, where the latents are.
    pub(crate) fn on_device(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        tensor.to_device(&self.device)
    }

    pub(crate) fn grid(&self) -> &Grid {
        &self.grid
    }

    pub(crate) fn noise_table(&self) -> &NoiseTable {
        &self.noise_table
    }

    /// The encoded prompt, `[1, L, D]`.
    pub(crate) fn positive_prompt(&self) -> &Tensor {
        &self.positive.encoded
    }

    /// The same for what the result should not be, if the model has it.
    pub(crate) fn negative_prompt(&self) -> Option<&Tensor> {
        self.negative.as_ref().map(|prompt| &prompt.encoded)
    }

    fn centred(&self, pixels: &Tensor) -> candle_core::Result<Tensor> {
        self.on_device(&pixels.affine(2.0, -1.0)?)?
            .to_dtype(self.dtype)
    }

    /// The same timestep for each row, counted from 0 as the networks do.
    fn timesteps(&self, timestep: u32, rows: usize) -> candle_core::Result<Tensor> {
        Tensor::full(timestep as f32 - 1.0, rows, &self.device)
    }
}

impl Upscale for InvSr {
    fn plan(&self, width: u32, height: u32, options: &Options) -> Result<Plan, UpscaleError> {
        let tiles = self.tiling(width, height, options)?.len();
        Ok(Plan {
            tiles,
            tile_steps: tiles * options.schedule.timesteps().len(),
        })
    }

    fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        start: Start,
        options: &Options,
        sink: &mut dyn RowSink,
        observer: &mut dyn Observer,
    ) -> Result<Spent, UpscaleError> {
        let tiling = self.tiling(source.width(), source.height(), options)?;
        let bands = Bands::new(&tiling, options, source, start, sink, observer)?;
        bands.run(&mut Run {
            model: self,
            options,
        })
    }
}

/// Checks that the networks speak of the same latents.
/// Refuses networks that do not fit each other.
pub(crate) fn check_fit(
    vae: &VaeConfig,
    unet: &UnetConfig,
    predictor: &PredictorConfig,
) -> Result<(), LoadError> {
    grid(vae, unet, predictor).map(drop)
}

fn grid(
    vae: &VaeConfig,
    unet: &UnetConfig,
    predictor: &PredictorConfig,
) -> Result<Grid, LoadError> {
    let channels = vae.latent_channels;
    let refuse = |network, reason: String| Err(LoadError::Unsupported { network, reason });
    if unet.in_channels != channels || unet.out_channels != channels {
        return refuse(
            "unet",
            format!("in_channels and out_channels must be the VAE's {channels}"),
        );
    }
    if predictor.latent_channels != channels {
        return refuse(
            "noise_predictor",
            format!("latent_channels must be the VAE's {channels}"),
        );
    }
    let stride = vae.factor() / SCALE;
    if predictor.stride() != stride {
        let reason = format!("its levels must shrink a tile {stride} times, to the VAE's latent");
        return refuse("noise_predictor", reason);
    }
    let cells = Cells {
        multiple: stride << unet.halvings(),
        latent_px: stride,
    };
    Ok(Grid {
        channels,
        cells,
        scaling: vae.scaling_factor,
    })
}
