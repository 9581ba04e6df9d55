use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Check, groups, rgb, silu, yes};
use crate::error::LoadError;

/// `noise_predictor/config.json`: the part of the training recipe that gives the network its shape.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PredictorConfig {
    #[serde(default = "rgb")]
    pub in_channels: usize,
    pub latent_channels: usize,
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: Vec<usize>,
    pub down_block_types: Vec<String>,
    #[serde(default = "groups")]
    pub norm_num_groups: usize,
    pub attention_head_dim: usize,
    pub temb_channels: usize,
    #[serde(default)]
    pub freq_shift: f64,
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
    #[serde(default = "silu")]
    act_fn: String,
}

impl PredictorConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        Self::read_file(&dir.join("noise_predictor/config.json"))
    }

    pub(crate) fn read_file(path: &Path) -> Result<Self, LoadError> {
        let check = Check("noise_predictor");
        let config: Self = check.read(path, &Self::only())?;
        let levels = config.block_out_channels.len();
        check.channels(
            &config.block_out_channels,
            &[config.latent_channels, config.temb_channels],
        )?;
        check.layers(&config.layers_per_block)?;
        check.that(
            config.layers_per_block.len() == levels,
            "layers_per_block: one number a level",
        )?;
        check.activation(&config.act_fn)?;
        check.kinds(
            &config.down_block_types,
            levels,
            &["AttnDownBlock2D", "DownBlock2D"],
        )?;
        check.groups(&config.block_out_channels, config.norm_num_groups)?;
        check.that(config.in_channels == 3, "in_channels must be 3")?;
        let attends = config.mid_block_add_attention
            || config
                .down_block_types
                .iter()
                .any(|kind| kind == "AttnDownBlock2D");
        check.that(
            !attends || divides_all(config.attention_head_dim, &config.block_out_channels),
            "attention_head_dim must divide every level's channels",
        )?;
        Ok(config)
    }

    fn only() -> Vec<(&'static str, Value)> {
        vec![
            ("double_z", json!(true)),
            ("resnet_time_scale_shift", json!("default")),
        ]
    }

    /// Low-resolution pixels per latent pixel, each way.
    pub(crate) fn stride(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

fn divides_all(divisor: usize, widths: &[usize]) -> bool {
    divisor > 0 && widths.iter().all(|width| width.is_multiple_of(divisor))
}
