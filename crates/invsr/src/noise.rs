//! Randomness by address: every normal number is a function of (seed, tile, stage, element).
//!
//! Nothing is drawn in order, so batching, retries and other tiles cannot change a pixel. To make
//! the same numbers elsewhere:
//!
//! 1. Philox4x32-10 with key `(low, high)` 32 bits of the seed and counter
//!    `(block, 0, tile, stage)`; stage 0 is the noise predictor's normal, 1 the VAE's. The tile
//!    counts from 0 in raster order.
//! 2. A block gives four words `w0..w3`. For each pair, in `f64`:
//!    `r = sqrt(-2 ln((w0 + 1) / 2^32))`, `a = 2 pi w1 / 2^32`, and the two normals are
//!    `r cos a`, `r sin a`, rounded to `f32`.
//! 3. Element `i` of the tile's latent, in `[C, h, w]` order, is normal `i % 4` of block `i / 4`.
//!
//! Source of the generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

/// Which of a tile's two normals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Predictor = 0,
    Vae = 1,
}

/// One block of the Philox4x32-10 generator.
pub(crate) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let [high_0, low_0] = wide_product(MULTIPLIERS[0], counter[0]);
        let [high_1, low_1] = wide_product(MULTIPLIERS[1], counter[2]);
        counter = [
            high_1 ^ counter[1] ^ key[0],
            low_1,
            high_0 ^ counter[3] ^ key[1],
            low_0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The high and low word of `a * b`.
fn wide_product(a: u32, b: u32) -> [u32; 2] {
    halves(u64::from(a) * u64::from(b))
}

/// The high and low word of a number.
#[expect(clippy::cast_possible_truncation, reason = "each half is taken")]
pub(crate) fn halves(wide: u64) -> [u32; 2] {
    [(wide >> 32) as u32, wide as u32]
}

/// Four independent standard normals from one block.
#[expect(clippy::cast_possible_truncation, reason = "normals are stored as f32")]
pub(crate) fn normals(block: [u32; 4]) -> [f32; 4] {
    const RANGE: f64 = 4_294_967_296.0;
    let pair = |a: u32, b: u32| {
        let radius = (-2.0 * ((f64::from(a) + 1.0) / RANGE).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * f64::from(b) / RANGE).sin_cos();
        [(radius * cosine) as f32, (radius * sine) as f32]
    };
    let [w0, w1, w2, w3] = block;
    let ([a, b], [c, d]) = (pair(w0, w1), pair(w2, w3));
    [a, b, c, d]
}

/// The normals of one tile and stage: `count` values in `[C, h, w]` order.
pub(crate) fn keyed(seed: u64, tile: u32, stage: Stage, count: usize) -> Vec<f32> {
    let [high, low] = halves(seed);
    let blocks = (0u32..).map(|block| normals(philox([block, 0, tile, stage as u32], [low, high])));
    blocks.flatten().take(count).collect()
}

/// Normals given from outside, to replay another program's run.
#[derive(Debug, Clone)]
pub struct InjectedNoise {
    predictor: Tensor,
    vae: Tensor,
}

impl InjectedNoise {
    /// Reads `predictor_eps` and `vae_eps`, both `[T, C, h, w]`: tiles in raster order, latent
    /// channels and sides.
    ///
    /// # Errors
    /// [`NoiseError`] when the file cannot be read, or the two tensors are missing or unequal in
    /// shape.
    pub fn read(path: &Path) -> Result<Self, NoiseError> {
        let mut tensors =
            candle_core::safetensors::load(path, &Device::Cpu).map_err(NoiseError::Read)?;
        let mut take =
            |name: &'static str| tensors.remove(name).ok_or(NoiseError::Missing { name });
        Self::new(take("predictor_eps")?, take("vae_eps")?)
    }

    /// Wraps the two tensors, `[T, C, h, w]` each.
    ///
    /// # Errors
    /// [`NoiseError::Unequal`] when their shapes differ or have not four sides.
    pub fn new(predictor: Tensor, vae: Tensor) -> Result<Self, NoiseError> {
        if predictor.rank() != 4 || predictor.dims() != vae.dims() {
            let (predictor, vae) = (predictor.dims().to_vec(), vae.dims().to_vec());
            return Err(NoiseError::Unequal { predictor, vae });
        }
        let on_host = |tensor: Tensor| {
            tensor
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?
                .contiguous()
        };
        Ok(Self {
            predictor: on_host(predictor).map_err(NoiseError::Read)?,
            vae: on_host(vae).map_err(NoiseError::Read)?,
        })
    }

    /// Refuses unless made for `tiles` tiles of latents `[C, h, w]`.
    pub(crate) fn check(&self, tiles: usize, latent: [usize; 3]) -> Result<(), NoiseError> {
        let expected = [tiles, latent[0], latent[1], latent[2]];
        if self.predictor.dims() == expected {
            return Ok(());
        }
        let found = self.predictor.dims().to_vec();
        Err(NoiseError::Shape {
            found,
            expected: expected.to_vec(),
        })
    }

    pub(crate) fn of(
        &self,
        stage: Stage,
        first: usize,
        count: usize,
    ) -> candle_core::Result<Tensor> {
        let all = match stage {
            Stage::Predictor => &self.predictor,
            Stage::Vae => &self.vae,
        };
        all.narrow(0, first, count)
    }
}

/// Why noise from outside cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    /// The file is missing, damaged, or of an unknown number format.
    #[error("it is no safetensors file, or cannot be read")]
    Read(#[source] candle_core::Error),
    /// The file lacks one of the two tensors.
    #[error("the noise file has no tensor {name}")]
    Missing {
        /// The tensor's name.
        name: &'static str,
    },
    /// The two tensors do not belong together.
    #[error("predictor_eps is {predictor:?} but vae_eps is {vae:?}; both must be [T, C, h, w]")]
    Unequal {
        /// Shape of `predictor_eps`.
        predictor: Vec<usize>,
        /// Shape of `vae_eps`.
        vae: Vec<usize>,
    },
    /// The noise was made for another image, tile size or model.
    #[error("the noise is {found:?}, this run needs {expected:?}")]
    Shape {
        /// The shape given.
        found: Vec<usize>,
        /// The shape needed: tiles, channels, rows, columns.
        expected: Vec<usize>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three vectors published with the generator's reference implementation (Random123).
    #[test]
    fn philox_gives_the_published_answers() {
        let zeros = philox([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let drawn = philox(pi, [0xa409_3822, 0x299f_31d0]);
        assert_eq!(drawn, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let drawn = keyed(12345, 3, Stage::Vae, 100_000);
        let count = drawn.len() as f64;
        let mean = drawn.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let variance = drawn
            .iter()
            .map(|x| (f64::from(*x) - mean).powi(2))
            .sum::<f64>()
            / count;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert!(drawn.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn seed_tile_and_stage_each_change_the_noise() {
        let base = keyed(1, 0, Stage::Predictor, 16);
        assert_eq!(keyed(1, 0, Stage::Predictor, 5), base[..5]);
        for other in [
            keyed(2, 0, Stage::Predictor, 16),
            keyed(1 << 32 | 1, 0, Stage::Predictor, 16),
            keyed(1, 1, Stage::Predictor, 16),
            keyed(1, 0, Stage::Vae, 16),
        ] {
            assert_ne!(other, base);
        }
    }

    #[test]
    fn noise_of_another_shape_is_refused() {
        let zeros =
            |tiles: usize| Tensor::zeros((tiles, 4, 8, 8), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(
            InjectedNoise::new(zeros(2), zeros(3)),
            Err(NoiseError::Unequal { .. })
        ));
        let noise = InjectedNoise::new(zeros(2), zeros(2)).unwrap();
        assert!(noise.check(2, [4, 8, 8]).is_ok());
        assert!(matches!(
            noise.check(3, [4, 8, 8]),
            Err(NoiseError::Shape { .. })
        ));
    }
}
