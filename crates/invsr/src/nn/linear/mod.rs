//! Linear layers over sequences, and the gated one inside the UNet's transformers.

mod packed;

use candle_core::{DType, Device, Result, Tensor};

use self::packed::{Packed, Tokens};
use super::add::{add_into, add_row_into};
use super::host::{is_host_f32, with_strided, with_values};
use super::math;
use super::product::Instructions;
use crate::error::LoadError;
use crate::weights::Scope;

/// `x W^T + b` over the last side of a `[B, N, in]` tensor.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Debug)]
enum Weight {
    /// For `f32` in main memory, in an order of its own.
    Packed(Packed),
    /// `[out, in]`, for the library's products.
    Plain(Tensor),
}

impl Weight {
    fn of(scope: &Scope<'_>, weight: Tensor) -> Result<Self> {
        if !is_host_f32(&weight) || scope.notes_shapes_only() {
            return Ok(Self::Plain(weight));
        }
        let inputs = weight.dim(1)?;
        with_values(&weight.contiguous()?, |values| {
            Self::Packed(Packed::new(values, inputs))
        })
    }
}

impl Linear {
    pub(crate) fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Loaded<Self> {
        let bias = scope.tensor("bias", &[outputs])?;
        Ok(Self {
            bias: Some(bias),
            ..Self::load_unbiased(scope, inputs, outputs)?
        })
    }

    pub(crate) fn load_unbiased(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Loaded<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs])?;
        Ok(Self {
            weight: Weight::of(scope, weight).map_err(LoadError::Prepare)?,
            bias: None,
        })
    }

    pub(crate) fn device(&self) -> &Device {
        match &self.weight {
            Weight::Packed(_) => &Device::Cpu,
            Weight::Plain(weight) => weight.device(),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match &self.weight {
            Weight::Packed(_) => DType::F32,
            Weight::Plain(weight) => weight.dtype(),
        }
    }

    /// - `x`: `[B, N, in]`, of any strides.
    /// - returns `[B, N, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Packed(packed) => {
                let bias = self.bias_values()?;
                let bias = bias.as_deref();
                with_samples(x, packed.outputs, |tokens, out| match bias {
                    Some(bias) => {
                        packed.forward(Instructions::best(), tokens, out, |sum, i| sum + bias[i]);
                    }
                    None => packed.forward(Instructions::best(), tokens, out, |sum, _| sum),
                })
            }
            Weight::Plain(weight) => {
                let weight = weight.t()?;
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
    }

    /// The result as an image, on top of another: `[B, out, H, W]`, of `H W = N` tokens.
    pub(crate) fn forward_onto(&self, x: &Tensor, image: &Tensor) -> Result<Tensor> {
        let Weight::Packed(packed) = &self.weight else {
            let y = self.forward(x)?.transpose(1, 2)?;
            return add_into(y.reshape(image.shape())?, image);
        };
        let bias = self.bias_values()?;
        let (bias, image) = (bias.as_deref(), image.contiguous()?);
        let y = with_values(&image, |image| {
            let mut images = image.chunks_exact(packed.outputs * x.dim(1)?);
            with_samples(x, packed.outputs, |tokens, out| {
                let image = images.next().unwrap_or_default();
                packed.forward_to_planes(Instructions::best(), tokens, out, |row, plane, first| {
                    let bias = bias.map_or(0.0, |bias| bias[plane]);
                    let image = &image[plane * tokens.count + first..];
                    row.iter_mut()
                        .zip(image)
                        .for_each(|(y, x)| *y = *y + bias + x);
                });
            })
        })??;
        y.reshape(image.shape())
    }

    fn bias_values(&self) -> Result<Option<Vec<f32>>> {
        self.bias.as_ref().map(Tensor::to_vec1).transpose()
    }
}

type Loaded<T> = std::result::Result<T, LoadError>;

/// A result of `outputs` values a token, whose samples `forward` fills one after the other: what
/// becomes of a sample does not depend on those beside it.
fn with_samples(
    x: &Tensor,
    outputs: usize,
    mut forward: impl FnMut(Tokens<'_>, &mut [f32]),
) -> Result<Tensor> {
    let (samples, count, _) = x.dims3()?;
    let mut out = vec![0.0; samples * count * outputs];
    with_strided(x, |values, strides| {
        for (sample, out) in out.chunks_exact_mut(count * outputs).enumerate() {
            let tokens = Tokens {
                values: &values[sample * strides[0]..],
                count,
                apart: strides[1],
                step: strides[2],
            };
            forward(tokens, out);
        }
    })?;
    Tensor::from_vec(out, (samples, count, outputs), x.device())
}

/// A linear layer of twice the outputs: the first half of them, each times the erf-GELU of its
/// counterpart in the second half.
#[derive(Debug)]
pub(crate) struct Gated {
    value: Linear,
    gate: Linear,
}

impl Gated {
    /// - `outputs`: of the product.
    pub(crate) fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Loaded<Self> {
        let weight = scope.tensor("weight", &[2 * outputs, inputs])?;
        let bias = scope.tensor("bias", &[2 * outputs])?;
        let half = |from: usize| -> Result<Linear> {
            Ok(Linear {
                weight: Weight::of(scope, weight.narrow(0, from, outputs)?)?,
                bias: Some(bias.narrow(0, from, outputs)?),
            })
        };
        Ok(Self {
            value: half(0).map_err(LoadError::Prepare)?,
            gate: half(outputs).map_err(LoadError::Prepare)?,
        })
    }

    /// - `x`: `[B, N, in]`; returns `[B, N, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (value, gate) = (&self.value, &self.gate);
        let (Weight::Packed(values), Weight::Packed(gates)) = (&value.weight, &gate.weight) else {
            return value.forward(x)? * gate.forward(x)?.gelu_erf()?;
        };
        let biases = (value.bias_values()?, gate.bias_values()?);
        let (Some(value), Some(gate)) = &biases else {
            candle_core::bail!("a gated layer has biases");
        };
        with_samples(x, values.outputs, |tokens, out| {
            let finish =
                |x: f32, gated: f32, i: usize| (x + value[i]) * math::gelu(gated + gate[i]);
            values.forward_with(gates, Instructions::best(), tokens, out, finish);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Weights;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
    }

    fn values(y: &Tensor) -> Vec<f32> {
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims());
        for (found, expected) in values(found).into_iter().zip(values(expected)) {
            let allowed = 1e-4 * expected.abs().max(1.0);
            assert!((found - expected).abs() < allowed, "{found}, {expected}");
        }
    }

    /// Shapes that fill no block, a few, and more than one chain of terms.
    const SHAPES: [(usize, usize, usize); 5] = [
        (1, 5, 7),
        (9, 256, 33),
        (70, 300, 64),
        (300, 17, 96),
        (64, 1000, 40),
    ];

    #[test]
    fn layers_agree_with_the_plain_product() {
        for (tokens, inputs, outputs) in SHAPES {
            let (weight, bias) = (random(&[outputs, inputs]), random(&[outputs]));
            let weights = Weights::of(&[("weight", weight.clone()), ("bias", bias.clone())]);
            let linear = Linear::load(&weights.root(), inputs, outputs).unwrap();
            let expected = |x: &Tensor| {
                let weight = weight.t().unwrap();
                let of_sample = |b| x.get(b).unwrap().matmul(&weight).unwrap();
                let y = Tensor::stack(&[of_sample(0), of_sample(1)], 0).unwrap();
                y.broadcast_add(&bias).unwrap()
            };
            let transposed = random(&[2, inputs, tokens]).transpose(1, 2).unwrap();
            for x in [random(&[2, tokens, inputs]), transposed] {
                assert_close(&linear.forward(&x).unwrap(), &expected(&x));
                let image = random(&[2, outputs, 1, tokens]);
                let planes = expected(&x).transpose(1, 2).unwrap().unsqueeze(2).unwrap();
                let on_top = linear.forward_onto(&x, &image).unwrap();
                assert_close(&on_top, &(planes + image).unwrap());
            }
        }
    }

    #[test]
    fn gates_agree_with_their_definition() {
        for (tokens, inputs, outputs) in SHAPES {
            let tensors = [
                ("weight", random(&[2 * outputs, inputs])),
                ("bias", random(&[2 * outputs])),
            ];
            let weights = Weights::of(&tensors);
            let (scope, x) = (weights.root(), random(&[2, tokens, inputs]));
            let both = Linear::load(&scope, inputs, 2 * outputs)
                .unwrap()
                .forward(&x)
                .unwrap();
            let gate = both
                .narrow(2, outputs, outputs)
                .unwrap()
                .gelu_erf()
                .unwrap();
            let expected = (both.narrow(2, 0, outputs).unwrap() * gate).unwrap();
            let gated = Gated::load(&scope, inputs, outputs).unwrap();
            assert_close(&gated.forward(&x).unwrap(), &expected);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (tokens, inputs, outputs) = (50, 300, 70);
        let (weight, x) = (
            values(&random(&[outputs, inputs])),
            values(&random(&[tokens, inputs])),
        );
        let packed = Packed::new(&weight, inputs);
        let tokens = Tokens {
            values: &x,
            count: tokens,
            apart: inputs,
            step: 1,
        };
        let results: Vec<Vec<f32>> = Instructions::all()
            .into_iter()
            .map(|cpu| {
                let mut out = vec![0.0; tokens.count * outputs];
                packed.forward(cpu, tokens, &mut out, |sum, _| sum);
                out
            })
            .collect();
        assert!(results.iter().all(|result| *result == results[0]));
    }
}
