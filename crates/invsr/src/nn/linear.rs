//! Linear layers over sequences, and the gated one inside the UNet's transformers.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::add::add_row_into;
use super::host::{is_host_f32, with_values};
use super::math;
use crate::error::LoadError;
use crate::weights::Scope;

/// `x W^T + b` over the last side of a `[B, N, in]` tensor.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Loaded<Self> {
        let bias = Some(scope.tensor("bias", &[outputs])?);
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias,
        })
    }

    pub(crate) fn load_unbiased(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Loaded<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[outputs, inputs])?,
            bias: None,
        })
    }

    /// `[out, in]`.
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// - `x`: `[B, N, in]`, of any strides.
    /// - returns `[B, N, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.t()?;
        let samples = x.dim(0)?;
        let y = if x.device().is_cpu() {
            // One product a sample: a product over all rows may sum in another order.
            let of_sample = |b| x.get(b)?.matmul(&weight)?.unsqueeze(0);
            let each: Result<Vec<Tensor>> = (0..samples).map(of_sample).collect();
            Tensor::cat(&each?, 0)?
        } else {
            x.matmul(&weight.broadcast_left(samples)?)?
        };
        match &self.bias {
            Some(bias) => add_row_into(y, bias),
            None => Ok(y),
        }
    }
}

type Loaded<T> = std::result::Result<T, LoadError>;

/// Multiplies the first half of the channels by the erf-GELU of the second half.
///
/// - `x`: `[B, N, 2C]`, contiguous.
/// - returns `[B, N, C]`.
pub(crate) fn geglu(x: &Tensor) -> Result<Tensor> {
    let (samples, tokens, width) = x.dims3()?;
    let half = width / 2;
    if !is_host_f32(x) {
        let gate = x.narrow(2, half, half)?.gelu_erf()?;
        return x.narrow(2, 0, half)?.mul(&gate);
    }
    let mut out = vec![0.0; samples * tokens * half];
    with_values(x, |values| {
        out.par_chunks_mut(half)
            .zip(values.par_chunks(width))
            .with_min_len(16)
            .for_each(|(out, row)| {
                let (value, gate) = row.split_at(half);
                for ((out, value), gate) in out.iter_mut().zip(value).zip(gate) {
                    *out = value * math::gelu(*gate);
                }
            });
    })?;
    Tensor::from_vec(out, (samples, tokens, half), x.device())
}
