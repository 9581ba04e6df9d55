//! One batch's way through the model, stage by stage.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::bands::{Batch, EnlargeTiles};
use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::nn::host;
use crate::noise::{Stage, keyed};
use crate::pipeline::InvSr;
use crate::resample::enlarge_planes;
use crate::upscale::{Options, Timings};
use crate::watch::Watch;

/// The model at work on one image.
pub(crate) struct Run<'a> {
    pub model: &'a InvSr,
    pub options: &'a Options,
}

/// A network stage: its name in errors and its place in the timings.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    clock: fn(&mut Timings) -> &mut Duration,
}

const PREDICTOR: Work = Work {
    name: "noise predictor",
    clock: |t| &mut t.predictor,
};
const VAE_ENCODE: Work = Work {
    name: "vae encode",
    clock: |t| &mut t.vae_encode,
};
const UNET: Work = Work {
    name: "unet",
    clock: |t| &mut t.unet,
};
const VAE_DECODE: Work = Work {
    name: "vae decode",
    clock: |t| &mut t.vae_decode,
};

impl EnlargeTiles for Run<'_> {
    /// All stages of one batch, from pixels to pixels.
    fn enlarge(
        &mut self,
        batch: Batch,
        tiles: &Tensor,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, UpscaleError> {
        let (model, schedule) = (self.model, &self.options.schedule);
        let sigmas = model.noise_table().sigmas(schedule);
        let timesteps = schedule.timesteps();
        let failed = |source| UpscaleError::from_candle("sampler", batch.first, source);
        let levels = Tensor::new(&*sigmas, &Device::Cpu).and_then(|s| s.to_dtype(DType::F32));
        watch.keep_once("sigmas", &levels.map_err(failed)?)?;
        watch.keep_once("prompt_embeds", model.positive_prompt())?;
        if let Some(negative) = model.negative_prompt()
            && self.options.is_guided()
        {
            watch.keep_once("negative_embeds", negative)?;
        }
        watch.keep("lr_tiles", tiles)?;

        let (mean, deviation) = stage(PREDICTOR, batch, watch, || {
            model.predict_noise(tiles, timesteps[0])
        })?;
        let eps = self.normals(Stage::Predictor, batch).map_err(failed)?;
        let noise = sample(&mean, &deviation, &eps).map_err(failed)?;
        for (name, tensor) in [
            ("noise_mean", &mean),
            ("noise_std", &deviation),
            ("predictor_eps", &eps),
        ] {
            watch.keep(name, tensor)?;
        }
        watch.keep("noise", &noise)?;

        let (mean, deviation) = stage(VAE_ENCODE, batch, watch, || model.encode(&enlarge(tiles)?))?;
        let eps = self.normals(Stage::Vae, batch).map_err(failed)?;
        let scaled = |tensor: Tensor| tensor * model.grid().scaling;
        let lr_latent = sample(&mean, &deviation, &eps)
            .and_then(scaled)
            .map_err(failed)?;
        for (name, tensor) in [
            ("lr_latent_mean", &mean),
            ("lr_latent_std", &deviation),
            ("vae_eps", &eps),
        ] {
            watch.keep(name, tensor)?;
        }
        watch.keep("lr_latent", &lr_latent)?;

        let mut latent = (noise * sigmas[0])
            .and_then(|noise| lr_latent + noise)
            .map_err(failed)?;
        watch.keep("start_latent", &latent)?;
        for (k, timestep) in timesteps.iter().enumerate() {
            let direction = stage(UNET, batch, watch, || {
                model.denoise(&latent, *timestep, sigmas[k], self.options.guidance)
            })?;
            let step = (&direction * (sigmas[k + 1] - sigmas[k])).map_err(failed)?;
            latent = (latent + step).map_err(failed)?;
            watch.keep(&format!("unet_{k}"), &direction)?;
            watch.keep(&format!("latent_{k}"), &latent)?;
        }

        let decoded = stage(VAE_DECODE, batch, watch, || model.decode(&latent))?;
        watch.keep("decoded_tiles", &decoded)?;
        Ok(decoded)
    }
}

impl Run<'_> {
    /// Standard normals in the shape of the batch's latents.
    fn normals(&self, stage: Stage, batch: Batch) -> candle_core::Result<Tensor> {
        let normals = match &self.options.noise {
            Some(noise) => noise.of(stage, batch.first, batch.count)?,
            None => {
                let tile_px = self.options.tile_px as usize;
                let [channels, height, width] = self.model.grid().latent(tile_px);
                let mut values = Vec::new();
                for tile in batch.first..batch.first + batch.count {
                    let tile = u32::try_from(tile).map_err(candle_core::Error::wrap)?;
                    let count = channels * height * width;
                    values.extend(keyed(self.options.seed, tile, stage, count));
                }
                Tensor::from_vec(values, (batch.count, channels, height, width), &Device::Cpu)?
            }
        };
        self.model.on_device(&normals)
    }
}

/// Runs one network stage: asks whether to go on, takes the time, refuses values that are not
/// finite. Reading the values also waits for the device, so that the time is the stage's own.
fn stage<T: Outputs>(
    work: Work,
    batch: Batch,
    watch: &mut Watch<'_>,
    compute: impl FnOnce() -> candle_core::Result<T>,
) -> Result<T, UpscaleError> {
    watch.report(batch.first)?;
    let started = Instant::now();
    let failed = |source| UpscaleError::from_candle(work.name, batch.first, source);
    let outputs = compute().map_err(failed)?;
    for tensor in outputs.tensors() {
        if let Some(row) = first_spoilt_row(tensor).map_err(failed)? {
            let tile = batch.first + row;
            return Err(UpscaleError::NonFinite {
                stage: work.name,
                tile,
            });
        }
    }
    *(work.clock)(&mut watch.timings) += started.elapsed();
    Ok(outputs)
}

/// What a stage returns: a tensor or two, tiles first.
trait Outputs {
    fn tensors(&self) -> Vec<&Tensor>;
}

impl Outputs for Tensor {
    fn tensors(&self) -> Vec<&Tensor> {
        vec![self]
    }
}

impl Outputs for (Tensor, Tensor) {
    fn tensors(&self) -> Vec<&Tensor> {
        vec![&self.0, &self.1]
    }
}

/// The first row with an infinity or not a number, if any.
fn first_spoilt_row(tensor: &Tensor) -> candle_core::Result<Option<usize>> {
    let rows = tensor.dim(0)?;
    host::with_values(&tensor.to_device(&Device::Cpu)?.contiguous()?, |values| {
        let mut each = values.chunks_exact(values.len() / rows);
        each.position(|row| row.iter().any(|value| !value.is_finite()))
    })
}

fn sample(mean: &Tensor, deviation: &Tensor, eps: &Tensor) -> candle_core::Result<Tensor> {
    mean + (deviation * eps)?
}

/// `[B, 3, p, p]` to `[B, 3, 4p, 4p]` by bicubic, in main memory.
pub(crate) fn enlarge(tiles: &Tensor) -> candle_core::Result<Tensor> {
    let (samples, channels, side, _) = tiles.dims4()?;
    let large = host::with_values(tiles, |values| enlarge_planes(values, side))?;
    Tensor::from_vec(
        large,
        (samples, channels, SCALE * side, SCALE * side),
        &Device::Cpu,
    )
}
