//! From a sharp picture to the small ones that the model is shown.

use std::f32::consts::TAU;

use imaging::{EncodeOptions, Format, Limits, Pixels};
use invsr::RgbImage;
use serde::Serialize;

use super::metrics::gaussian;
use super::resize::{SHARP, SOFT, resize};

/// How many times the model enlarges, in each direction.
pub const SCALE: u32 = 4;
/// Of the degraded input, before it is reduced: the deviation of the blur, in pixels.
const BLUR_SIGMA: f64 = 1.0;
/// How far the blur reaches, in pixels.
const BLUR_RADIUS: usize = 3;
/// Of the degraded input: the deviation of the noise, in levels of 255.
const NOISE_LEVELS: f32 = 5.0;
/// Of the degraded input.
const JPEG_QUALITY: u8 = 60;

/// How the small picture is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Reduced, and rounded to 8 bit.
    Clean,
    /// Blurred, reduced, given noise, stored as JPEG.
    Degraded,
}

impl Input {
    /// Both, in the order of the tables.
    pub const ALL: [Self; 2] = [Self::Clean, Self::Degraded];

    /// The word for it in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Degraded => "degraded",
        }
    }

    /// The small picture; the same every time. Both sides of `truth` are multiples of [`SCALE`].
    ///
    /// # Errors
    /// The JPEG codec's.
    pub fn make(self, truth: &Pixels) -> anyhow::Result<Pixels> {
        let truth = unit(truth);
        if self == Self::Clean {
            return Ok(pixels(&reduce(&truth)));
        }
        let mut small = reduce(&blur(&truth, BLUR_SIGMA));
        let mut noise = Noise(0);
        for value in &mut small.data {
            *value += NOISE_LEVELS / 255.0 * noise.next();
        }
        let options = EncodeOptions {
            jpeg_quality: JPEG_QUALITY,
            ..EncodeOptions::new(Format::Jpeg)
        };
        let file = imaging::encode(&pixels(&small), &options)?;
        Ok(imaging::decode(&file, &Limits::default())?.pixels)
    }
}

/// A quarter of the size in each direction.
pub fn reduce(image: &RgbImage) -> RgbImage {
    let side = |length: u32| (length / SCALE) as usize;
    resize(image, side(image.width), side(image.height), SOFT)
}

/// Four times the size in each direction: what the model is compared with.
pub fn enlarge(image: &RgbImage) -> RgbImage {
    let side = |length: u32| (length * SCALE) as usize;
    resize(image, side(image.width), side(image.height), SHARP)
}

/// 8 bit to values in `[0, 1]`.
pub fn unit(pixels: &Pixels) -> RgbImage {
    RgbImage {
        width: pixels.width,
        height: pixels.height,
        data: pixels.to_unit(),
    }
}

/// Clamped and rounded to 8 bit.
pub fn pixels(image: &RgbImage) -> Pixels {
    Pixels::from_unit(image.width, image.height, &image.data)
}

/// A Gaussian blur; the border's pixels are repeated outwards.
fn blur(image: &RgbImage, sigma: f64) -> RgbImage {
    let weights = gaussian(2 * BLUR_RADIUS + 1, sigma);

    let (width, height) = (image.width as usize, image.height as usize);
    let across = Blur {
        weights: &weights,
        lines: height,
        length: width,
        line_stride: 3 * width,
        stride: 3,
    };
    let down = Blur {
        weights: &weights,
        lines: width,
        length: height,
        line_stride: 3,
        stride: 3 * width,
    };
    RgbImage {
        data: down.apply(&across.apply(&image.data)),
        ..*image
    }
}

/// One direction of a blur over interleaved pixels.
struct Blur<'a> {
    weights: &'a [f64],
    lines: usize,
    length: usize,
    /// From a line's first sample to the next line's.
    line_stride: usize,
    /// From a sample to its neighbour on the line.
    stride: usize,
}

impl Blur<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "pixels are f32")]
    fn apply(&self, data: &[f32]) -> Vec<f32> {
        let reach = self.weights.len() / 2;
        let mut out = vec![0.0; data.len()];
        for line in 0..self.lines {
            for at in 0..self.length {
                let to = line * self.line_stride + at * self.stride;
                let mut sums = [0.0; 3];
                for (tap, weight) in self.weights.iter().enumerate() {
                    let source = (at + tap).saturating_sub(reach).min(self.length - 1);
                    let from = line * self.line_stride + source * self.stride;
                    for (sum, value) in sums.iter_mut().zip(&data[from..from + 3]) {
                        *sum += weight * f64::from(*value);
                    }
                }
                for (out, sum) in out[to..to + 3].iter_mut().zip(sums) {
                    *out = sum as f32;
                }
            }
        }
        out
    }
}

/// Standard normal numbers, always the same: splitmix64 through Box and Muller.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
    }

    /// In `(0, 1]`.
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 + f32::EPSILON / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_standard_normal_and_the_same_every_time() {
        let draw = |count| {
            let mut noise = Noise(0);
            (0..count).map(|_| noise.next()).collect::<Vec<_>>()
        };
        let values = draw(100_000);
        assert_eq!(values[..100], draw(100));
        let mean = values.iter().sum::<f32>() / 1e5;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1e5;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
        assert!(values.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn a_blur_keeps_the_level_and_spreads_a_point() {
        let mut point = RgbImage::new(9, 9, vec![0.0; 243]).unwrap();
        point.data[3 * (4 * 9 + 4)] = 1.0;
        let blurred = blur(&point, 1.0);
        let red = |x: usize, y: usize| blurred.data[3 * (9 * y + x)];
        // A normalised kernel of seven taps with deviation 1: 0.3991 in the middle.
        assert!((red(4, 4) - 0.3991 * 0.3991).abs() < 1e-3, "{}", red(4, 4));
        assert!((red(3, 4) - red(4, 5)).abs() < 1e-7);
        let sum: f32 = blurred.data.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }

    #[test]
    fn both_inputs_are_a_quarter_and_only_one_is_damaged() {
        let truth = Pixels::gray(64, 48, &[100; 64 * 48]);
        let clean = Input::Clean.make(&truth).unwrap();
        assert_eq!((clean.width, clean.height), (16, 12));
        assert!(clean.rgb.iter().all(|&sample| sample == 100));
        let degraded = Input::Degraded.make(&truth).unwrap();
        assert_eq!((degraded.width, degraded.height), (16, 12));
        assert_ne!(degraded, clean);
        assert_eq!(degraded, Input::Degraded.make(&truth).unwrap());
    }
}
