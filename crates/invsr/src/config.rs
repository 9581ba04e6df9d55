//! The networks' configuration files, in the diffusers layout. Every size comes from here.
//!
//! A file is checked as it is read: what this engine cannot do is refused by name, not guessed.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::LoadError;
use crate::scheduler::MAX_TIMESTEP;

/// The fixed scale: output pixels per input pixel, each way.
pub(crate) const SCALE: usize = 4;

/// Larger than any published network has, small enough to be multiplied.
const MAX_CHANNELS: usize = 1 << 16;
/// Of a level.
const MAX_LAYERS: usize = 64;
const MAX_LEVELS: usize = 12;

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

/// `scheduler/scheduler_config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SchedulerConfig {
    pub beta_start: f64,
    pub beta_end: f64,
}

impl SchedulerConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Kind {
            beta_schedule: String,
            #[serde(default = "epsilon")]
            prediction_type: String,
            num_train_timesteps: u32,
            #[serde(default)]
            trained_betas: Option<Vec<f64>>,
            #[serde(default)]
            rescale_betas_zero_snr: bool,
        }
        let path = dir.join("scheduler/scheduler_config.json");
        let kind: Kind = read_json(&path)?;
        let check = Check("scheduler");
        check.that(
            kind.beta_schedule == "scaled_linear",
            "beta_schedule must be scaled_linear",
        )?;
        check.that(
            kind.prediction_type == "epsilon",
            "prediction_type must be epsilon",
        )?;
        check.that(
            kind.num_train_timesteps == MAX_TIMESTEP,
            "num_train_timesteps must be 1000",
        )?;
        check.that(
            kind.trained_betas.is_none() && !kind.rescale_betas_zero_snr,
            "trained_betas and rescale_betas_zero_snr are not supported",
        )?;
        read_json(&path)
    }
}

/// One number for all levels, or one for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrEach {
    One(usize),
    Each(Vec<usize>),
}

impl OneOrEach {
    fn at(&self, level: usize) -> usize {
        match self {
            Self::One(n) => *n,
            Self::Each(each) => each.get(level).copied().unwrap_or(0),
        }
    }
}

/// Refuses, naming the network.
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    pub(crate) fn that(&self, holds: bool, rule: &str) -> Result<(), LoadError> {
        if holds {
            return Ok(());
        }
        Err(LoadError::Unsupported {
            network: self.0,
            reason: rule.to_owned(),
        })
    }

    /// Reads a configuration in which each of `only`'s keys has that value, if it is there and not null.
    fn read<T: DeserializeOwned>(
        &self,
        path: &Path,
        only: &[(&str, Value)],
    ) -> Result<T, LoadError> {
        let written: Value = read_json(path)?;
        for (key, value) in only {
            let found = &written[*key];
            // Some writers give whole numbers as 1, some as 1.0.
            let same = found == value || (found.is_number() && found.as_f64() == value.as_f64());
            let rule = format!("{key} must be {value}, not {found}: nothing else is supported");
            self.that(found.is_null() || same, &rule)?;
        }
        read_json(path)
    }

    /// Sizes that can be computed with: a level's widths, and the others.
    fn channels(&self, widths: &[usize], others: &[usize]) -> Result<(), LoadError> {
        self.that(
            (1..=MAX_LEVELS).contains(&widths.len()),
            &format!("block_out_channels must name 1 to {MAX_LEVELS} levels"),
        )?;
        let mut all = widths.iter().chain(others);
        self.that(
            all.all(|width| (1..=MAX_CHANNELS).contains(width)),
            &format!("every number of channels must be 1 to {MAX_CHANNELS}"),
        )
    }

    fn layers(&self, each: &[usize]) -> Result<(), LoadError> {
        self.that(
            each.iter().all(|layers| (1..=MAX_LAYERS).contains(layers)),
            &format!("layers_per_block must be 1 to {MAX_LAYERS}"),
        )
    }

    fn activation(&self, name: &str) -> Result<(), LoadError> {
        self.that(name == "silu", "act_fn must be silu")
    }

    fn kinds(&self, found: &[String], levels: usize, known: &[&str]) -> Result<(), LoadError> {
        let all_known = found.iter().all(|kind| known.contains(&kind.as_str()));
        let rule = format!("the block types must be {levels} of {known:?}, not {found:?}");
        self.that(all_known && found.len() == levels, &rule)
    }

    fn groups(&self, widths: &[usize], groups: usize) -> Result<(), LoadError> {
        let divides = groups > 0 && widths.iter().all(|width| width.is_multiple_of(groups));
        self.that(
            divides,
            "norm_num_groups must divide every level's channels",
        )
    }
}

fn divides_all(divisor: usize, widths: &[usize]) -> bool {
    divisor > 0 && widths.iter().all(|width| width.is_multiple_of(divisor))
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| LoadError::Parse {
        path: path.to_owned(),
        source,
    })
}

fn rgb() -> usize {
    3
}

fn groups() -> usize {
    32
}

fn yes() -> bool {
    true
}

fn silu() -> String {
    "silu".to_owned()
}

/// The scale of every Stable Diffusion up to 2.1, whose older configurations do not state it.
fn latent_scale() -> f64 {
    0.18215
}

/// What a scheduler predicts whose configuration is older than the choice.
fn epsilon() -> String {
    "epsilon".to_owned()
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
