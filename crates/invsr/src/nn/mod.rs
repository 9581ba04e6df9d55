//! Building blocks of the three networks: layers that read their own weights, and the block
//! shapes that the networks share.
//!
//! Activations are NCHW (images) or `[B, tokens, channels]` (sequences). On the CPU the layers
//! work sample by sample in an order that no neighbour changes: the result of an image in a batch
//! is, bit for bit, its result alone.

mod add;
mod attention;
mod blocks;
mod conv;
pub(crate) mod host;
mod linear;
mod math;
mod norm;
mod product;
mod time;

pub(crate) use add::add_into;
pub(crate) use attention::{attention, merge_heads, split_heads};
pub(crate) use blocks::{ImageAttention, Resnet, ResnetShape};
pub(crate) use conv::{Conv2d, Joins, Window, room_values};
pub(crate) use linear::{Gated, Linear};
pub(crate) use norm::{GroupNorm, LAYER_NORM_EPS, LayerNorm};
pub(crate) use time::{Sinusoids, TimeEmbedding};

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::weights::Weights;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
    }

    /// Fails unless each sample's result in a batch is, bit for bit, its result alone.
    fn assert_alone_is_together(x: &Tensor, forward: impl Fn(&Tensor) -> Result<Tensor>) {
        let values = |y: Tensor| y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let together = forward(x).unwrap();
        for sample in 0..x.dim(0).unwrap() {
            let alone = forward(&x.narrow(0, sample, 1).unwrap()).unwrap();
            let found = values(together.narrow(0, sample, 1).unwrap());
            assert!(found == values(alone), "sample {sample} of {:?}", x.dims());
        }
    }

    /// The digest of what the layers make of fixed numbers, under the revision that it belongs to.
    /// Only arithmetic with one right answer goes into it, so that it holds on every processor.
    /// **Another digest wants another [`crate::REVISION`].**
    #[test]
    fn the_bits_of_the_layers_belong_to_the_revision() {
        const BITS: (u32, &str) = (2, "4579f95943820160");
        let mut digest = Sha256::new();
        let mut add = |y: Tensor| {
            for value in y.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
                digest.update(value.to_le_bytes());
            }
        };
        let x = fixed(&[1, 32, 12, 10]);
        for window in WINDOWS {
            let side = if window == Window::Point { 1 } else { 3 };
            let weight = fixed(&[20, 32, side, side]);
            let weights = Weights::of(&[("weight", weight), ("bias", fixed(&[20]))]);
            let conv = Conv2d::load(&weights.root(), 32, 20, window).unwrap();
            add(conv.forward(&x).unwrap());
        }
        let affine = Weights::of(&[("weight", fixed(&[32])), ("bias", fixed(&[32]))]);
        let group = GroupNorm::load(&affine.root(), 32, 8, 1e-5).unwrap();
        add(group.forward_silu(&x).unwrap());
        let tokens = fixed(&[1, 300, 32]);
        let layer = LayerNorm::load(&affine.root(), 32).unwrap();
        add(layer.forward(&tokens).unwrap());
        add(attention(&tokens, &tokens, &tokens, 2).unwrap());
        let weights = Weights::of(&[("weight", fixed(&[80, 32])), ("bias", fixed(&[80]))]);
        let (linear, gated) = (
            Linear::load(&weights.root(), 32, 80).unwrap(),
            Gated::load(&weights.root(), 32, 40).unwrap(),
        );
        add(linear.forward(&tokens).unwrap());
        add(gated.forward(&tokens).unwrap());
        let found = hex::encode(&digest.finalize()[..8]);
        assert_eq!((crate::REVISION, found.as_str()), BITS);
    }

    /// Numbers in `[-1, 1)` that depend on nothing but the shape.
    fn fixed(shape: &[usize]) -> Tensor {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let values = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    const WINDOWS: [Window; 5] = [
        Window::Point,
        Window::Same,
        Window::Halve,
        Window::HalveAhead,
        Window::Double,
    ];

    #[test]
    fn linear_is_blind_to_neighbours() {
        for (tokens, inputs, outputs) in [(1, 5, 7), (4, 32, 128), (64, 128, 32), (77, 24, 16)] {
            let tensors = [
                ("weight", random(&[outputs, inputs])),
                ("bias", random(&[outputs])),
            ];
            let weights = Weights::of(&tensors);
            let linear = Linear::load(&weights.root(), inputs, outputs).unwrap();
            assert_alone_is_together(&random(&[3, tokens, inputs]), |x| linear.forward(x));
            let transposed = random(&[3, inputs, tokens]).transpose(1, 2).unwrap();
            assert_alone_is_together(&transposed, |x| linear.forward(x));
        }
    }

    #[test]
    fn attention_is_blind_to_neighbours() {
        for (heads, tokens, width) in [(1, 4, 16), (4, 4, 8), (2, 64, 16), (1, 256, 16), (4, 1, 8)]
        {
            let x = random(&[3, tokens, heads * width]);
            assert_alone_is_together(&x, |x| attention(x, x, x, heads));
            let prompt = random(&[1, 77, heads * width]);
            assert_alone_is_together(&x, |x| attention(x, &prompt, &prompt, heads));
        }
    }

    #[test]
    fn gates_are_blind_to_neighbours() {
        let tensors = [("weight", random(&[80, 32])), ("bias", random(&[80]))];
        let weights = Weights::of(&tensors);
        let gated = Gated::load(&weights.root(), 32, 40).unwrap();
        for tokens in [64, 4] {
            assert_alone_is_together(&random(&[3, tokens, 32]), |x| gated.forward(x));
        }
    }

    #[test]
    fn convolutions_are_blind_to_neighbours() {
        for (side, inputs, outputs) in [
            (1, 32, 32),
            (2, 64, 32),
            (4, 32, 16),
            (16, 4, 16),
            (64, 8, 4),
        ] {
            for window in WINDOWS {
                if window == Window::HalveAhead && side == 1 {
                    continue;
                }
                let kernel = if window == Window::Point { 1 } else { 3 };
                let weight = random(&[outputs, inputs, kernel, kernel]);
                let weights = Weights::of(&[("weight", weight), ("bias", random(&[outputs]))]);
                let conv = Conv2d::load(&weights.root(), inputs, outputs, window).unwrap();
                assert_alone_is_together(&random(&[3, inputs, side, side]), |x| conv.forward(x));
            }
        }
    }

    #[test]
    fn norms_are_blind_to_neighbours() {
        let affine =
            |width: usize| Weights::of(&[("weight", random(&[width])), ("bias", random(&[width]))]);
        let group = GroupNorm::load(&affine(32).root(), 32, 8, 1e-5).unwrap();
        for side in [1, 2, 16] {
            let x = random(&[3, 32, side, side]);
            assert_alone_is_together(&x, |x| group.forward_silu(x));
        }
        let layer = LayerNorm::load(&affine(32).root(), 32).unwrap();
        assert_alone_is_together(&random(&[3, 77, 32]), |x| layer.forward(x));
    }
}
