//! How far one device or number format is from another, stage by stage.

use candle_core::{DType, Device, Tensor};

use crate::error::UpscaleError;
use crate::networks::Networks;
use crate::nn::host;
use crate::noise::{Stage, keyed};
use crate::pipeline::InvSr;
use crate::run::enlarge;
use crate::upscale::Options;

/// How far a stage's output is from the reference's, relative to the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct StageDistance {
    /// The output's name, as an [`Observer`](crate::Observer) hears it.
    pub tensor: String,
    /// The largest difference over the largest value.
    pub largest: f64,
    /// The difference's root mean square over that of the values.
    pub rms: f64,
}

/// Takes one generated tile through each stage of both models. Every stage gets the same input on
/// either side, the reference's, so that each shows its own error only.
///
/// - `options`: tile side, schedule, seed and guidance; the rest does not count.
///
/// # Errors
/// [`UpscaleError::Compute`] and its like from either model; the two must have the same shapes.
pub fn compare_stages(
    model: &InvSr,
    reference: &InvSr,
    options: &Options,
) -> Result<Vec<StageDistance>, UpscaleError> {
    let mut both = Both {
        ours: model.networks(),
        theirs: reference.networks(),
        found: Vec::new(),
    };
    both.walk(reference, options)
        .map_err(|source| UpscaleError::from_candle("comparison", 0, source))?;
    Ok(both.found)
}

struct Both<'a> {
    ours: &'a Networks,
    theirs: &'a Networks,
    found: Vec<StageDistance>,
}

impl Both<'_> {
    fn walk(&mut self, reference: &InvSr, options: &Options) -> candle_core::Result<()> {
        let side = options.tile_px as usize;
        let latent_shape = reference.grid().latent(side);
        let normals = |stage| -> candle_core::Result<Tensor> {
            let values = keyed(options.seed, 0, stage, latent_shape.iter().product());
            let [channels, height, width] = latent_shape;
            Tensor::from_vec(values, (1, channels, height, width), &Device::Cpu)
        };
        let tile = generated(side)?;
        let sigmas = reference.noise_table().sigmas(&options.schedule);
        let timesteps = options.schedule.timesteps();

        let (mean, deviation) = self.pair("noise_mean", "noise_std", |networks| {
            networks.predict_noise(&tile, timesteps[0])
        })?;
        let noise = (mean + (deviation * normals(Stage::Predictor)?)?)?;
        let enlarged = enlarge(&tile)?;
        let (mean, deviation) = self.pair("lr_latent_mean", "lr_latent_std", |networks| {
            networks.encode(&enlarged)
        })?;
        let encoded = ((mean + (deviation * normals(Stage::Vae)?)?)? * self.theirs.scaling())?;
        let mut latent = (encoded + (noise * sigmas[0])?)?;
        for (k, timestep) in timesteps.iter().enumerate() {
            let direction = self.one(&format!("unet_{k}"), |networks| {
                let latent = networks.on_device(&latent)?;
                networks.denoise(&latent, *timestep, sigmas[k], options.guidance)
            })?;
            latent = (latent + (direction * (sigmas[k + 1] - sigmas[k]))?)?;
        }
        self.one("decoded_tiles", |networks| {
            networks.decode(&networks.on_device(&latent)?)
        })?;
        Ok(())
    }

    /// Notes how far apart the two are; returns the reference's output, in main memory.
    fn one(
        &mut self,
        tensor: &str,
        stage: impl Fn(&Networks) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let (ours, theirs) = (on_host(&stage(self.ours)?)?, on_host(&stage(self.theirs)?)?);
        self.note(tensor, &ours, &theirs)?;
        Ok(theirs)
    }

    fn pair(
        &mut self,
        first: &str,
        second: &str,
        stage: impl Fn(&Networks) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let (ours, theirs) = (stage(self.ours)?, stage(self.theirs)?);
        let theirs = (on_host(&theirs.0)?, on_host(&theirs.1)?);
        self.note(first, &on_host(&ours.0)?, &theirs.0)?;
        self.note(second, &on_host(&ours.1)?, &theirs.1)?;
        Ok(theirs)
    }

    fn note(&mut self, tensor: &str, ours: &Tensor, theirs: &Tensor) -> candle_core::Result<()> {
        if ours.dims() != theirs.dims() {
            candle_core::bail!("{tensor} is {:?} and {:?}", ours.dims(), theirs.dims());
        }
        let apart = host::with_values(ours, |ours| {
            host::with_values(theirs, |theirs| distance(ours, theirs))
        })??;
        self.found.push(StageDistance {
            tensor: tensor.to_owned(),
            largest: apart.0,
            rms: apart.1,
        });
        Ok(())
    }
}

/// Soft waves with an edge and some grain, `[1, 3, p, p]` in `[0, 1]`.
fn generated(side: usize) -> candle_core::Result<Tensor> {
    let value = |i: usize| {
        let (channel, y, x) = (i / (side * side), i / side % side, i % side);
        let wave = (x as f32 / 9.0 + channel as f32).sin() + (y as f32 / 13.0).cos();
        let grain = (i.wrapping_mul(40_503) % 65_536) as f32 / 65_536.0 - 0.5;
        let lit = if 2 * x + y > side { 0.6 } else { 1.0 };
        (0.5 + 0.2 * wave * lit + 0.04 * grain).clamp(0.0, 1.0)
    };
    let values = (0..3 * side * side).map(value).collect::<Vec<f32>>();
    Tensor::from_vec(values, (1, 3, side, side), &Device::Cpu)
}

fn on_host(tensor: &Tensor) -> candle_core::Result<Tensor> {
    let tensor = tensor.to_device(&Device::Cpu)?;
    tensor.to_dtype(DType::F32)?.contiguous()
}

/// Largest and root mean square, both infinite for what is not a number.
fn distance(ours: &[f32], theirs: &[f32]) -> (f64, f64) {
    let (mut apart, mut size) = ((0.0f64, 0.0f64), (0.0f64, 0.0f64));
    for (ours, theirs) in ours.iter().zip(theirs) {
        let (ours, theirs) = (f64::from(*ours), f64::from(*theirs));
        if !ours.is_finite() || !theirs.is_finite() {
            return (f64::INFINITY, f64::INFINITY);
        }
        apart = (
            apart.0.max((ours - theirs).abs()),
            apart.1 + (ours - theirs).powi(2),
        );
        size = (size.0.max(theirs.abs()), size.1 + theirs.powi(2));
    }
    let over = |apart: f64, size: f64| if apart == 0.0 { 0.0 } else { apart / size };
    (over(apart.0, size.0), over(apart.1, size.1).sqrt())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scheduler::Schedule;
    use crate::{Size, write_random_model};

    fn load(folder: &Path, dtype: DType) -> InvSr {
        InvSr::load_on(folder, &Device::Cpu, dtype).unwrap()
    }

    fn compare(model: &InvSr, reference: &InvSr) -> Vec<StageDistance> {
        let options = Options {
            tile_px: 32,
            schedule: Schedule::new(&[200, 100]).unwrap(),
            guidance: 2.0,
            ..Options::default()
        };
        compare_stages(model, reference, &options).unwrap()
    }

    #[test]
    fn a_model_is_no_way_from_itself_a_little_from_half_precision_and_far_from_another() {
        let folders = [7, 8].map(|seed| {
            let folder = tempfile::tempdir().unwrap();
            write_random_model(Size::Tiny, seed, folder.path()).unwrap();
            folder
        });
        let reference = load(folders[0].path(), DType::F32);
        let itself = compare(&reference, &reference);
        let names: Vec<_> = itself.iter().map(|stage| &*stage.tensor).collect();
        let expected = [
            "noise_mean",
            "noise_std",
            "lr_latent_mean",
            "lr_latent_std",
            "unet_0",
            "unet_1",
            "decoded_tiles",
        ];
        assert_eq!(names, expected);
        assert!(
            itself
                .iter()
                .all(|stage| stage.largest == 0.0 && stage.rms == 0.0)
        );
        let half = compare(&load(folders[0].path(), DType::F16), &reference);
        let near = |stage: &StageDistance| stage.rms > 0.0 && stage.rms < 1e-2;
        assert!(half.iter().all(near), "{half:?}");
        let other = compare(&load(folders[1].path(), DType::F32), &reference);
        assert!(other.iter().any(|stage| stage.rms > 0.1), "{other:?}");
    }

    #[test]
    fn what_is_not_a_number_is_infinitely_far() {
        assert_eq!(distance(&[1.0, 2.0], &[1.0, 2.0]), (0.0, 0.0));
        let (largest, rms) = distance(&[1.0, f32::NAN], &[1.0, 2.0]);
        assert!(largest.is_infinite() && rms.is_infinite());
        assert!(distance(&[1.0], &[0.0]).1.is_infinite());
    }
}
