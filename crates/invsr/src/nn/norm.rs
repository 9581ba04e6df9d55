//! Group and layer normalisation. Group sums are taken in `f64`, plane by plane.
//!
//! The loops are compiled for wider registers too, chosen at run time: more lanes, the same bits. Each is a type
//! of its own and no closure: compiled by itself, a closure would have only the registers of any processor.

use candle_core::{D, Module, Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::host::{is_host_f32, with_values};
use super::math;
use crate::error::LoadError;
use crate::weights::Scope;

/// Normalises groups of channels to zero mean and unit variance, then scales and shifts each.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    pub(crate) fn load(
        scope: &Scope<'_>,
        channels: usize,
        groups: usize,
        eps: f64,
    ) -> std::result::Result<Self, LoadError> {
        let weight = scope.tensor("weight", &[channels])?;
        let bias = scope.tensor("bias", &[channels])?;
        Ok(Self {
            weight,
            bias,
            groups,
            eps,
        })
    }

    /// - `x`: `[B, C, H, W]`; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, false)
    }

    /// The same, followed by silu.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, true)
    }

    fn apply(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        let (samples, channels, height, width) = x.dims4()?;
        if !is_host_f32(x) {
            let (weight, bias) = (self.weight.clone(), self.bias.clone());
            let norm = candle_nn::GroupNorm::new(weight, bias, channels, self.groups, self.eps)?;
            let y = norm.forward(x)?;
            return if silu { y.silu() } else { Ok(y) };
        }
        let plane = height * width;
        let mut out = vec![0.0; samples * channels * plane];
        let scales = with_values(x, |values| group_scales(values, plane, channels, self))?;
        let (weight, bias) = (self.weight.to_vec1::<f32>()?, self.bias.to_vec1::<f32>()?);
        with_values(x, |values| {
            let planes = out
                .par_chunks_mut(plane)
                .zip(values.par_chunks(plane))
                .enumerate();
            planes.for_each(|(i, (out, plane))| {
                let (mean, rstd) = scales[i / (channels / self.groups)];
                let scale = weight[i % channels] * rstd;
                let shift = bias[i % channels] - mean * scale;
                Arch::new().dispatch(ScalePlane {
                    out,
                    plane,
                    scale,
                    shift,
                    silu,
                });
            });
        })?;
        Tensor::from_vec(out, x.shape(), x.device())
    }
}

/// Mean and reciprocal deviation of each group of each sample.
#[expect(
    clippy::cast_possible_truncation,
    reason = "statistics go back to the data's precision"
)]
fn group_scales(
    values: &[f32],
    plane: usize,
    channels: usize,
    norm: &GroupNorm,
) -> Vec<(f32, f32)> {
    let sum_plane = |plane| Arch::new().dispatch(SumPlane(plane));
    let sums: Vec<(f64, f64)> = values.par_chunks(plane).map(sum_plane).collect();
    let members = channels / norm.groups;
    let count = (members * plane) as f64;
    let of_group = |group: &[(f64, f64)]| {
        let (sum, squares) = group.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        (mean as f32, (1.0 / (variance + norm.eps).sqrt()) as f32)
    };
    sums.chunks(members).map(of_group).collect()
}

/// `out = x * scale + shift`, or silu of it.
struct ScalePlane<'a> {
    out: &'a mut [f32],
    plane: &'a [f32],
    scale: f32,
    shift: f32,
    silu: bool,
}

impl WithSimd for ScalePlane<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { scale, shift, .. } = self;
        let pairs = self.out.iter_mut().zip(self.plane);
        if self.silu {
            pairs.for_each(|(out, x)| *out = math::silu(x * scale + shift));
        } else {
            pairs.for_each(|(out, x)| *out = x * scale + shift);
        }
    }
}

/// The sum of a plane, and that of its squares.
struct SumPlane<'a>(&'a [f32]);

impl WithSimd for SumPlane<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        sum_and_square_sum(self.0)
    }
}

#[inline(always)]
fn sum_and_square_sum(values: &[f32]) -> (f64, f64) {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let mut squares = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = f64::from(chunk[lane]);
            sums[lane] += x;
            squares[lane] += x * x;
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        sums[lane] += f64::from(*x);
        squares[lane] += f64::from(*x).powi(2);
    }
    (sums.iter().sum(), squares.iter().sum())
}

/// Normalises each token of a sequence.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

/// The epsilon of every layer norm, in the UNet and in the text encoder.
pub(crate) const LAYER_NORM_EPS: f32 = 1e-5;

impl LayerNorm {
    pub(crate) fn load(scope: &Scope<'_>, width: usize) -> std::result::Result<Self, LoadError> {
        let weight = scope.tensor("weight", &[width])?;
        Ok(Self {
            weight,
            bias: scope.tensor("bias", &[width])?,
        })
    }

    /// - `x`: `[B, N, C]`, contiguous; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !is_host_f32(x) {
            return candle_nn::ops::layer_norm(x, &self.weight, &self.bias, LAYER_NORM_EPS);
        }
        let width = x.dim(D::Minus1)?;
        let (weight, bias) = (self.weight.to_vec1::<f32>()?, self.bias.to_vec1::<f32>()?);
        let mut out = vec![0.0; x.elem_count()];
        with_values(x, |values| {
            let rows = out
                .par_chunks_mut(width)
                .zip(values.par_chunks(width))
                .with_min_len(16);
            rows.for_each(|(out, row)| {
                Arch::new().dispatch(NormaliseRow {
                    out,
                    row,
                    weight: &weight,
                    bias: &bias,
                });
            });
        })?;
        Tensor::from_vec(out, x.shape(), x.device())
    }
}

struct NormaliseRow<'a> {
    out: &'a mut [f32],
    row: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
}

impl WithSimd for NormaliseRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            out,
            row,
            weight,
            bias,
        } = self;
        let count = row.len() as f32;
        let mean = sum_of(row, |x| x) / count;
        let variance = sum_of(row, |x| (x - mean) * (x - mean)) / count;
        let rstd = 1.0 / (variance + LAYER_NORM_EPS).sqrt();
        for (((out, x), weight), bias) in out.iter_mut().zip(row).zip(weight).zip(bias) {
            *out = (x - mean) * rstd * weight + bias;
        }
    }
}

/// Sums side by side, whatever the processor: the order of a sum is part of its result.
#[inline(always)]
fn sum_of(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += term(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += term(*x);
    }
    sums.iter().sum()
}
