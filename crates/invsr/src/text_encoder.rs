//! The text encoder of Stable Diffusion 2.x: OpenCLIP's ViT-H text tower, all but its last layer.
//!
//! It runs once, when a model folder is made; what it says of the prompt is stored there. A layer's
//! weights are in memory only while the layer runs.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor};
use serde::Deserialize;

use crate::config::{Check, read_json};
use crate::error::LoadError;
use crate::nn::{LAYER_NORM_EPS, LayerNorm, Linear, merge_heads, split_heads};
use crate::weights::{Scope, Weights};

/// `text_encoder/config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TextConfig {
    pub hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: String,
    #[serde(default = "positions")]
    pub max_position_embeddings: usize,
    #[serde(default = "vocabulary")]
    pub vocab_size: usize,
    #[serde(default = "layer_norm_eps")]
    layer_norm_eps: f64,
}

fn positions() -> usize {
    77
}

fn vocabulary() -> usize {
    49_408
}

fn layer_norm_eps() -> f64 {
    f64::from(LAYER_NORM_EPS)
}

impl TextConfig {
    pub(crate) fn read(base: &Path) -> std::result::Result<Self, LoadError> {
        let config: Self = read_json(&base.join("text_encoder/config.json"))?;
        let check = Check("text_encoder");
        check.that(
            config.hidden_act == "gelu",
            &format!(
                "hidden_act must be \"gelu\", as in Stable Diffusion 2.x, not {:?}",
                config.hidden_act
            ),
        )?;
        let heads = config.num_attention_heads;
        check.that(
            heads > 0 && config.hidden_size.is_multiple_of(heads),
            "num_attention_heads must divide hidden_size",
        )?;
        check.that(
            (config.layer_norm_eps - layer_norm_eps()).abs() < 1e-9,
            "layer_norm_eps must be 1e-5",
        )?;
        check.that(
            config.max_position_embeddings >= 2,
            "max_position_embeddings must leave room for a start and an end",
        )?;
        Ok(config)
    }
}

/// What the tower says of each prompt: the last layer's states after the final norm.
///
/// - `ids`: prompts of up to 77 token numbers each, all equally long.
/// - `done` is called after each layer with the number of layers done and of all; it may break off.
/// - returns `[B, L, width]` in `f32`.
///
/// # Errors
/// A tensor that the configuration implies is missing or has another shape.
pub(crate) fn encode(
    weights: &Weights,
    config: &TextConfig,
    ids: &[Vec<u32>],
    mut done: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> std::result::Result<ControlFlow<(), Tensor>, LoadError> {
    let scope = weights.root().at("text_model");
    let mut x = embed(&scope.at("embeddings"), config, ids)?;
    let mask = causal_mask(x.dim(1).map_err(LoadError::Prepare)?).map_err(LoadError::Prepare)?;
    for layer in 0..config.num_hidden_layers {
        let loaded = Layer::load(&scope.at("encoder.layers").at(layer), config)?;
        x = loaded.forward(&x, &mask).map_err(LoadError::Prepare)?;
        if done(layer + 1, config.num_hidden_layers).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    let norm = LayerNorm::load(&scope.at("final_layer_norm"), config.hidden_size)?;
    let states = norm.forward(&x).map_err(LoadError::Prepare)?;
    Ok(ControlFlow::Continue(states))
}

fn embed(
    scope: &Scope<'_>,
    config: &TextConfig,
    ids: &[Vec<u32>],
) -> std::result::Result<Tensor, LoadError> {
    let width = config.hidden_size;
    let tokens = scope.tensor("token_embedding.weight", &[config.vocab_size, width])?;
    let places = [config.max_position_embeddings, width];
    let places = scope.tensor("position_embedding.weight", &places)?;
    let rows = |ids: &Vec<u32>| -> Result<Tensor> {
        let ids = Tensor::new(ids.as_slice(), &Device::Cpu)?;
        let tokens = tokens.index_select(&ids, 0)?.to_dtype(DType::F32)?;
        tokens + places.narrow(0, 0, ids.dim(0)?)?.to_dtype(DType::F32)?
    };
    let each: Result<Vec<Tensor>> = ids.iter().map(rows).collect();
    each.and_then(|each| Tensor::stack(&each, 0))
        .map_err(LoadError::Prepare)
}

/// `[N, N]`: nothing on and below the diagonal, minus infinity above, so that no token sees a later
/// one.
fn causal_mask(tokens: usize) -> Result<Tensor> {
    let hidden = |i: usize| {
        if i % tokens > i / tokens {
            f32::NEG_INFINITY
        } else {
            0.0
        }
    };
    let mask = (0..tokens * tokens).map(hidden).collect();
    Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)
}

/// Attention to the tokens so far, then a perceptron, each after a norm and beside a shortcut.
struct Layer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &TextConfig) -> std::result::Result<Self, LoadError> {
        let width = config.hidden_size;
        let attention = |name: &str| Linear::load(&scope.at("self_attn").at(name), width, width);
        Ok(Self {
            layer_norm1: LayerNorm::load(&scope.at("layer_norm1"), width)?,
            q_proj: attention("q_proj")?,
            k_proj: attention("k_proj")?,
            v_proj: attention("v_proj")?,
            out_proj: attention("out_proj")?,
            layer_norm2: LayerNorm::load(&scope.at("layer_norm2"), width)?,
            fc1: Linear::load(&scope.at("mlp.fc1"), width, config.intermediate_size)?,
            fc2: Linear::load(&scope.at("mlp.fc2"), config.intermediate_size, width)?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (x + self.attend(&self.layer_norm1.forward(x)?, mask)?)?;
        // The exact function: this runs once, and the quick one of `nn` is good to 1.5e-7 only.
        let hidden = self
            .fc1
            .forward(&self.layer_norm2.forward(&x)?)?
            .gelu_erf()?;
        &x + self.fc2.forward(&hidden)?
    }

    fn attend(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let heads = |to: &Linear| split_heads(&to.forward(x)?, self.heads);
        let (q, k, v) = (
            heads(&self.q_proj)?,
            heads(&self.k_proj)?,
            heads(&self.v_proj)?,
        );
        let scale = 1.0 / (q.dim(D::Minus1)? as f64).sqrt();
        let scores = (q * scale)?.matmul(&k.t()?)?.broadcast_add(mask)?;
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
        self.out_proj.forward(&merge_heads(&mixed)?)
    }
}
