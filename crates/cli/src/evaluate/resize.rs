//! Bicubic resizing, antialiased where it reduces: what the benchmarks of the field do.

use invsr::RgbImage;

/// One output sample: the first input sample it reads, and the weights of those from there.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// A cubic convolution kernel, by the slope at its first zero.
#[derive(Debug, Clone, Copy)]
pub struct Cubic(f64);

/// For reducing, as imaging libraries and the field's training data have it.
pub const SOFT: Cubic = Cubic(-0.5);
/// For enlarging, as tensor libraries and the method itself do: the better of the two by PSNR.
pub const SHARP: Cubic = Cubic(-0.75);

/// Resizes to `width` x `height` pixels; the kernel is widened when it reduces. Weights outside the
/// picture are dropped; overshoot is kept.
pub fn resize(image: &RgbImage, width: usize, height: usize, kernel: Cubic) -> RgbImage {
    let (from_width, from_height) = (image.width as usize, image.height as usize);
    let columns = taps(from_width, width, kernel);
    let rows = taps(from_height, height, kernel);
    let mut narrow = Vec::with_capacity(from_height * width * 3);
    for row in image.data.chunks_exact(3 * from_width) {
        for taps in &columns {
            let mut sum = [0.0; 3];
            let pixels = row.as_chunks::<3>().0;
            for (pixel, weight) in pixels[taps.first..].iter().zip(&taps.weights) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += value * weight;
                }
            }
            narrow.extend_from_slice(&sum);
        }
    }
    let stride = 3 * width;
    let mut data = vec![0.0; stride * height];
    for (out, taps) in data.chunks_exact_mut(stride).zip(&rows) {
        let read = narrow.chunks_exact(stride).skip(taps.first);
        for (row, weight) in read.zip(&taps.weights) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += value * weight;
            }
        }
    }
    RgbImage {
        width: side(width),
        height: side(height),
        data,
    }
}

fn side(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions are within the picture; weights act on f32 pixels"
)]
fn taps(from: usize, to: usize, kernel: Cubic) -> Vec<Taps> {
    let step = from as f64 / to as f64;
    let widening = step.max(1.0);
    let reach = 2.0 * widening;
    let taps_of = |out: usize| {
        let centre = (out as f64 + 0.5) * step;
        let first = (centre - reach + 0.5).floor().max(0.0) as usize;
        let end = ((centre + reach + 0.5).floor() as usize).min(from);
        let weights: Vec<f64> = (first..end)
            .map(|at| kernel.at((at as f64 + 0.5 - centre) / widening))
            .collect();
        let sum: f64 = weights.iter().sum();
        let weights = weights.iter().map(|weight| (weight / sum) as f32);
        Taps {
            first,
            weights: weights.collect(),
        }
    };
    (0..to).map(taps_of).collect()
}

impl Cubic {
    fn at(self, x: f64) -> f64 {
        let (Self(a), x) = (self, x.abs());
        if x < 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            a * (((x - 5.0) * x + 8.0) * x - 4.0)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: usize, height: usize, values: impl Iterator<Item = f32>) -> RgbImage {
        let data = values.flat_map(|value| [value; 3]).collect();
        RgbImage::new(side(width), side(height), data).unwrap()
    }

    #[test]
    fn a_flat_picture_stays_flat_and_a_slope_keeps_its_mean() {
        let flat = grey(12, 8, std::iter::repeat_n(0.25, 96));
        for (width, height) in [(3, 2), (48, 32), (12, 8)] {
            let resized = resize(&flat, width, height, SHARP);
            assert_eq!(resized.data.len(), width * height * 3);
            assert!(resized.data.iter().all(|v| (v - 0.25).abs() < 1e-6));
        }
        let slope = grey(32, 32, (0..1024).map(|i| (i % 32) as f32 / 31.0));
        let small = resize(&slope, 8, 8, SOFT).data;
        let mean = small.iter().sum::<f32>() / small.len() as f32;
        assert!((mean - 0.5).abs() < 1e-4, "{mean}");
    }

    #[test]
    fn known_values_of_a_step() {
        // torch.nn.functional.interpolate(mode="bicubic", antialias=True), 16 to 4 samples.
        let step = grey(16, 4, (0..64).map(|i| if i % 16 < 6 { 0.0 } else { 1.0 }));
        let small = resize(&step, 4, 1, SOFT);
        let expected = [-0.0466, 0.4937, 1.0424, 1.0];
        for (found, expected) in small.data.as_chunks::<3>().0.iter().zip(expected) {
            assert!((found[0] - expected).abs() < 1e-4, "{found:?} {expected}");
        }
    }
}
