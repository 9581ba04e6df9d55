//! The UNet's attention block: self-attention, a look at the prompt, and a gated linear layer.

use candle_core::{Result, Tensor};

use crate::error::LoadError;
use crate::nn::{Gated, GroupNorm, LayerNorm, Linear, add_into, attention};
use crate::weights::Scope;

/// A transformer's sizes.
#[derive(Debug)]
pub(super) struct TransformerShape {
    pub width: usize,
    pub heads: usize,
    pub prompt_width: usize,
    pub groups: usize,
}

/// The keys and values that one cross-attention reads from the prompt.
///
/// Each `[1, L, C]`: the same for every image, so they are worked out once.
#[derive(Debug)]
pub(crate) struct Prompted {
    keys: Tensor,
    values: Tensor,
}

/// One `Transformer2DModel` with one layer; `proj_in` and `proj_out` are linear (older files store
/// them as 1x1 convolutions, which is the same).
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    norm1: LayerNorm,
    attn1: Projections,
    norm2: LayerNorm,
    attn2: Projections,
    norm3: LayerNorm,
    ff_in: Gated,
    ff_out: Linear,
    proj_out: Linear,
    heads: usize,
}

#[derive(Debug)]
struct Projections {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl Projections {
    fn load(
        scope: &Scope<'_>,
        width: usize,
        context: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            to_q: Linear::load_unbiased(&scope.at("to_q"), width, width)?,
            to_k: Linear::load_unbiased(&scope.at("to_k"), context, width)?,
            to_v: Linear::load_unbiased(&scope.at("to_v"), context, width)?,
            to_out: Linear::load(&scope.at("to_out.0"), width, width)?,
        })
    }
}

impl Transformer {
    pub(super) fn load(
        scope: &Scope<'_>,
        shape: &TransformerShape,
    ) -> std::result::Result<Self, LoadError> {
        let width = shape.width;
        let block = scope.at("transformer_blocks.0");
        Ok(Self {
            norm: GroupNorm::load(&scope.at("norm"), width, shape.groups, 1e-6)?,
            proj_in: Linear::load(&scope.at("proj_in"), width, width)?,
            norm1: LayerNorm::load(&block.at("norm1"), width)?,
            attn1: Projections::load(&block.at("attn1"), width, width)?,
            norm2: LayerNorm::load(&block.at("norm2"), width)?,
            attn2: Projections::load(&block.at("attn2"), width, shape.prompt_width)?,
            norm3: LayerNorm::load(&block.at("norm3"), width)?,
            ff_in: Gated::load(&block.at("ff.net.0.proj"), width, 4 * width)?,
            ff_out: Linear::load(&block.at("ff.net.2"), 4 * width, width)?,
            proj_out: Linear::load(&scope.at("proj_out"), width, width)?,
            heads: shape.heads,
        })
    }

    /// - `prompt`: `[1, L, D]`.
    pub(super) fn read_prompt(&self, prompt: &Tensor) -> Result<Prompted> {
        Ok(Prompted {
            keys: self.attn2.to_k.forward(prompt)?,
            values: self.attn2.to_v.forward(prompt)?,
        })
    }

    /// - `x`: `[B, C, H, W]`; returns the same shape.
    pub(super) fn forward(&self, x: &Tensor, prompt: &Prompted) -> Result<Tensor> {
        let tokens = self.norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?;
        let mut h = self.proj_in.forward(&tokens)?;
        h = add_into(self.attend_to_itself(&self.norm1.forward(&h)?)?, &h)?;
        h = add_into(self.attend_to_prompt(&self.norm2.forward(&h)?, prompt)?, &h)?;
        let gated = self.ff_in.forward(&self.norm3.forward(&h)?)?;
        h = add_into(self.ff_out.forward(&gated)?, &h)?;
        self.proj_out.forward_onto(&h, x)
    }

    fn attend_to_itself(&self, tokens: &Tensor) -> Result<Tensor> {
        let Projections {
            to_q,
            to_k,
            to_v,
            to_out,
        } = &self.attn1;
        to_out.forward(&attention(
            &to_q.forward(tokens)?,
            &to_k.forward(tokens)?,
            &to_v.forward(tokens)?,
            self.heads,
        )?)
    }

    fn attend_to_prompt(&self, tokens: &Tensor, prompt: &Prompted) -> Result<Tensor> {
        let Projections { to_q, to_out, .. } = &self.attn2;
        let queries = to_q.forward(tokens)?;
        to_out.forward(&attention(
            &queries,
            &prompt.keys,
            &prompt.values,
            self.heads,
        )?)
    }
}
