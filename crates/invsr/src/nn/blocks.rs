//! Blocks that more than one network uses.

use candle_core::{Result, Tensor};

use super::{Conv2d, GroupNorm, Joins, Linear, Window, attention};
use crate::error::LoadError;
use crate::weights::Scope;

/// Norm, silu, 3x3 convolution, twice, beside a shortcut; a time embedding may join in between.
#[derive(Debug)]
pub(crate) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

/// A resnet's sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResnetShape {
    pub inputs: usize,
    pub outputs: usize,
    /// Width of the time embedding, where there is one.
    pub time: Option<usize>,
    pub groups: usize,
    pub eps: f64,
}

impl Resnet {
    pub(crate) fn load(
        scope: &Scope<'_>,
        shape: ResnetShape,
    ) -> std::result::Result<Self, LoadError> {
        let ResnetShape {
            inputs,
            outputs,
            time,
            groups,
            eps,
        } = shape;
        let time_emb_proj = match time {
            Some(width) => Some(Linear::load(&scope.at("time_emb_proj"), width, outputs)?),
            None => None,
        };
        let conv_shortcut = if inputs == outputs {
            None
        } else {
            Some(Conv2d::load(
                &scope.at("conv_shortcut"),
                inputs,
                outputs,
                Window::Point,
            )?)
        };
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), inputs, groups, eps)?,
            conv1: Conv2d::load(&scope.at("conv1"), inputs, outputs, Window::Same)?,
            time_emb_proj,
            norm2: GroupNorm::load(&scope.at("norm2"), outputs, groups, eps)?,
            conv2: Conv2d::load(&scope.at("conv2"), outputs, outputs, Window::Same)?,
            conv_shortcut,
        })
    }

    /// - `x`: `[B, in, H, W]`.
    /// - `time`: `[B, 1, time]`, after silu; ignored by a resnet without time.
    /// - returns `[B, out, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let shift = match (&self.time_emb_proj, time) {
            (Some(project), Some(time)) => Some(project.forward(time)?),
            _ => None,
        };
        let joins = Joins {
            shift: shift.as_ref(),
            image: None,
        };
        let h = self
            .conv1
            .forward_with(&self.norm1.forward_silu(x)?, joins)?;
        let h = self.norm2.forward_silu(&h)?;
        let shortcut = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(x)?,
            None => x.clone(),
        };
        let joins = Joins {
            shift: None,
            image: Some(&shortcut),
        };
        self.conv2.forward_with(&h, joins)
    }
}

/// Group norm and self-attention over all pixels, beside a shortcut.
#[derive(Debug)]
pub(crate) struct ImageAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl ImageAttention {
    /// Reads the weights under today's names, or those of older files.
    pub(crate) fn load(
        scope: &Scope<'_>,
        channels: usize,
        heads: usize,
        groups: usize,
    ) -> std::result::Result<Self, LoadError> {
        let names = if scope.has("query.weight") {
            ["query", "key", "value", "proj_attn"]
        } else {
            ["to_q", "to_k", "to_v", "to_out.0"]
        };
        let [to_q, to_k, to_v, to_out] =
            names.map(|name| Linear::load(&scope.at(name), channels, channels));
        let group_norm = GroupNorm::load(&scope.at("group_norm"), channels, groups, 1e-6)?;
        Ok(Self {
            group_norm,
            to_q: to_q?,
            to_k: to_k?,
            to_v: to_v?,
            to_out: to_out?,
            heads,
        })
    }

    /// - `x`: `[B, C, H, W]`; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let tokens = self
            .group_norm
            .forward(x)?
            .flatten_from(2)?
            .transpose(1, 2)?;
        let mixed = attention(
            &self.to_q.forward(&tokens)?,
            &self.to_k.forward(&tokens)?,
            &self.to_v.forward(&tokens)?,
            self.heads,
        )?;
        self.to_out.forward_onto(&mixed, x)
    }
}
