use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Check, SCALE, groups, rgb, silu, yes};
use crate::error::LoadError;

/// `vae/config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VaeConfig {
    #[serde(default = "rgb")]
    pub in_channels: usize,
    #[serde(default = "rgb")]
    pub out_channels: usize,
    pub latent_channels: usize,
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: usize,
    #[serde(default = "groups")]
    pub norm_num_groups: usize,
    #[serde(default = "latent_scale")]
    pub scaling_factor: f64,
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
    #[serde(default = "silu")]
    act_fn: String,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
}

impl VaeConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        let check = Check("vae");
        let config: Self = check.read(&dir.join("vae/config.json"), &Self::only())?;
        let levels = config.block_out_channels.len();
        check.that(
            levels >= 2,
            "block_out_channels must name at least two levels",
        )?;
        check.channels(&config.block_out_channels, &[config.latent_channels])?;
        check.layers(&[config.layers_per_block])?;
        check.that(
            config.scaling_factor.is_finite() && config.scaling_factor > 0.0,
            "scaling_factor must be above 0",
        )?;
        check.activation(&config.act_fn)?;
        check.kinds(&config.down_block_types, levels, &["DownEncoderBlock2D"])?;
        check.kinds(&config.up_block_types, levels, &["UpDecoderBlock2D"])?;
        check.groups(&config.block_out_channels, config.norm_num_groups)?;
        check.that(
            config.in_channels == 3 && config.out_channels == 3,
            "in_channels and out_channels must be 3",
        )?;
        check.that(
            config.factor() >= SCALE,
            "the latent must be at most a quarter of the image",
        )?;
        Ok(config)
    }

    fn only() -> Vec<(&'static str, Value)> {
        vec![
            ("shift_factor", Value::Null),
            ("latents_mean", Value::Null),
            ("latents_std", Value::Null),
            ("use_quant_conv", json!(true)),
            ("use_post_quant_conv", json!(true)),
        ]
    }

    /// Image pixels per latent pixel, each way.
    pub(crate) fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

/// The scale of every Stable Diffusion up to 2.1, whose older configurations do not state it.
fn latent_scale() -> f64 {
    0.18215
}
