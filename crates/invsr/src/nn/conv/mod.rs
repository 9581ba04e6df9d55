//! 3x3 and 1x1 convolutions.
//!
//! On the CPU in `f32` they have a way of their own, see `packed.rs`; elsewhere the library's.

mod packed;
mod patches;

use candle_core::{D, Result, Tensor};

pub(crate) use self::packed::room_values;
use self::packed::{Added, Packed};
use super::add::add_into;
use super::host::{is_host_f32, with_values};
use super::product::Instructions;
use crate::error::LoadError;
use crate::weights::Scope;

/// How a convolution's kernel moves over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// 1x1: no neighbours.
    Point,
    /// 3x3, one zero row and column on every side; the size stays.
    Same,
    /// 3x3 with stride 2, one zero row and column on every side; the UNet halves so.
    Halve,
    /// 3x3 with stride 2, one zero row below and column to the right; the others halve so.
    HalveAhead,
    /// As `Same`, over the input with each pixel repeated into a square of four.
    Double,
}

impl Window {
    fn kernel(self) -> usize {
        if self == Self::Point { 1 } else { 3 }
    }

    fn stride(self) -> usize {
        match self {
            Self::Point | Self::Same | Self::Double => 1,
            Self::Halve | Self::HalveAhead => 2,
        }
    }

    /// Zero rows above the image.
    fn before(self) -> usize {
        match self {
            Self::Point | Self::HalveAhead => 0,
            Self::Same | Self::Halve | Self::Double => 1,
        }
    }

    /// Output pixels for each one of the grid.
    fn places(self) -> usize {
        if self == Self::Double { 4 } else { 1 }
    }

    /// Height and width of the grid that the kernel visits.
    fn grid(self, height: usize, width: usize) -> (usize, usize) {
        let side = |side: usize| match self {
            Self::Point | Self::Same | Self::Double => side,
            Self::Halve => side.div_ceil(2),
            Self::HalveAhead => side / 2,
        };
        (side(height), side(width))
    }

    fn output(self, height: usize, width: usize) -> (usize, usize) {
        let (height, width) = self.grid(height, width);
        let factor = if self == Self::Double { 2 } else { 1 };
        (factor * height, factor * width)
    }
}

/// A biased 2-D convolution.
#[derive(Debug)]
pub(crate) struct Conv2d {
    weight: Weight,
    bias: Tensor,
    window: Window,
}

#[derive(Debug)]
enum Weight {
    /// For `f32` in main memory, in an order of its own.
    Packed(Packed),
    /// `[out, in, k, k]`, for the library's convolution.
    Plain(Tensor),
}

/// What joins a convolution's result, beside its bias.
#[derive(Clone, Copy, Default)]
pub(crate) struct Joins<'a> {
    /// Added to whole channels: `[B, 1, out]`.
    pub shift: Option<&'a Tensor>,
    /// Added to each value: as the result.
    pub image: Option<&'a Tensor>,
}

impl Conv2d {
    pub(crate) fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        window: Window,
    ) -> std::result::Result<Self, LoadError> {
        let side = window.kernel();
        let weight = scope.tensor("weight", &[outputs, inputs, side, side])?;
        let bias = scope.tensor("bias", &[outputs])?;
        let weight = if is_host_f32(&weight) && !scope.notes_shapes_only() {
            pack(&weight, inputs, window).map_err(LoadError::Prepare)?
        } else {
            Weight::Plain(weight)
        };
        Ok(Self {
            weight,
            bias,
            window,
        })
    }

    /// - `x`: `[B, in, H, W]`; returns `[B, out, H', W']`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Joins::default())
    }

    /// The same, with what joins it.
    pub(crate) fn forward_with(&self, x: &Tensor, joins: Joins<'_>) -> Result<Tensor> {
        let weight = match &self.weight {
            Weight::Packed(packed) => return self.forward_host(packed, x, joins),
            Weight::Plain(weight) => weight,
        };
        let y = self.forward_plain(weight, x)?;
        let mut y = y.broadcast_add(&self.bias.reshape((1, (), 1, 1))?)?;
        if let Some(shift) = joins.shift {
            y = y.broadcast_add(&shift.transpose(1, 2)?.unsqueeze(3)?)?;
        }
        match joins.image {
            Some(image) => add_into(y, image),
            None => Ok(y),
        }
    }

    fn forward_plain(&self, weight: &Tensor, x: &Tensor) -> Result<Tensor> {
        match self.window {
            Window::Point => {
                let (samples, _, height, width) = x.dims4()?;
                let weight = weight.flatten_from(1)?.broadcast_left(samples)?;
                let y = weight.matmul(&x.flatten_from(2)?)?;
                y.reshape((samples, (), height, width))
            }
            Window::Same => x.conv2d(weight, 1, 1, 1, 1),
            Window::Halve => x.conv2d(weight, 1, 2, 1, 1),
            Window::HalveAhead => {
                let padded = x
                    .pad_with_zeros(D::Minus1, 0, 1)?
                    .pad_with_zeros(D::Minus2, 0, 1)?;
                padded.conv2d(weight, 0, 2, 1, 1)
            }
            Window::Double => {
                let (_, _, height, width) = x.dims4()?;
                let doubled = x.upsample_nearest2d(2 * height, 2 * width)?;
                doubled.conv2d(weight, 1, 1, 1, 1)
            }
        }
    }

    fn forward_host(&self, packed: &Packed, x: &Tensor, joins: Joins<'_>) -> Result<Tensor> {
        let (samples, channels, height, width) = x.dims4()?;
        let outputs = self.bias.dim(0)?;
        let (out_h, out_w) = self.window.output(height, width);
        let bias = self.bias.to_vec1::<f32>()?;
        let shifts = match joins.shift {
            Some(shift) => shift.reshape((samples, outputs))?.to_vec2::<f32>()?,
            None => vec![vec![0.0; outputs]; samples],
        };
        let x = x.contiguous()?;
        let mut out = vec![0.0; samples * outputs * out_h * out_w];
        let mut fill = |image: Option<&[f32]>| {
            with_values(&x, |x| {
                let each = out.chunks_exact_mut(outputs * out_h * out_w);
                let each = each.zip(x.chunks_exact(channels * height * width));
                for ((sample, (out, x)), shift) in each.enumerate().zip(&shifts) {
                    let bias: Vec<f32> = bias.iter().zip(shift).map(|(b, s)| b + s).collect();
                    let image = image.map(|image| &image[sample * out.len()..][..out.len()]);
                    let added = Added { bias: &bias, image };
                    packed.forward(Instructions::best(), x, (height, width), added, out);
                }
            })
        };
        match joins.image {
            Some(image) => with_values(&image.contiguous()?, |image| fill(Some(image)))??,
            None => fill(None)?,
        }
        Tensor::from_vec(out, (samples, outputs, out_h, out_w), x.device())
    }
}

fn pack(weight: &Tensor, inputs: usize, window: Window) -> Result<Weight> {
    with_values(&weight.contiguous()?, |values| {
        Weight::Packed(Packed::new(values, inputs, window))
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::weights::Weights;

    const WINDOWS: [Window; 5] = [
        Window::Point,
        Window::Same,
        Window::Halve,
        Window::HalveAhead,
        Window::Double,
    ];

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
    }

    /// The same convolution by the program's way and by the library's.
    fn both(inputs: usize, outputs: usize, window: Window) -> [Conv2d; 2] {
        let side = window.kernel();
        let (weight, bias) = (random(&[outputs, inputs, side, side]), random(&[outputs]));
        let weights = Weights::of(&[("weight", weight.clone()), ("bias", bias.clone())]);
        let ours = Conv2d::load(&weights.root(), inputs, outputs, window).unwrap();
        assert!(matches!(ours.weight, Weight::Packed(_)));
        let weight = Weight::Plain(weight);
        [
            ours,
            Conv2d {
                weight,
                bias,
                window,
            },
        ]
    }

    #[test]
    fn convolutions_agree_with_the_plain_ones() {
        for window in WINDOWS {
            for (height, width, inputs, outputs) in [
                (1, 1, 3, 5),
                (2, 5, 30, 9),
                (48, 36, 5, 3),
                (37, 70, 4, 17),
                (8, 8, 300, 200),
            ] {
                if window == Window::HalveAhead && height == 1 {
                    continue;
                }
                let [ours, plain] = both(inputs, outputs, window);
                let x = random(&[2, inputs, height, width]);
                assert_close(&ours.forward(&x).unwrap(), &plain.forward(&x).unwrap());
                let (height, width) = window.output(height, width);
                let (shift, image) = (
                    random(&[2, 1, outputs]),
                    random(&[2, outputs, height, width]),
                );
                let joins = Joins {
                    shift: Some(&shift),
                    image: Some(&image),
                };
                let expected = plain.forward_with(&x, joins).unwrap();
                assert_close(&ours.forward_with(&x, joins).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for window in WINDOWS {
            let ([ours, _], x) = (both(40, 19, window), random(&[40, 10, 9]));
            let Weight::Packed(packed) = &ours.weight else {
                panic!("not packed");
            };
            let x = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (height, width) = window.output(10, 9);
            let results = Instructions::all().into_iter().map(|cpu| {
                let mut out = vec![0.0; 19 * height * width];
                let added = Added {
                    bias: &[0.5; 19],
                    image: None,
                };
                packed.forward(cpu, &x, (10, 9), added, &mut out);
                out
            });
            let results: Vec<Vec<f32>> = results.collect();
            assert!(
                results.iter().all(|result| *result == results[0]),
                "{window:?}"
            );
        }
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims());
        let error = (found - expected)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        let largest = expected.abs().unwrap().max_all().unwrap();
        let relative = (error / largest).unwrap().to_scalar::<f32>().unwrap();
        assert!(relative < 2e-6, "{relative:e}");
    }
}
