//! The timestep embedding: sinusoids, then two linear layers.

use candle_core::{Result, Tensor};

use super::Linear;
use crate::error::LoadError;
use crate::weights::Scope;

/// Turns a timestep per row into a vector per row.
#[derive(Debug)]
pub(crate) struct TimeEmbedding {
    /// Angular frequencies, `[1, half]`, always `f32`.
    frequencies: Tensor,
    cosine_first: bool,
    linear_1: Linear,
    linear_2: Linear,
}

/// How the sinusoids are laid out.
pub(crate) struct Sinusoids {
    /// Their number, cosines and sines together.
    pub width: usize,
    /// `freq_shift` of the configuration.
    pub shift: f64,
    /// `flip_sin_to_cos` of the configuration.
    pub cosine_first: bool,
}

impl TimeEmbedding {
    pub(crate) fn load(
        scope: &Scope<'_>,
        sinusoids: &Sinusoids,
        outputs: usize,
    ) -> std::result::Result<Self, LoadError> {
        let half = sinusoids.width / 2;
        let step = -(10_000f64.ln()) / (half as f64 - sinusoids.shift);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the reference computes angles in f32"
        )]
        let frequencies: Vec<f32> = (0..half).map(|i| (step * i as f64).exp() as f32).collect();
        let linear_1 = Linear::load(&scope.at("linear_1"), 2 * half, outputs)?;
        let device = linear_1.device();
        Ok(Self {
            frequencies: Tensor::from_vec(frequencies, (1, half), device)
                .map_err(LoadError::Prepare)?,
            cosine_first: sinusoids.cosine_first,
            linear_1,
            linear_2: Linear::load(&scope.at("linear_2"), outputs, outputs)?,
        })
    }

    /// - `timesteps`: `[B]` in `f32`, counted from 0; each row may have its own.
    /// - returns `[B, 1, outputs]`, already through the silu that every user applies.
    pub(crate) fn forward(&self, timesteps: &Tensor) -> Result<Tensor> {
        let angles = timesteps.unsqueeze(1)?.matmul(&self.frequencies)?;
        let (cosine, sine) = (angles.cos()?, angles.sin()?);
        let waves = if self.cosine_first {
            [cosine, sine]
        } else {
            [sine, cosine]
        };
        let waves = Tensor::cat(&waves, 1)?
            .unsqueeze(1)?
            .to_dtype(self.linear_1.dtype())?;
        self.linear_2
            .forward(&self.linear_1.forward(&waves)?.silu()?)?
            .silu()
    }
}
