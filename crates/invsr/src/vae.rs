//! The variational autoencoder between images and latents.
//!
//! Both halves see a tile whole: there is no second tiling inside, so that tiles above 256 px a
//! side need the memory of their enlarged size at once.

use candle_core::{Result, Tensor};

use crate::config::VaeConfig;
use crate::error::LoadError;
use crate::nn::{Conv2d, GroupNorm, ImageAttention, Resnet, ResnetShape, Window};
use crate::noise_predictor::mean_and_deviation;
use crate::weights::Scope;

const NORM_EPS: f64 = 1e-6;

/// `AutoencoderKL` of the diffusers layout.
#[derive(Debug)]
pub(crate) struct Vae {
    encoder: Half,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
    decoder: Half,
}

impl Vae {
    pub(crate) fn load(
        scope: &Scope<'_>,
        config: &VaeConfig,
    ) -> std::result::Result<Self, LoadError> {
        let (latent, both) = (config.latent_channels, 2 * config.latent_channels);
        let point = |name: &str, width| Conv2d::load(&scope.at(name), width, width, Window::Point);
        Ok(Self {
            encoder: Half::load_encoder(&scope.at("encoder"), config)?,
            quant_conv: point("quant_conv", both)?,
            post_quant_conv: point("post_quant_conv", latent)?,
            decoder: Half::load_decoder(&scope.at("decoder"), config)?,
        })
    }

    /// - `image`: `[B, 3, H, W]`, RGB in `[-1, 1]`; overshoot is welcome.
    /// - returns mean and standard deviation of the latent, each `[B, C, H/f, W/f]` in `f32`,
    ///   before the scaling factor.
    pub(crate) fn encode(&self, image: &Tensor) -> Result<(Tensor, Tensor)> {
        let encoder = &self.encoder;
        let mut x = encoder.conv_in.forward(image)?;
        for level in &encoder.levels {
            x = level.forward(&x)?;
        }
        let x = encoder.finish(&encoder.middle.forward(&x)?)?;
        mean_and_deviation(&self.quant_conv.forward(&x)?)
    }

    /// - `latent`: `[B, C, h, w]`, scaling factor taken out.
    /// - returns `[B, 3, f h, f w]`, RGB around `[-1, 1]`, not clamped.
    pub(crate) fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let decoder = &self.decoder;
        let x = decoder
            .conv_in
            .forward(&self.post_quant_conv.forward(latent)?)?;
        let mut x = decoder.middle.forward(&x)?;
        for level in &decoder.levels {
            x = level.forward(&x)?;
        }
        decoder.finish(&x)
    }
}

/// The encoder or the decoder: the same parts, in another order.
#[derive(Debug)]
struct Half {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Half {
    fn load_encoder(scope: &Scope<'_>, config: &VaeConfig) -> std::result::Result<Self, LoadError> {
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let mut levels = Vec::with_capacity(widths.len());
        for level in 0..widths.len() {
            let inputs = widths[level.saturating_sub(1)];
            let resample = (level + 1 < widths.len()).then_some(Resample::Halve);
            let layers = config.layers_per_block;
            let scope = scope.at("down_blocks").at(level);
            levels.push(Level::load(
                &scope,
                config,
                (inputs, widths[level]),
                layers,
                resample,
            )?);
        }
        Ok(Self {
            conv_in: Conv2d::load(
                &scope.at("conv_in"),
                config.in_channels,
                first,
                Window::Same,
            )?,
            levels,
            middle: Middle::load(&scope.at("mid_block"), config, last)?,
            conv_norm_out: norm(&scope.at("conv_norm_out"), config, last)?,
            conv_out: Conv2d::load(
                &scope.at("conv_out"),
                last,
                2 * config.latent_channels,
                Window::Same,
            )?,
        })
    }

    fn load_decoder(scope: &Scope<'_>, config: &VaeConfig) -> std::result::Result<Self, LoadError> {
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let mut levels = Vec::with_capacity(widths.len());
        for level in 0..widths.len() {
            let inputs = widths[level.saturating_sub(1)];
            let resample = (level + 1 < widths.len()).then_some(Resample::Double);
            let layers = config.layers_per_block + 1;
            let scope = scope.at("up_blocks").at(level);
            levels.push(Level::load(
                &scope,
                config,
                (inputs, widths[level]),
                layers,
                resample,
            )?);
        }
        let conv_in = scope.at("conv_in");
        Ok(Self {
            conv_in: Conv2d::load(&conv_in, config.latent_channels, first, Window::Same)?,
            levels,
            middle: Middle::load(&scope.at("mid_block"), config, first)?,
            conv_norm_out: norm(&scope.at("conv_norm_out"), config, last)?,
            conv_out: Conv2d::load(
                &scope.at("conv_out"),
                last,
                config.out_channels,
                Window::Same,
            )?,
        })
    }

    fn finish(&self, x: &Tensor) -> Result<Tensor> {
        self.conv_out.forward(&self.conv_norm_out.forward_silu(x)?)
    }
}

/// What a level does to the sides after its resnets.
#[derive(Debug, Clone, Copy)]
enum Resample {
    Halve,
    Double,
}

#[derive(Debug)]
struct Level {
    resnets: Vec<Resnet>,
    resample: Option<Conv2d>,
}

impl Level {
    fn load(
        scope: &Scope<'_>,
        config: &VaeConfig,
        (inputs, width): (usize, usize),
        layers: usize,
        resample: Option<Resample>,
    ) -> std::result::Result<Self, LoadError> {
        let mut resnets = Vec::with_capacity(layers);
        for layer in 0..layers {
            let inputs = if layer == 0 { inputs } else { width };
            let shape = resnet_shape(config, inputs, width);
            resnets.push(Resnet::load(&scope.at("resnets").at(layer), shape)?);
        }
        let conv = |name: &str, window| Conv2d::load(&scope.at(name), width, width, window);
        let resample = match resample {
            Some(Resample::Halve) => Some(conv("downsamplers.0.conv", Window::HalveAhead)?),
            Some(Resample::Double) => Some(conv("upsamplers.0.conv", Window::Double)?),
            None => None,
        };
        Ok(Self { resnets, resample })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for resnet in &self.resnets {
            x = resnet.forward(&x, None)?;
        }
        match &self.resample {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}

#[derive(Debug)]
struct Middle {
    before: Resnet,
    attention: Option<ImageAttention>,
    after: Resnet,
}

impl Middle {
    fn load(
        scope: &Scope<'_>,
        config: &VaeConfig,
        width: usize,
    ) -> std::result::Result<Self, LoadError> {
        let shape = resnet_shape(config, width, width);
        let attention = if config.mid_block_add_attention {
            let scope = scope.at("attentions.0");
            Some(ImageAttention::load(
                &scope,
                width,
                1,
                config.norm_num_groups,
            )?)
        } else {
            None
        };
        Ok(Self {
            before: Resnet::load(&scope.at("resnets.0"), shape)?,
            attention,
            after: Resnet::load(&scope.at("resnets.1"), shape)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.before.forward(x, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.after.forward(&x, None)
    }
}

fn norm(
    scope: &Scope<'_>,
    config: &VaeConfig,
    width: usize,
) -> std::result::Result<GroupNorm, LoadError> {
    GroupNorm::load(scope, width, config.norm_num_groups, NORM_EPS)
}

fn resnet_shape(config: &VaeConfig, inputs: usize, outputs: usize) -> ResnetShape {
    ResnetShape {
        inputs,
        outputs,
        time: None,
        groups: config.norm_num_groups,
        eps: NORM_EPS,
    }
}
