//! The three networks in one number format on one device: what each stage of the method computes.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::config::{PredictorConfig, UnetConfig, VaeConfig};
use crate::error::LoadError;
use crate::noise_predictor::NoisePredictor;
use crate::prompt::{self, Encoded};
use crate::unet::{Prompted, Unet};
use crate::vae::Vae;
use crate::weights::Weights;

/// The networks' configurations, of a model folder.
#[derive(Debug, Clone)]
pub(crate) struct Configs {
    pub vae: VaeConfig,
    pub unet: UnetConfig,
    pub predictor: PredictorConfig,
}

impl Configs {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        Ok(Self {
            vae: VaeConfig::read(dir)?,
            unet: UnetConfig::read(dir)?,
            predictor: PredictorConfig::read(dir)?,
        })
    }
}

/// All weights of a model, ready to compute.
#[derive(Debug)]
pub(crate) struct Networks {
    device: Device,
    dtype: DType,
    predictor: NoisePredictor,
    vae: Vae,
    unet: Unet,
    positive: Prompt,
    negative: Option<Prompt>,
    /// What a latent is multiplied with after encoding.
    scaling: f64,
}

/// An encoded prompt, and what the UNet's attentions make of it.
#[derive(Debug)]
struct Prompt {
    encoded: Tensor,
    read: Vec<Prompted>,
}

impl Networks {
    /// Reads all weights of a model folder as `dtype` onto `device`.
    pub(crate) fn load(
        dir: &Path,
        configs: &Configs,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, LoadError> {
        let Configs {
            vae,
            unet,
            predictor,
        } = configs;
        let Encoded { positive, negative } = prompt::read(dir, unet.cross_attention_dim, device)?;
        let weights = |network: &str| Weights::open(&dir.join(network), device, dtype);
        let scaling = vae.scaling_factor;
        let predictor = NoisePredictor::load(&weights("noise_predictor")?.root(), predictor)?;
        let vae = Vae::load(&weights("vae")?.root(), vae)?;
        let unet = Unet::load(&weights("unet")?.root(), unet)?;
        let read = |encoded: Tensor| {
            let read = encoded
                .to_dtype(dtype)
                .and_then(|prompt| unet.read_prompt(&prompt))
                .map_err(LoadError::Prepare)?;
            Ok(Prompt { encoded, read })
        };
        let (positive, negative) = (read(positive)?, negative.map(read).transpose()?);
        Ok(Self {
            device: device.clone(),
            dtype,
            predictor,
            vae,
            unet,
            positive,
            negative,
            scaling,
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
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
        let input = (latent / self.scaling)?.to_dtype(self.dtype)?;
        self.vae
            .decode(&input)?
            .to_dtype(DType::F32)?
            .to_device(&Device::Cpu)
    }

    /// A tensor from main memory, where the latents are.
    pub(crate) fn on_device(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        tensor.to_device(&self.device)
    }

    /// What a latent is multiplied with after encoding.
    pub(crate) fn scaling(&self) -> f64 {
        self.scaling
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
