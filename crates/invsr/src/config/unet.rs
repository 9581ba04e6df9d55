use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Check, OneOrEach, groups, silu, yes};
use crate::error::LoadError;

/// `unet/config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UnetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: usize,
    attention_head_dim: OneOrEach,
    pub cross_attention_dim: usize,
    pub down_block_types: Vec<String>,
    pub up_block_types: Vec<String>,
    #[serde(default = "groups")]
    pub norm_num_groups: usize,
    #[serde(default = "unet_eps")]
    pub norm_eps: f64,
    #[serde(default)]
    pub freq_shift: f64,
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    #[serde(default = "silu")]
    act_fn: String,
    #[serde(default = "cross_attention_middle")]
    mid_block_type: Option<String>,
    #[serde(default = "one_layer")]
    transformer_layers_per_block: OneOrEach,
}

impl UnetConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        let check = Check("unet");
        let config: Self = check.read(&dir.join("unet/config.json"), &Self::only())?;
        let levels = config.block_out_channels.len();
        check.channels(
            &config.block_out_channels,
            &[
                config.in_channels,
                config.out_channels,
                config.cross_attention_dim,
            ],
        )?;
        check.layers(&[config.layers_per_block])?;
        check.activation(&config.act_fn)?;
        check.kinds(
            &config.down_block_types,
            levels,
            &["CrossAttnDownBlock2D", "DownBlock2D"],
        )?;
        check.kinds(
            &config.up_block_types,
            levels,
            &["CrossAttnUpBlock2D", "UpBlock2D"],
        )?;
        check.groups(&config.block_out_channels, config.norm_num_groups)?;
        check.that(
            config.mid_block_type.as_deref() == Some("UNetMidBlock2DCrossAttn"),
            "mid_block_type must be UNetMidBlock2DCrossAttn",
        )?;
        check.that(
            (0..levels).all(|level| config.transformer_layers_per_block.at(level) == 1),
            "transformer_layers_per_block must be 1",
        )?;
        check.that(
            config
                .block_out_channels
                .iter()
                .enumerate()
                .all(|(level, channels)| {
                    let heads = config.heads(level);
                    heads > 0 && channels.is_multiple_of(heads)
                }),
            "attention_head_dim (the number of heads) must divide the channels of its level",
        )?;
        Ok(config)
    }

    /// What published UNets may be told and this engine does not do. `upcast_attention` is about half
    /// precision alone, where scores are `f32` here in any case.
    fn only() -> Vec<(&'static str, Value)> {
        let off = [
            "center_input_sample",
            "only_cross_attention",
            "mid_block_only_cross_attention",
            "dual_cross_attention",
            "resnet_skip_time_act",
            "class_embeddings_concat",
        ];
        let none = [
            "class_embed_type",
            "num_class_embeds",
            "projection_class_embeddings_input_dim",
            "addition_embed_type",
            "encoder_hid_dim",
            "encoder_hid_dim_type",
            "num_attention_heads",
            "reverse_transformer_layers_per_block",
            "time_embedding_dim",
            "time_embedding_act_fn",
            "timestep_post_act",
            "time_cond_proj_dim",
            "cross_attention_norm",
        ];
        let off = off.map(|key| (key, json!(false)));
        let none = none.map(|key| (key, Value::Null));
        let rest = [
            ("resnet_time_scale_shift", json!("default")),
            ("time_embedding_type", json!("positional")),
            ("attention_type", json!("default")),
            ("mid_block_scale_factor", json!(1.0)),
            ("resnet_out_scale_factor", json!(1.0)),
            ("downsample_padding", json!(1.0)),
            ("conv_in_kernel", json!(3.0)),
            ("conv_out_kernel", json!(3.0)),
        ];
        off.into_iter().chain(none).chain(rest).collect()
    }

    /// Attention heads of a level. The key `attention_head_dim` holds this number, by an old slip.
    pub(crate) fn heads(&self, level: usize) -> usize {
        self.attention_head_dim.at(level)
    }

    /// How often the UNet halves its input.
    pub(crate) fn halvings(&self) -> usize {
        self.block_out_channels.len() - 1
    }
}

fn unet_eps() -> f64 {
    1e-5
}

fn one_layer() -> OneOrEach {
    OneOrEach::One(1)
}

fn cross_attention_middle() -> Option<String> {
    Some("UNetMidBlock2DCrossAttn".to_owned())
}
