//! The networks' activations, counted along their forward passes: what is alive at the worst moment.
//!
//! Each function follows one in `nn/`, `vae.rs`, `unet/` or `noise_predictor.rs` on its CPU path, and
//! counts what it holds beside its input.

use crate::config::{PredictorConfig, SCALE, UnetConfig, VaeConfig};
use crate::error::LoadError;
use crate::networks::Configs;
use crate::nn::{Window, room_values};
use crate::noise_predictor::NoisePredictor;
use crate::unet::Unet;
use crate::vae::Vae;
use crate::weights::Weights;

use super::VALUE;

/// A core's own buffers in a matrix product, and its block of scores, in bytes.
const PRODUCT_BUFFERS: u64 = 4 << 20;

/// What the networks hold beside their weights at the worst moment, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stages {
    /// For each tile of a batch.
    pub a_tile: u64,
    /// For all cores together, whatever the batch.
    pub all_cores: u64,
}

impl Stages {
    /// Of tiles of `tile` px a side on so many cores.
    pub(crate) fn of(configs: &Configs, tile: usize, cores: usize) -> Self {
        let (input, result) = (tile * tile, tile * tile * SCALE * SCALE);
        let latent = result / configs.vae.factor().pow(2);
        let mut most = Most::default();
        predictor(&configs.predictor, input, &mut most);
        // The enlarged tile as it is and centred.
        most.beside(6 * result, |most| encoder(&configs.vae, result, most));
        unet(&configs.unet, latent, &mut most);
        decoder(&configs.vae, latent, &mut most);
        Self {
            // The tile as cut, the latents of the sampler, the result.
            a_tile: VALUE
                * (most.values + 3 * input + 8 * configs.vae.latent_channels * latent + 3 * result)
                    as u64,
            all_cores: cores as u64 * (VALUE * most.patches as u64 + PRODUCT_BUFFERS),
        }
    }

    /// Of an engine that only enlarges.
    pub(crate) fn of_enlarging(tile: usize) -> Self {
        let result = tile * tile * SCALE * SCALE;
        Self {
            a_tile: VALUE * (9 * result + 3 * tile * tile) as u64,
            all_cores: 0,
        }
    }
}

/// All weights as `f32`, in bytes.
pub(crate) fn weight_bytes(configs: &Configs) -> Result<u64, LoadError> {
    let values = |shapes: Weights| -> usize {
        let shapes = shapes.into_shapes();
        shapes
            .iter()
            .map(|(_, sides)| sides.iter().product::<usize>())
            .sum()
    };
    let (vae, unet, predictor) = (
        Weights::shapes_only(),
        Weights::shapes_only(),
        Weights::shapes_only(),
    );
    Vae::load(&vae.root(), &configs.vae)?;
    Unet::load(&unet.root(), &configs.unet)?;
    NoisePredictor::load(&predictor.root(), &configs.predictor)?;
    Ok(VALUE * (values(vae) + values(unet) + values(predictor)) as u64)
}

/// The most values that were alive at once for a tile, and in one patch matrix.
#[derive(Debug, Clone, Copy, Default)]
struct Most {
    values: usize,
    patches: usize,
}

impl Most {
    fn see(&mut self, values: usize) {
        self.values = self.values.max(values);
    }

    /// What `stage` sees stands beside `held`.
    fn beside(&mut self, held: usize, stage: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        stage(&mut inner);
        self.see(held + inner.values);
        self.patches = self.patches.max(inner.patches);
    }

    /// A 3x3 convolution: its strips' products and its output.
    fn conv(&mut self, inputs: usize, outputs: usize, out_px: usize) {
        self.patches = self
            .patches
            .max(room_values(inputs, outputs, Window::Same, out_px));
        self.see(2 * outputs * out_px);
    }

    /// Norm and convolution, twice, and a shortcut; the first one's output is held to the end.
    fn resnet(&mut self, inputs: usize, outputs: usize, px: usize) {
        self.beside(inputs * px, |most| most.conv(inputs, outputs, px));
        self.beside(2 * outputs * px, |most| most.conv(outputs, outputs, px));
    }

    /// Attention of all pixels to each other: tokens, queries, keys and values twice over. Scores are
    /// a core's own.
    fn attention(&mut self, width: usize, px: usize) {
        self.see(9 * width * px);
    }

    /// Attention, and a gated layer of eight times the width, whose product is copied once.
    fn transformer(&mut self, width: usize, px: usize) {
        self.see(22 * width * px);
        self.beside(2 * width * px, |most| most.attention(width, px));
    }
}

fn encoder(vae: &VaeConfig, image_px: usize, most: &mut Most) {
    let widths = &vae.block_out_channels;
    let mut px = image_px;
    most.conv(vae.in_channels, widths[0], px);
    for (level, &width) in widths.iter().enumerate() {
        let inputs = widths[level.saturating_sub(1)];
        most.beside(inputs * px, |most| {
            vae_level(inputs, width, vae.layers_per_block, px, most);
            if level + 1 < widths.len() {
                most.beside(width * px, |most| most.conv(width, width, px / 4));
            }
        });
        if level + 1 < widths.len() {
            px /= 4;
        }
    }
    vae_middle(vae, px, most);
}

fn decoder(vae: &VaeConfig, latent_px: usize, most: &mut Most) {
    let widths: Vec<usize> = vae.block_out_channels.iter().rev().copied().collect();
    let mut px = latent_px;
    most.conv(vae.latent_channels, widths[0], px);
    vae_middle(vae, px, most);
    for (level, &width) in widths.iter().enumerate() {
        let inputs = widths[level.saturating_sub(1)];
        most.beside(inputs * px, |most| {
            vae_level(inputs, width, vae.layers_per_block + 1, px, most);
            if level + 1 < widths.len() {
                let doubled = width * 4 * px;
                most.beside(width * px + doubled, |most| most.conv(width, width, 4 * px));
            }
        });
        if level + 1 < widths.len() {
            px *= 4;
        }
    }
    let last = widths[widths.len() - 1];
    most.beside(2 * last * px, |most| most.conv(last, vae.out_channels, px));
}

fn vae_level(inputs: usize, width: usize, layers: usize, px: usize, most: &mut Most) {
    most.resnet(inputs, width, px);
    if layers > 1 {
        most.beside(width * px, |most| most.resnet(width, width, px));
    }
}

fn vae_middle(vae: &VaeConfig, px: usize, most: &mut Most) {
    let width = vae.block_out_channels[vae.block_out_channels.len() - 1];
    most.beside(2 * width * px, |most| {
        most.resnet(width, width, px);
        if vae.mid_block_add_attention {
            most.attention(width, px);
        }
    });
}

fn predictor(config: &PredictorConfig, tile_px: usize, most: &mut Most) {
    let widths = &config.block_out_channels;
    let mut px = tile_px;
    most.conv(config.in_channels, widths[0], px);
    for (level, &width) in widths.iter().enumerate() {
        let inputs = widths[level.saturating_sub(1)];
        most.beside(inputs.max(width) * px, |most| {
            most.resnet(inputs.max(width), width, px);
            if config.down_block_types[level] == "AttnDownBlock2D" || config.mid_block_add_attention
            {
                most.attention(width, px);
            }
        });
        if level + 1 < widths.len() {
            px /= 4;
        }
    }
}

/// The way up is the worst: it holds what the way down left for it, and joins it on.
fn unet(config: &UnetConfig, latent_px: usize, most: &mut Most) {
    let widths = &config.block_out_channels;
    let mut skips = widths[0] * latent_px;
    for (level, width) in widths.iter().enumerate() {
        skips += (config.layers_per_block + 1) * width * (latent_px >> (2 * level));
    }
    for (level, &width) in widths.iter().enumerate() {
        let px = latent_px >> (2 * level);
        let below = widths[(level + 1).min(widths.len() - 1)];
        let joined = width.max(below) + width;
        most.beside(skips + 2 * joined * px, |most| {
            most.resnet(joined, width, px);
            most.transformer(width, px);
            if level > 0 {
                most.beside(width * 4 * px, |most| most.conv(width, width, 4 * px));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Model, peak};
    use crate::random::{Size, write_configs};
    use crate::tiling::{Cells, Tiling};
    use crate::upscale::Options;

    /// `docs/parity.md`: the process took 4.69 GiB for a tile of 128 px on two cores.
    #[test]
    fn a_full_size_tile_is_reckoned_a_little_above_what_it_was_seen_to_take() {
        let folder = tempfile::tempdir().unwrap();
        write_configs(Size::Full, folder.path()).unwrap();
        let configs = Configs::read(folder.path()).unwrap();
        let weights = weight_bytes(&configs).unwrap();
        assert_eq!(weights >> 20, 3_751);
        let stages = Stages::of(&configs, 128, 2);
        let cells = Cells {
            multiple: 16,
            latent_px: 2,
        };
        let options = Options::default();
        let tiling = Tiling::new(128, 128, &options, cells).unwrap();
        let reckoned = peak(&tiling, &options, &Model { weights, stages });
        let gib = reckoned as f64 / f64::from(1 << 30);
        assert!((4.69..5.1).contains(&gib), "{gib} GiB, {stages:?}");
    }

    #[test]
    fn four_times_the_pixels_take_about_four_times_the_room() {
        let folder = tempfile::tempdir().unwrap();
        write_configs(Size::Tiny, folder.path()).unwrap();
        let configs = Configs::read(folder.path()).unwrap();
        let [small, large] = [64, 128].map(|tile| Stages::of(&configs, tile, 2).a_tile);
        assert!((3 * small..5 * small).contains(&large), "{small}, {large}");
    }
}
