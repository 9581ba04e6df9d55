//! 3x3 and 1x1 convolutions.
//!
//! The CPU path copies patches row by row into a matrix that a plain product with the stored
//! weights turns into output planes: nothing is transposed, and the weights stay as they are.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::host::{is_host_f32, with_values};
use crate::error::LoadError;
use crate::weights::Scope;

/// Elements of a patch matrix made at once: 4 MiB.
const PATCH_ELEMENTS: usize = 1 << 20;

/// Pixels below which a product with the weights would spend its time on reading them.
const LEAST_PIXELS: usize = 512;

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
}

impl Window {
    fn kernel(self) -> usize {
        if self == Self::Point { 1 } else { 3 }
    }

    fn stride(self) -> usize {
        match self {
            Self::Point | Self::Same => 1,
            Self::Halve | Self::HalveAhead => 2,
        }
    }

    /// Zero rows above the image.
    fn before(self) -> usize {
        match self {
            Self::Point | Self::HalveAhead => 0,
            Self::Same | Self::Halve => 1,
        }
    }

    fn output_side(self, side: usize) -> usize {
        match self {
            Self::Point | Self::Same => side,
            Self::Halve => side.div_ceil(2),
            Self::HalveAhead => side / 2,
        }
    }
}

/// A biased 2-D convolution.
#[derive(Debug)]
pub(crate) struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    window: Window,
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
        Ok(Self {
            weight,
            bias: scope.tensor("bias", &[outputs])?,
            window,
        })
    }

    /// - `x`: `[B, in, H, W]`; returns `[B, out, H', W']`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.window != Window::Point && is_host_f32(x) {
            return self.forward_host(x);
        }
        let y = match self.window {
            Window::Point => self.forward_point(x)?,
            Window::Same => x.conv2d(&self.weight, 1, 1, 1, 1)?,
            Window::Halve => x.conv2d(&self.weight, 1, 2, 1, 1)?,
            Window::HalveAhead => {
                let padded = x
                    .pad_with_zeros(D::Minus1, 0, 1)?
                    .pad_with_zeros(D::Minus2, 0, 1)?;
                padded.conv2d(&self.weight, 0, 2, 1, 1)?
            }
        };
        y.broadcast_add(&self.bias.reshape((1, (), 1, 1))?)
    }

    fn forward_point(&self, x: &Tensor) -> Result<Tensor> {
        let (samples, _, height, width) = x.dims4()?;
        let weight = self.weight.flatten_from(1)?;
        let y = weight
            .broadcast_left(samples)?
            .matmul(&x.flatten_from(2)?)?;
        y.reshape((samples, (), height, width))
    }

    fn forward_host(&self, x: &Tensor) -> Result<Tensor> {
        let (samples, channels, height, width) = x.dims4()?;
        let x = x.contiguous()?;
        let weight = self.weight.flatten_from(1)?;
        let (outputs, patch) = weight.dims2()?;
        let (out_h, out_w) = (
            self.window.output_side(height),
            self.window.output_side(width),
        );
        let strip_rows = strip_rows(patch, out_w).min(out_h);
        let strips: Vec<Strip> = (0..samples)
            .flat_map(|sample| (0..out_h).step_by(strip_rows).map(move |top| (sample, top)))
            .map(|(sample, top)| Strip {
                sample,
                top,
                rows: strip_rows.min(out_h - top),
            })
            .collect();
        let products: Result<Vec<Tensor>> = with_values(&x, |values| {
            let product = |strip: &Strip| {
                let plane = height * width;
                let image = &values[strip.sample * channels * plane..][..channels * plane];
                let patches = strip.patches(image, (height, width), out_w, self.window);
                let shape = (patch, strip.rows * out_w);
                weight.matmul(&Tensor::from_vec(patches, shape, x.device())?)
            };
            strips.par_iter().map(product).collect()
        })?;
        let bias = self.bias.to_vec1::<f32>()?;
        let mut out = vec![0.0; samples * outputs * out_h * out_w];
        for (strip, product) in strips.iter().zip(products?) {
            let sample =
                &mut out[strip.sample * outputs * out_h * out_w..][..outputs * out_h * out_w];
            let begin = strip.top * out_w;
            let pixels = strip.rows * out_w;
            with_values(&product, |product| {
                let planes = sample
                    .par_chunks_mut(out_h * out_w)
                    .zip(product.par_chunks(pixels));
                planes.zip(&bias).for_each(|((plane, strip), bias)| {
                    let pairs = plane[begin..begin + pixels].iter_mut().zip(strip);
                    pairs.for_each(|(out, x)| *out = x + bias);
                });
            })?;
        }
        Tensor::from_vec(out, (samples, outputs, out_h, out_w), x.device())
    }
}

/// Output rows that are made at once.
fn strip_rows(patch: usize, out_w: usize) -> usize {
    (PATCH_ELEMENTS / (patch * out_w)).max(LEAST_PIXELS.div_ceil(out_w))
}

/// Values of the patch matrix that a core makes at once, for a square of `out_px` output pixels.
pub(crate) fn patch_values(patch: usize, out_px: usize) -> usize {
    let side = out_px.isqrt().max(1);
    patch * side * strip_rows(patch, side).min(side)
}

/// Some output rows of one sample.
struct Strip {
    sample: usize,
    top: usize,
    rows: usize,
}

impl Strip {
    /// The matrix of patches, `[in * 9, rows * out_w]`, zeros where a patch leaves the image.
    fn patches(
        &self,
        image: &[f32],
        (height, width): (usize, usize),
        out_w: usize,
        window: Window,
    ) -> Vec<f32> {
        let (stride, before) = (window.stride(), window.before());
        let channels = image.len() / (height * width);
        let mut patches = vec![0.0; channels * 9 * self.rows * out_w];
        let planes = image.chunks_exact(height * width);
        for (taps, plane) in patches.chunks_exact_mut(9 * self.rows * out_w).zip(planes) {
            for (tap, rows) in taps.chunks_exact_mut(self.rows * out_w).enumerate() {
                let (down, right) = (tap / 3, tap % 3);
                for (y, row) in rows.chunks_exact_mut(out_w).enumerate() {
                    let Some(from) = ((self.top + y) * stride + down).checked_sub(before) else {
                        continue;
                    };
                    if from < height {
                        let source = &plane[from * width..(from + 1) * width];
                        copy_row(row, source, right, stride, before);
                    }
                }
            }
        }
        patches
    }
}

/// `row[x] = source[x * stride + right - before]` where that exists.
fn copy_row(row: &mut [f32], source: &[f32], right: usize, stride: usize, before: usize) {
    let skipped = usize::from(right < before);
    let source = &source[(skipped * stride + right - before).min(source.len())..];
    let row = &mut row[skipped..];
    if stride == 1 {
        let shared = row.len().min(source.len());
        row[..shared].copy_from_slice(&source[..shared]);
    } else {
        for (out, x) in row.iter_mut().zip(source.iter().step_by(stride)) {
            *out = *x;
        }
    }
}

/// Doubles both sides by repeating each pixel.
pub(crate) fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    let (samples, channels, height, width) = x.dims4()?;
    if !is_host_f32(x) {
        return x.upsample_nearest2d(2 * height, 2 * width);
    }
    let mut out = vec![0.0; samples * channels * 4 * height * width];
    with_values(&x.contiguous()?, |values| {
        let planes = out
            .par_chunks_mut(4 * height * width)
            .zip(values.par_chunks(height * width));
        planes.for_each(|(out, plane)| {
            for (pair, row) in out
                .chunks_exact_mut(4 * width)
                .zip(plane.chunks_exact(width))
            {
                let (upper, lower) = pair.split_at_mut(2 * width);
                for (out, x) in upper.chunks_exact_mut(2).zip(row) {
                    out.fill(*x);
                }
                lower.copy_from_slice(upper);
            }
        });
    })?;
    Tensor::from_vec(out, (samples, channels, 2 * height, 2 * width), x.device())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn conv(inputs: usize, outputs: usize, window: Window) -> Conv2d {
        let side = window.kernel();
        let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
        let weight = random(&[outputs, inputs, side, side]);
        Conv2d {
            weight,
            bias: random(&[outputs]),
            window,
        }
    }

    #[test]
    fn strips_agree_with_the_plain_convolution() {
        for (height, width) in [(1, 1), (2, 5), (48, 36), (37, 70)] {
            let x = Tensor::randn(0f32, 1f32, (2, 5, height, width), &Device::Cpu).unwrap();
            for window in [Window::Same, Window::Halve] {
                let conv = conv(5, 3, window);
                let expected = x.conv2d(&conv.weight, 1, window.stride(), 1, 1).unwrap();
                let bias = conv.bias.reshape((1, 3, 1, 1)).unwrap();
                let expected = expected.broadcast_add(&bias).unwrap();
                assert_close(&conv.forward(&x).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn halving_ahead_pads_below_and_to_the_right() {
        let x = Tensor::randn(0f32, 1f32, (1, 4, 6, 10), &Device::Cpu).unwrap();
        let conv = conv(4, 3, Window::HalveAhead);
        let padded = x
            .pad_with_zeros(2, 0, 1)
            .unwrap()
            .pad_with_zeros(3, 0, 1)
            .unwrap();
        let expected = padded.conv2d(&conv.weight, 0, 2, 1, 1).unwrap();
        let expected = expected
            .broadcast_add(&conv.bias.reshape((1, 3, 1, 1)).unwrap())
            .unwrap();
        assert_close(&conv.forward(&x).unwrap(), &expected);
    }

    #[test]
    fn upsampling_repeats_each_pixel() {
        let x = Tensor::randn(0f32, 1f32, (2, 3, 4, 5), &Device::Cpu).unwrap();
        assert_close(
            &upsample_nearest(&x).unwrap(),
            &x.upsample_nearest2d(8, 10).unwrap(),
        );
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims());
        let error = (found - expected)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 2e-5);
    }
}
