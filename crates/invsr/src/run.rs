//! One image's way through the model: tiles in batches, stage by stage, then blended.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use crate::blend::Blender;
use crate::color_fix::{self, ColorFix};
use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::image::RgbImage;
use crate::nn::host;
use crate::noise::{Stage, keyed};
use crate::pipeline::InvSr;
use crate::resample::enlarge_planes;
use crate::tiling::Tiling;
use crate::upscale::{Observer, Options, Progress, Timings, Upscaled};

/// An image on its way.
pub(crate) struct Run<'a> {
    model: &'a InvSr,
    tiling: &'a Tiling,
    image: &'a RgbImage,
    options: &'a Options,
    timings: Timings,
    /// Stage tensors by name, a part for each batch; filled only for an observer that wants them.
    kept: Vec<(String, Vec<Tensor>)>,
}

/// Tiles that go through the networks together.
#[derive(Clone, Copy)]
struct Batch {
    first: usize,
    count: usize,
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

impl<'a> Run<'a> {
    pub(crate) fn new(
        model: &'a InvSr,
        tiling: &'a Tiling,
        image: &'a RgbImage,
        options: &'a Options,
    ) -> Self {
        Self {
            model,
            tiling,
            image,
            options,
            timings: Timings::default(),
            kept: Vec::new(),
        }
    }

    /// Walks all tiles, blends them, fixes the colours.
    pub(crate) fn finish(mut self, observer: &mut dyn Observer) -> Result<Upscaled, UpscaleError> {
        let mut blender = Blender::new(self.tiling, self.blank()?);
        let tiles = self.tiling.len();
        for first in (0..tiles).step_by(self.options.tile_batch) {
            let batch = Batch {
                first,
                count: self.options.tile_batch.min(tiles - first),
            };
            let decoded = self.through_the_networks(batch, observer)?;
            let started = Instant::now();
            host::with_values(&decoded, |values| {
                let each = values.chunks_exact(values.len() / batch.count);
                each.enumerate()
                    .for_each(|(i, tile)| blender.add(first + i, tile));
            })
            .map_err(|source| UpscaleError::from_candle("blend", first, source))?;
            self.timings.blend += started.elapsed();
            self.report(first + batch.count, observer)?;
        }
        let started = Instant::now();
        let mut image = blender.finish();
        self.timings.blend += started.elapsed();
        self.hand_over(&image, "image_raw", observer)?;
        let started = Instant::now();
        if self.options.color_fix != ColorFix::None {
            color_fix::apply(self.options.color_fix, &mut image, self.image);
        }
        self.timings.color_fix += started.elapsed();
        self.hand_over(&image, "image", observer)?;
        let tile_steps = tiles * self.options.schedule.timesteps().len();
        Ok(Upscaled {
            image,
            timings: self.timings,
            tiles,
            tile_steps,
        })
    }

    /// The result's memory.
    fn blank(&self) -> Result<RgbImage, UpscaleError> {
        let RgbImage {
            width,
            height,
            ref data,
        } = *self.image;
        let (wide, high) = (SCALE * width as usize, SCALE * height as usize);
        let refused = || UpscaleError::ImageSize { width, height };
        let values = wide
            .checked_mul(high)
            .and_then(|n| n.checked_mul(3))
            .ok_or_else(refused)?;
        if data.len() * SCALE * SCALE != values {
            return Err(refused());
        }
        let side = |n: usize| u32::try_from(n).map_err(|_| refused());
        RgbImage::new(side(wide)?, side(high)?, vec![0.0; values]).map_err(|_| refused())
    }

    /// All stages of one batch, from pixels to pixels, `[B, 3, 4p, 4p]` around `[-1, 1]`.
    fn through_the_networks(
        &mut self,
        batch: Batch,
        observer: &mut dyn Observer,
    ) -> Result<Tensor, UpscaleError> {
        let (model, schedule) = (self.model, &self.options.schedule);
        let sigmas = model.noise_table().sigmas(schedule);
        let timesteps = schedule.timesteps();
        let keep = observer.wants_tensors();
        let failed = |source| UpscaleError::from_candle("sampler", batch.first, source);
        let tiles = self.cut(batch).map_err(failed)?;
        self.keep(keep, "lr_tiles", &tiles)?;

        let (mean, deviation) = self.stage(PREDICTOR, batch, observer, || {
            model.predict_noise(&tiles, timesteps[0])
        })?;
        let eps = self.normals(Stage::Predictor, batch).map_err(failed)?;
        let noise = sample(&mean, &deviation, &eps).map_err(failed)?;
        for (name, tensor) in [
            ("noise_mean", &mean),
            ("noise_std", &deviation),
            ("predictor_eps", &eps),
        ] {
            self.keep(keep, name, tensor)?;
        }
        self.keep(keep, "noise", &noise)?;

        let (mean, deviation) = self.stage(VAE_ENCODE, batch, observer, || {
            model.encode(&enlarge(&tiles)?)
        })?;
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
            self.keep(keep, name, tensor)?;
        }
        self.keep(keep, "lr_latent", &lr_latent)?;

        let mut latent = (noise * sigmas[0])
            .and_then(|noise| lr_latent + noise)
            .map_err(failed)?;
        self.keep(keep, "start_latent", &latent)?;
        for (k, timestep) in timesteps.iter().enumerate() {
            let direction = self.stage(UNET, batch, observer, || {
                model.denoise(&latent, *timestep, sigmas[k])
            })?;
            let step = (&direction * (sigmas[k + 1] - sigmas[k])).map_err(failed)?;
            latent = (latent + step).map_err(failed)?;
            self.keep(keep, &format!("unet_{k}"), &direction)?;
            self.keep(keep, &format!("latent_{k}"), &latent)?;
        }

        let decoded = self.stage(VAE_DECODE, batch, observer, || model.decode(&latent))?;
        self.keep(keep, "decoded_tiles", &decoded)?;
        Ok(decoded)
    }

    /// Runs one network stage: asks whether to go on, takes the time, refuses values that are not
    /// finite. Reading the values also waits for the device, so that the time is the stage's own.
    fn stage<T: Outputs>(
        &mut self,
        work: Work,
        batch: Batch,
        observer: &mut dyn Observer,
        compute: impl FnOnce() -> candle_core::Result<T>,
    ) -> Result<T, UpscaleError> {
        self.report(batch.first, observer)?;
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
        *(work.clock)(&mut self.timings) += started.elapsed();
        Ok(outputs)
    }

    fn report(&self, tiles_done: usize, observer: &mut dyn Observer) -> Result<(), UpscaleError> {
        match observer.progress(Progress {
            tiles_done,
            tiles_total: self.tiling.len(),
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(UpscaleError::Cancelled),
        }
    }

    /// The batch's tiles, `[B, 3, p, p]` in `[0, 1]`.
    fn cut(&self, batch: Batch) -> candle_core::Result<Tensor> {
        let side = self.tiling.tile;
        let mut pixels = Vec::with_capacity(batch.count * 3 * side * side);
        for tile in batch.first..batch.first + batch.count {
            self.tiling.cut(self.image, tile, &mut pixels);
        }
        Tensor::from_vec(pixels, (batch.count, 3, side, side), &Device::Cpu)
    }

    /// Standard normals in the shape of the batch's latents.
    fn normals(&self, stage: Stage, batch: Batch) -> candle_core::Result<Tensor> {
        let normals = match &self.options.noise {
            Some(noise) => noise.of(stage, batch.first, batch.count)?,
            None => {
                let [channels, height, width] = self.model.grid().latent(self.tiling.tile);
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

    fn keep(&mut self, wanted: bool, name: &str, tensor: &Tensor) -> Result<(), UpscaleError> {
        if !wanted {
            return Ok(());
        }
        let tensor = tensor
            .to_device(&Device::Cpu)
            .map_err(|source| UpscaleError::Observer {
                name: name.to_owned(),
                source,
            })?;
        match self.kept.iter_mut().find(|(kept, _)| kept == name) {
            Some((_, parts)) => parts.push(tensor),
            None => self.kept.push((name.to_owned(), vec![tensor])),
        }
        Ok(())
    }

    /// Gives the observer what was kept so far, then an image as `[1, 3, H, W]`.
    fn hand_over(
        &mut self,
        image: &RgbImage,
        name: &str,
        observer: &mut dyn Observer,
    ) -> Result<(), UpscaleError> {
        if !observer.wants_tensors() {
            return Ok(());
        }
        let mut give = |name: &str, tensor: candle_core::Result<Tensor>| {
            tensor
                .and_then(|tensor| observer.tensor(name, &tensor))
                .map_err(|source| UpscaleError::Observer {
                    name: name.to_owned(),
                    source,
                })
        };
        if !self.kept.is_empty() {
            give("prompt_embeds", self.model.prompt().to_device(&Device::Cpu))?;
            let sigmas = self.model.noise_table().sigmas(&self.options.schedule);
            let sigmas = Tensor::new(sigmas, &Device::Cpu);
            give(
                "sigmas",
                sigmas.and_then(|sigmas| sigmas.to_dtype(DType::F32)),
            )?;
        }
        for (name, parts) in self.kept.drain(..) {
            give(&name, Tensor::cat(&parts, 0))?;
        }
        let (height, width) = (image.height as usize, image.width as usize);
        let rows = Tensor::from_slice(&image.data, (1, height, width, 3), &Device::Cpu);
        give(
            name,
            rows.and_then(|rows| rows.permute((0, 3, 1, 2))?.contiguous()),
        )
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

/// `[B, 3, p, p]` to `[B, 3, 4p, 4p]`, in main memory.
fn enlarge(tiles: &Tensor) -> candle_core::Result<Tensor> {
    let (samples, channels, side, _) = tiles.dims4()?;
    let large = host::with_values(tiles, |values| enlarge_planes(values, side))?;
    Tensor::from_vec(
        large,
        (samples, channels, SCALE * side, SCALE * side),
        &Device::Cpu,
    )
}
