//! The denoising UNet, in the shape of Stable Diffusion 2.1: down, middle, up, with skips between.
//!
//! `transformer.rs` holds its attention blocks; this file the levels and their order.

mod transformer;

use candle_core::{Result, Tensor};

use crate::config::UnetConfig;
use crate::error::LoadError;
use crate::nn::{Conv2d, GroupNorm, Resnet, ResnetShape, Sinusoids, TimeEmbedding, Window};
use crate::weights::Scope;
pub(crate) use transformer::Prompted;
use transformer::{Transformer, TransformerShape};

/// Width of the time embedding, in widths of the first level.
const TIME_FACTOR: usize = 4;

/// Predicts the noise in a latent.
#[derive(Debug)]
pub(crate) struct Unet {
    time_embedding: TimeEmbedding,
    conv_in: Conv2d,
    down: Vec<Level>,
    middle: (Resnet, Transformer, Resnet),
    up: Vec<Level>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// Some resnets, each perhaps followed by attention, then a change of size.
#[derive(Debug)]
struct Level {
    layers: Vec<(Resnet, Option<Transformer>)>,
    resample: Option<Conv2d>,
}

impl Unet {
    pub(crate) fn load(
        scope: &Scope<'_>,
        config: &UnetConfig,
    ) -> std::result::Result<Self, LoadError> {
        let load = Loader { config };
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let sinusoids = Sinusoids {
            width: first,
            shift: config.freq_shift,
            cosine_first: config.flip_sin_to_cos,
        };
        let time = scope.at("time_embedding");
        let mut skips = vec![first];
        let down = load.down(&scope.at("down_blocks"), &mut skips)?;
        let middle = scope.at("mid_block");
        let deepest = widths.len() - 1;
        let middle = (
            Resnet::load(&middle.at("resnets.0"), load.resnet(last, last))?,
            Transformer::load(&middle.at("attentions.0"), &load.transformer(deepest))?,
            Resnet::load(&middle.at("resnets.1"), load.resnet(last, last))?,
        );
        let up = load.up(&scope.at("up_blocks"), &mut skips)?;
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        Ok(Self {
            time_embedding: TimeEmbedding::load(&time, &sinusoids, TIME_FACTOR * first)?,
            conv_in: Conv2d::load(
                &scope.at("conv_in"),
                config.in_channels,
                first,
                Window::Same,
            )?,
            down,
            middle,
            up,
            conv_norm_out: GroupNorm::load(&scope.at("conv_norm_out"), first, groups, eps)?,
            conv_out: Conv2d::load(
                &scope.at("conv_out"),
                first,
                config.out_channels,
                Window::Same,
            )?,
        })
    }

    /// Works out once what every cross-attention makes of the prompt.
    ///
    /// - `prompt`: `[1, L, D]`, the encoded prompt.
    pub(crate) fn read_prompt(&self, prompt: &Tensor) -> Result<Vec<Prompted>> {
        self.transformers()
            .map(|transformer| transformer.read_prompt(prompt))
            .collect()
    }

    /// - `latent`: `[B, C, h, w]`, divided by `sqrt(sigma^2 + 1)`.
    /// - `timesteps`: `[B]`, `f32`, counted from 0; each row may have its own.
    /// - `prompt`: what [`Unet::read_prompt`] returned.
    /// - returns the noise in it, `[B, C, h, w]`.
    pub(crate) fn forward(
        &self,
        latent: &Tensor,
        timesteps: &Tensor,
        prompt: &[Prompted],
    ) -> Result<Tensor> {
        let time = self.time_embedding.forward(timesteps)?;
        let mut prompts = prompt.iter();
        let mut x = self.conv_in.forward(latent)?;
        let mut skips = vec![x.clone()];
        for level in &self.down {
            for (resnet, transformer) in &level.layers {
                x = resnet.forward(&x, Some(&time))?;
                x = attend(transformer.as_ref(), x, &mut prompts)?;
                skips.push(x.clone());
            }
            if let Some(halve) = &level.resample {
                x = halve.forward(&x)?;
                skips.push(x.clone());
            }
        }
        let (before, transformer, after) = &self.middle;
        x = before.forward(&x, Some(&time))?;
        x = attend(Some(transformer), x, &mut prompts)?;
        x = after.forward(&x, Some(&time))?;
        for level in &self.up {
            for (resnet, transformer) in &level.layers {
                if let Some(skip) = skips.pop() {
                    x = Tensor::cat(&[x, skip], 1)?;
                }
                x = resnet.forward(&x, Some(&time))?;
                x = attend(transformer.as_ref(), x, &mut prompts)?;
            }
            if let Some(conv) = &level.resample {
                x = conv.forward(&x)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }

    /// Every transformer, in the order in which `forward` passes them.
    fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        fn of(levels: &[Level]) -> Vec<&Transformer> {
            levels
                .iter()
                .flat_map(|level| &level.layers)
                .filter_map(|(_, t)| t.as_ref())
                .collect()
        }
        of(&self.down)
            .into_iter()
            .chain([&self.middle.1])
            .chain(of(&self.up))
    }
}

fn attend<'a>(
    transformer: Option<&Transformer>,
    x: Tensor,
    prompts: &mut impl Iterator<Item = &'a Prompted>,
) -> Result<Tensor> {
    let Some(transformer) = transformer else {
        return Ok(x);
    };
    let Some(prompt) = prompts.next() else {
        candle_core::bail!("the prompt was read by another network");
    };
    transformer.forward(&x, prompt)
}

struct Loader<'a> {
    config: &'a UnetConfig,
}

impl Loader<'_> {
    /// Loads the way down, noting the width of each skip connection.
    fn down(
        &self,
        scope: &Scope<'_>,
        skips: &mut Vec<usize>,
    ) -> std::result::Result<Vec<Level>, LoadError> {
        let widths = &self.config.block_out_channels;
        let mut levels = Vec::with_capacity(widths.len());
        for (level, &width) in widths.iter().enumerate() {
            let scope = scope.at(level);
            let attends = self.config.down_block_types[level] == "CrossAttnDownBlock2D";
            let mut layers = Vec::new();
            for layer in 0..self.config.layers_per_block {
                let inputs = if layer == 0 {
                    widths[level.saturating_sub(1)]
                } else {
                    width
                };
                layers.push(self.layer(
                    &scope,
                    layer,
                    (inputs, width),
                    attends.then_some(level),
                )?);
                skips.push(width);
            }
            let mut resample = None;
            if level + 1 < widths.len() {
                let scope = scope.at("downsamplers.0.conv");
                resample = Some(Conv2d::load(&scope, width, width, Window::Halve)?);
                skips.push(width);
            }
            levels.push(Level { layers, resample });
        }
        Ok(levels)
    }

    /// Loads the way up; each resnet also takes the skip connection that `down` noted last.
    fn up(
        &self,
        scope: &Scope<'_>,
        skips: &mut Vec<usize>,
    ) -> std::result::Result<Vec<Level>, LoadError> {
        let widths = &self.config.block_out_channels;
        let mut levels = Vec::with_capacity(widths.len());
        let mut current = widths[widths.len() - 1];
        for (block, (level, &width)) in widths.iter().enumerate().rev().enumerate() {
            let scope = scope.at(block);
            let attends = self.config.up_block_types[block] == "CrossAttnUpBlock2D";
            let mut layers = Vec::new();
            for layer in 0..=self.config.layers_per_block {
                let inputs = current + skips.pop().unwrap_or(0);
                layers.push(self.layer(
                    &scope,
                    layer,
                    (inputs, width),
                    attends.then_some(level),
                )?);
                current = width;
            }
            let resample = if level > 0 {
                let scope = scope.at("upsamplers.0.conv");
                Some(Conv2d::load(&scope, width, width, Window::Double)?)
            } else {
                None
            };
            levels.push(Level { layers, resample });
        }
        Ok(levels)
    }

    fn layer(
        &self,
        scope: &Scope<'_>,
        layer: usize,
        (inputs, width): (usize, usize),
        attention_of: Option<usize>,
    ) -> std::result::Result<(Resnet, Option<Transformer>), LoadError> {
        let resnet = Resnet::load(&scope.at("resnets").at(layer), self.resnet(inputs, width))?;
        let transformer = match attention_of {
            Some(level) => {
                let scope = scope.at("attentions").at(layer);
                Some(Transformer::load(&scope, &self.transformer(level))?)
            }
            None => None,
        };
        Ok((resnet, transformer))
    }

    fn resnet(&self, inputs: usize, outputs: usize) -> ResnetShape {
        ResnetShape {
            inputs,
            outputs,
            time: Some(TIME_FACTOR * self.config.block_out_channels[0]),
            groups: self.config.norm_num_groups,
            eps: self.config.norm_eps,
        }
    }

    fn transformer(&self, level: usize) -> TransformerShape {
        TransformerShape {
            width: self.config.block_out_channels[level],
            heads: self.config.heads(level),
            prompt_width: self.config.cross_attention_dim,
            groups: self.config.norm_num_groups,
        }
    }
}
