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

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use crate::bands::Bands;
use crate::config::{PredictorConfig, SCALE, SchedulerConfig, UnetConfig, VaeConfig};
use crate::device::{DeviceSpec, Dtype};
use crate::error::{LoadError, UpscaleError};
use crate::manifest::ModelInfo;
use crate::memory::{self, MemoryLimit, Model, Stages};
use crate::networks::{Configs, Networks};
use crate::rows::{RowSink, RowSource};
use crate::run::Run;
use crate::scheduler::NoiseTable;
use crate::tiling::{Cells, Tiling};
use crate::upscale::{Observer, Options, Plan, Spent, Start, Upscale};

/// The InvSR model, ready on a device.
///
/// On CUDA, load and use it on one thread: each thread has a stream of its own.
#[derive(Debug)]
pub struct InvSr {
    info: ModelInfo,
    /// Where the weights came from: a tile that half precision cannot hold needs them again.
    dir: PathBuf,
    configs: Configs,
    networks: Networks,
    noise_table: NoiseTable,
    grid: Grid,
    /// In main memory, in bytes.
    weight_bytes: u64,
}

/// How pixels and latents relate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Latent channels.
    pub channels: usize,
    cells: Cells,
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
        Self::load_on(dir, &device.open(dtype)?, DType::from(dtype))
    }

    /// The same, unless the weights alone are over the limit: then none is read.
    ///
    /// # Errors
    /// As [`InvSr::load`], and [`LoadError::Memory`].
    pub fn load_within(
        limit: MemoryLimit,
        dir: &Path,
        device: &DeviceSpec,
        dtype: Dtype,
    ) -> Result<Self, LoadError> {
        Self::load_with(limit, dir, &device.open(dtype)?, DType::from(dtype))
    }

    /// The same on a device that is open, in any format that it computes in.
    pub(crate) fn load_on(dir: &Path, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        Self::load_with(MemoryLimit::default(), dir, device, dtype)
    }

    fn load_with(
        limit: MemoryLimit,
        dir: &Path,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, LoadError> {
        let configs = Configs::read(dir)?;
        let scheduler = SchedulerConfig::read(dir)?;
        let grid = grid(&configs.vae, &configs.unet, &configs.predictor)?;
        // A card's memory is the card's own affair: it says when it is full.
        let weight_bytes = match device {
            Device::Cpu => memory::weight_bytes(&configs)?,
            _ => 0,
        };
        if let Some(limit) = limit.bytes().filter(|limit| weight_bytes > *limit) {
            return Err(LoadError::Memory {
                needed: weight_bytes,
                limit,
            });
        }
        let networks = Networks::load(dir, &configs, device, dtype)?;
        let info = ModelInfo::read(dir, grid.cells.tile_multiple_px())?;
        tracing::debug!(model = info.name, trained = info.trained, "model loaded");
        Ok(Self {
            info,
            dir: dir.to_owned(),
            configs,
            networks,
            noise_table: NoiseTable::new(&scheduler),
            grid,
            weight_bytes,
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
        if options.is_guided() && self.networks.negative_prompt().is_none() {
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

    /// The same options, lowered to what the memory has room for.
    fn fit(&self, tiling: &Tiling, options: &Options) -> Result<Options, UpscaleError> {
        memory::fit(tiling, options, &self.memory(tiling))
    }

    fn memory(&self, tiling: &Tiling) -> Model {
        let stages = match self.networks.device() {
            Device::Cpu => Stages::of(&self.configs, tiling.tile, rayon::current_num_threads()),
            _ => Stages::of_enlarging(tiling.tile),
        };
        Model {
            weights: self.weight_bytes,
            stages,
        }
    }

    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The networks once more, in `f32`.
    pub(crate) fn load_wide(&self) -> Result<Networks, LoadError> {
        Networks::load(&self.dir, &self.configs, self.networks.device(), DType::F32)
    }

    pub(crate) fn grid(&self) -> &Grid {
        &self.grid
    }

    pub(crate) fn noise_table(&self) -> &NoiseTable {
        &self.noise_table
    }
}

impl Upscale for InvSr {
    fn plan(&self, width: u32, height: u32, options: &Options) -> Result<Plan, UpscaleError> {
        let tiling = self.tiling(width, height, options)?;
        let fitted = self.fit(&tiling, options)?;
        let tiles = tiling.len();
        Ok(Plan {
            tiles,
            tile_steps: tiles * options.steps_a_tile(),
            peak_bytes: memory::peak(&tiling, &fitted, &self.memory(&tiling)),
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
        let options = &self.fit(&tiling, options)?;
        let bands = Bands::new(&tiling, options, source, start, sink, observer)?;
        bands.run(&mut Run::new(self, options))
    }
}

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
    Ok(Grid { channels, cells })
}
