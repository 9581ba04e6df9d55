//! The noise predictor: from a low-resolution tile to a Gaussian over the starting noise.
//!
//! An encoder of the tile as it is, at its own size; only its strides (one, in the release) bring
//! it to the latent grid of the enlarged tile.

use candle_core::{Result, Tensor};

use crate::config::PredictorConfig;
use crate::error::LoadError;
use crate::nn::{
    Conv2d, GroupNorm, ImageAttention, Resnet, ResnetShape, Sinusoids, TimeEmbedding, Window,
};
use crate::weights::Scope;

const NORM_EPS: f64 = 1e-6;

/// The fewest sinusoids that the timestep becomes, however narrow the first level.
const MIN_SINUSOIDS: usize = 128;

/// Predicts how a tile's starting noise is distributed, so that one or a few steps suffice.
///
/// Source: arXiv 2412.09013, section 3.
#[derive(Debug)]
pub(crate) struct NoisePredictor {
    time_embedding: TimeEmbedding,
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: (Resnet, Option<ImageAttention>, Resnet),
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

#[derive(Debug)]
struct Level {
    layers: Vec<(Resnet, Option<ImageAttention>)>,
    downsampler: Option<Conv2d>,
}

impl NoisePredictor {
    pub(crate) fn load(
        scope: &Scope<'_>,
        config: &PredictorConfig,
    ) -> std::result::Result<Self, LoadError> {
        let scope = scope.at("encoder");
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let sinusoids = Sinusoids {
            width: first.max(MIN_SINUSOIDS),
            shift: config.freq_shift,
            cosine_first: config.flip_sin_to_cos,
        };
        let time = scope.at("time_embedding");
        let mut levels = Vec::with_capacity(widths.len());
        for level in 0..widths.len() {
            levels.push(Level::load(
                &scope.at("down_blocks").at(level),
                config,
                level,
            )?);
        }
        let middle = scope.at("mid_block");
        let shape = resnet_shape(config, last, last);
        let attention = if config.mid_block_add_attention {
            Some(load_attention(&middle.at("attentions.0"), config, last)?)
        } else {
            None
        };
        Ok(Self {
            time_embedding: TimeEmbedding::load(&time, &sinusoids, config.temb_channels)?,
            conv_in: Conv2d::load(
                &scope.at("conv_in"),
                config.in_channels,
                first,
                Window::Same,
            )?,
            levels,
            middle: (
                Resnet::load(&middle.at("resnets.0"), shape)?,
                attention,
                Resnet::load(&middle.at("resnets.1"), shape)?,
            ),
            conv_norm_out: GroupNorm::load(
                &scope.at("conv_norm_out"),
                last,
                config.norm_num_groups,
                NORM_EPS,
            )?,
            conv_out: Conv2d::load(
                &scope.at("conv_out"),
                last,
                2 * config.latent_channels,
                Window::Same,
            )?,
        })
    }

    /// - `tiles`: `[B, 3, p, p]`, low-resolution RGB, `[0, 1]` stretched to `[-1, 1]`.
    /// - `timesteps`: `[B]`, `f32`, counted from 0.
    /// - returns mean and standard deviation of the noise, each `[B, C, h, w]` on the latent grid
    ///   of the enlarged tile.
    pub(crate) fn forward(&self, tiles: &Tensor, timesteps: &Tensor) -> Result<(Tensor, Tensor)> {
        let time = self.time_embedding.forward(timesteps)?;
        let mut x = self.conv_in.forward(tiles)?;
        for level in &self.levels {
            for (resnet, attention) in &level.layers {
                x = resnet.forward(&x, Some(&time))?;
                if let Some(attention) = attention {
                    x = attention.forward(&x)?;
                }
            }
            if let Some(downsampler) = &level.downsampler {
                x = downsampler.forward(&x)?;
            }
        }
        let (before, attention, after) = &self.middle;
        x = before.forward(&x, Some(&time))?;
        if let Some(attention) = attention {
            x = attention.forward(&x)?;
        }
        x = after.forward(&x, Some(&time))?;
        let x = self
            .conv_out
            .forward(&self.conv_norm_out.forward_silu(&x)?)?;
        mean_and_deviation(&x)
    }
}

impl Level {
    fn load(
        scope: &Scope<'_>,
        config: &PredictorConfig,
        level: usize,
    ) -> std::result::Result<Self, LoadError> {
        let widths = &config.block_out_channels;
        let width = widths[level];
        let attends = config.down_block_types[level] == "AttnDownBlock2D";
        let mut layers = Vec::new();
        for layer in 0..config.layers_per_block[level] {
            let inputs = if layer == 0 {
                widths[level.saturating_sub(1)]
            } else {
                width
            };
            let shape = resnet_shape(config, inputs, width);
            let resnet = Resnet::load(&scope.at("resnets").at(layer), shape)?;
            let attention = if attends {
                Some(load_attention(
                    &scope.at("attentions").at(layer),
                    config,
                    width,
                )?)
            } else {
                None
            };
            layers.push((resnet, attention));
        }
        let downsampler = if level + 1 < widths.len() {
            let scope = scope.at("downsamplers.0.conv");
            Some(Conv2d::load(&scope, width, width, Window::HalveAhead)?)
        } else {
            None
        };
        Ok(Self {
            layers,
            downsampler,
        })
    }
}

/// Splits `[B, 2C, h, w]` into a mean and, from the logarithm of the variance, a deviation; in
/// `f32` whatever the network's own format.
pub(crate) fn mean_and_deviation(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let halves = x.to_dtype(candle_core::DType::F32)?.chunk(2, 1)?;
    let deviation = (halves[1].clamp(-30f32, 20f32)? * 0.5)?.exp()?;
    Ok((halves[0].contiguous()?, deviation))
}

fn resnet_shape(config: &PredictorConfig, inputs: usize, outputs: usize) -> ResnetShape {
    ResnetShape {
        inputs,
        outputs,
        time: Some(config.temb_channels),
        groups: config.norm_num_groups,
        eps: NORM_EPS,
    }
}

fn load_attention(
    scope: &Scope<'_>,
    config: &PredictorConfig,
    width: usize,
) -> std::result::Result<ImageAttention, LoadError> {
    let heads = width / config.attention_head_dim;
    ImageAttention::load(scope, width, heads, config.norm_num_groups)
}
