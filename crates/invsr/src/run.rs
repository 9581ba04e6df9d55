//! One batch's way through the model, stage by stage.
//!
//! Half precision cannot hold every value that `f32` can. A tile that a stage leaves with infinities
//! or not-a-numbers is computed once again, alone and in `f32`. What becomes of a tile never depends
//! on those beside it, so a batch goes on for the sake of its other tiles.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::bands::{Batch, EnlargeTiles};
use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::networks::Networks;
use crate::nn::host;
use crate::noise::{Stage, keyed};
use crate::pipeline::InvSr;
use crate::resample::enlarge_planes;
use crate::upscale::{Options, Timings};
use crate::watch::Watch;

/// The model at work on one image.
pub(crate) struct Run<'a> {
    model: &'a InvSr,
    options: &'a Options,
    /// The networks in `f32`, from the first tile that needs them to the end of the image.
    wide: Option<Networks>,
}

/// A tile that a stage left with values that are not finite.
#[derive(Debug, Clone, Copy)]
struct Spoilt {
    tile: usize,
    stage: &'static str,
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
    fn enlarge(
        &mut self,
        batch: Batch,
        tiles: &Tensor,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, UpscaleError> {
        let mut pass = Pass::new(self.model, self.model.networks(), self.options, batch);
        let mut decoded = pass.enlarge(tiles, watch)?;
        for Spoilt { tile, stage } in pass.spoilt {
            let again = Batch {
                first: tile,
                count: 1,
            };
            let row = tile - batch.first;
            let failed = |source| UpscaleError::from_candle(stage, tile, source);
            let one = tiles.narrow(0, row, 1).and_then(|t| t.contiguous());
            watch.note_widened(tile, stage);
            watch.replace_row(Some(row));
            let networks = widen(self.model, &mut self.wide, tile)?;
            let wide = Pass::new(self.model, networks, self.options, again)
                .enlarge(&one.map_err(failed)?, watch)?;
            watch.replace_row(None);
            decoded = decoded.slice_scatter0(&wide, row).map_err(failed)?;
        }
        decoded
            .contiguous()
            .map_err(|source| UpscaleError::from_candle(VAE_DECODE.name, batch.first, source))
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(model: &'a InvSr, options: &'a Options) -> Self {
        Self {
            model,
            options,
            wide: None,
        }
    }
}

/// The networks in `f32`. They go with the image, for they take twice the room of the others.
fn widen<'w>(
    model: &InvSr,
    held: &'w mut Option<Networks>,
    tile: usize,
) -> Result<&'w Networks, UpscaleError> {
    let wide = match held.take() {
        Some(wide) => wide,
        None => model
            .load_wide()
            .map_err(|source| UpscaleError::from_load(tile, source))?,
    };
    Ok(held.insert(wide))
}

/// A batch on its way through networks of one number format.
struct Pass<'a> {
    model: &'a InvSr,
    networks: &'a Networks,
    options: &'a Options,
    batch: Batch,
    /// Each tile once, with the first stage that spoilt it. Empty in `f32`, where it is an error.
    spoilt: Vec<Spoilt>,
}

impl<'a> Pass<'a> {
    fn new(model: &'a InvSr, networks: &'a Networks, options: &'a Options, batch: Batch) -> Self {
        Self {
            model,
            networks,
            options,
            batch,
            spoilt: Vec::new(),
        }
    }

    /// All stages of the batch, from pixels to pixels. What it returns of a spoilt tile is of no use.
    fn enlarge(&mut self, tiles: &Tensor, watch: &mut Watch<'_>) -> Result<Tensor, UpscaleError> {
        let (networks, schedule) = (self.networks, &self.options.schedule);
        let sigmas = self.model.noise_table().sigmas(schedule);
        let timesteps = schedule.timesteps();
        let first = self.batch.first;
        let failed = |source| UpscaleError::from_candle("sampler", first, source);
        let levels = Tensor::new(&*sigmas, &Device::Cpu).and_then(|s| s.to_dtype(DType::F32));
        watch.keep_once("sigmas", &levels.map_err(failed)?)?;
        watch.keep_once("prompt_embeds", networks.positive_prompt())?;
        if let Some(negative) = networks.negative_prompt()
            && self.options.is_guided()
        {
            watch.keep_once("negative_embeds", negative)?;
        }
        watch.keep("lr_tiles", tiles)?;

        let noise = self.noise(tiles, timesteps[0], watch)?;
        let lr_latent = self.lr_latent(tiles, watch)?;
        let mut latent = (noise * sigmas[0])
            .and_then(|noise| lr_latent + noise)
            .map_err(failed)?;
        watch.keep("start_latent", &latent)?;
        for (k, timestep) in timesteps.iter().enumerate() {
            let direction = self.stage(UNET, watch, || {
                networks.denoise(&latent, *timestep, sigmas[k], self.options.guidance)
            })?;
            let step = (&direction * (sigmas[k + 1] - sigmas[k])).map_err(failed)?;
            latent = (latent + step).map_err(failed)?;
            watch.keep(&format!("unet_{k}"), &direction)?;
            watch.keep(&format!("latent_{k}"), &latent)?;
        }

        let decoded = self.stage(VAE_DECODE, watch, || networks.decode(&latent))?;
        watch.keep("decoded_tiles", &decoded)?;
        Ok(decoded)
    }

    /// The starting noise, sampled: `[B, C, h, w]`.
    fn noise(
        &mut self,
        tiles: &Tensor,
        timestep: u32,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, UpscaleError> {
        let networks = self.networks;
        let (mean, deviation) =
            self.stage(PREDICTOR, watch, || networks.predict_noise(tiles, timestep))?;
        let failed = |source| UpscaleError::from_candle("sampler", self.batch.first, source);
        let eps = self.normals(Stage::Predictor).map_err(failed)?;
        let noise = sample(&mean, &deviation, &eps).map_err(failed)?;
        watch.keep("noise_mean", &mean)?;
        watch.keep("noise_std", &deviation)?;
        watch.keep("predictor_eps", &eps)?;
        watch.keep("noise", &noise)?;
        Ok(noise)
    }

    /// The tiles as latents, sampled and scaled: `[B, C, h, w]`.
    fn lr_latent(&mut self, tiles: &Tensor, watch: &mut Watch<'_>) -> Result<Tensor, UpscaleError> {
        let networks = self.networks;
        let (mean, deviation) =
            self.stage(VAE_ENCODE, watch, || networks.encode(&enlarge(tiles)?))?;
        let failed = |source| UpscaleError::from_candle("sampler", self.batch.first, source);
        let eps = self.normals(Stage::Vae).map_err(failed)?;
        let lr_latent = sample(&mean, &deviation, &eps)
            .and_then(|latent| latent * networks.scaling())
            .map_err(failed)?;
        watch.keep("lr_latent_mean", &mean)?;
        watch.keep("lr_latent_std", &deviation)?;
        watch.keep("vae_eps", &eps)?;
        watch.keep("lr_latent", &lr_latent)?;
        Ok(lr_latent)
    }

    /// Standard normals in the shape of the batch's latents.
    fn normals(&self, stage: Stage) -> candle_core::Result<Tensor> {
        let Batch { first, count } = self.batch;
        let normals = match &self.options.noise {
            Some(noise) => noise.of(stage, first, count)?,
            None => {
                let tile_px = self.options.tile_px as usize;
                let [channels, height, width] = self.model.grid().latent(tile_px);
                let mut values = Vec::new();
                for tile in first..first + count {
                    let tile = u32::try_from(tile).map_err(candle_core::Error::wrap)?;
                    let each = channels * height * width;
                    values.extend(keyed(self.options.seed, tile, stage, each));
                }
                Tensor::from_vec(values, (count, channels, height, width), &Device::Cpu)?
            }
        };
        self.networks.on_device(&normals)
    }

    /// Runs one network stage: asks whether to go on, takes the time, looks for values that are not
    /// finite. Reading the values also waits for the device, so that the time is the stage's own.
    fn stage<T: Outputs>(
        &mut self,
        work: Work,
        watch: &mut Watch<'_>,
        compute: impl FnOnce() -> candle_core::Result<T>,
    ) -> Result<T, UpscaleError> {
        let Batch { first, count } = self.batch;
        watch.report(first)?;
        let started = Instant::now();
        let failed = |source| UpscaleError::from_candle(work.name, first, source);
        let outputs = compute().map_err(failed)?;
        let mut spoilt = vec![false; count];
        for tensor in outputs.tensors() {
            note_spoilt_rows(tensor, &mut spoilt).map_err(failed)?;
        }
        *(work.clock)(&mut watch.timings) += started.elapsed();
        for (tile, _) in (first..).zip(spoilt).filter(|(_, spoilt)| *spoilt) {
            let stage = work.name;
            if self.networks.dtype() == DType::F32 {
                return Err(UpscaleError::NonFinite { stage, tile });
            }
            if self.spoilt.iter().all(|known| known.tile != tile) {
                self.spoilt.push(Spoilt { tile, stage });
            }
        }
        Ok(outputs)
    }
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

/// Marks the rows that hold an infinity or not a number.
fn note_spoilt_rows(tensor: &Tensor, spoilt: &mut [bool]) -> candle_core::Result<()> {
    host::with_values(&tensor.to_device(&Device::Cpu)?.contiguous()?, |values| {
        let rows = values.chunks_exact(values.len() / spoilt.len());
        for (spoilt, row) in spoilt.iter_mut().zip(rows) {
            *spoilt |= row.iter().any(|value| !value.is_finite());
        }
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

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
