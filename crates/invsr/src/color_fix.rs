//! Colour fixes: they give the result the colours of the input, enlarged.
//!
//! The reference is always the image as it was given, never its padded form.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::image::RgbImage;
use crate::resample::Reference;

/// How the result's colours are brought back to the input's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorFix {
    /// Not at all.
    None,
    /// The input's low frequencies replace the result's.
    #[default]
    Wavelet,
    /// Each channel gets the input's mean and deviation.
    AdaIn,
    /// The input's chroma replaces the result's.
    YCbCr,
}

impl ColorFix {
    /// Whether rows can be fixed as they come. [`ColorFix::AdaIn`] cannot: it needs the mean and
    /// deviation of the whole result first, so the engine holds all of it (12 bytes a pixel) and
    /// hands nothing over before the last tile is done. A resumed run computes every tile again.
    #[must_use]
    pub fn streams(self) -> bool {
        self != Self::AdaIn
    }
}

impl fmt::Display for ColorFix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Wavelet => "wavelet",
            Self::AdaIn => "adain",
            Self::YCbCr => "ycbcr",
        })
    }
}

impl FromStr for ColorFix {
    type Err = ParseColorFixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Wavelet, Self::AdaIn, Self::YCbCr]
            .into_iter()
            .find(|fix| fix.to_string() == text)
            .ok_or_else(|| ParseColorFixError(text.to_owned()))
    }
}

/// A colour fix that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("colour fix {0:?} is unknown: use none, wavelet, adain or ycbcr")]
pub struct ParseColorFixError(String);

/// Fixes `image`, four times as large each way as `input`, and clamps it to `[0, 1]`.
pub(crate) fn apply(fix: ColorFix, image: &mut RgbImage, input: &RgbImage) {
    let reference = Reference::new(input);
    match fix {
        ColorFix::None => {}
        ColorFix::Wavelet => (0..3).for_each(|channel| wavelet(image, &reference, channel)),
        ColorFix::AdaIn => adain(image, &reference),
        ColorFix::YCbCr => ycbcr(image, &reference),
    }
    image
        .data
        .par_iter_mut()
        .for_each(|value| *value = value.clamp(0.0, 1.0));
}

/// Levels of blurring that separate low from high frequencies.
const LEVELS: u32 = 5;

/// Adds the blurred difference between reference and image: blurring is linear, so this equals
/// taking out the image's low frequencies and putting in the reference's.
fn wavelet(image: &mut RgbImage, reference: &Reference<'_>, channel: usize) {
    let width = image.width as usize;
    let mut plane = vec![0.0; image.data.len() / 3];
    let rows = plane
        .par_chunks_mut(width)
        .zip(image.data.par_chunks(3 * width))
        .enumerate();
    rows.for_each(|(y, (difference, row))| {
        reference.channel_row(y, channel, |x, value| {
            difference[x] = value - row[3 * x + channel];
        });
    });
    let mut blurred = vec![0.0; plane.len()];
    for level in 0..LEVELS {
        blur(&mut plane, &mut blurred, width, 1 << level);
    }
    let rows = image
        .data
        .par_chunks_mut(3 * width)
        .zip(plane.par_chunks(width));
    rows.for_each(|(row, low)| {
        for (value, low) in row.iter_mut().skip(channel).step_by(3).zip(low) {
            *value += low;
        }
    });
}

/// Blurs a plane in place with `[1 2 1] / 4` each way, the taps `reach` pixels apart, borders
/// repeated.
fn blur(plane: &mut [f32], scratch: &mut [f32], width: usize, reach: usize) {
    let last = width - 1;
    scratch
        .par_chunks_mut(width)
        .zip(plane.par_chunks(width))
        .for_each(|(out, row)| {
            for (x, out) in out.iter_mut().enumerate() {
                let (left, right) = (row[x.saturating_sub(reach)], row[(x + reach).min(last)]);
                *out = 0.25 * (left + right) + 0.5 * row[x];
            }
        });
    let bottom = plane.len() / width - 1;
    let row = |y: usize| &scratch[y * width..(y + 1) * width];
    plane
        .par_chunks_mut(width)
        .enumerate()
        .for_each(|(y, out)| {
            let (above, below) = (row(y.saturating_sub(reach)), row((y + reach).min(bottom)));
            for (((out, above), below), here) in out.iter_mut().zip(above).zip(below).zip(row(y)) {
                *out = 0.25 * (above + below) + 0.5 * here;
            }
        });
}

/// Gives each channel the mean and deviation of the reference's.
fn adain(image: &mut RgbImage, reference: &Reference<'_>) {
    let width = image.width as usize;
    let of_image = image.data.par_chunks(3 * width).map(|row| {
        let mut sums = Sums::default();
        row.as_chunks().0.iter().for_each(|pixel| sums.add(pixel));
        sums
    });
    let of_reference = (0..image.height as usize).into_par_iter().map(|y| {
        let mut sums = Sums::default();
        reference.row(y, |_, pixel| sums.add(&pixel));
        sums
    });
    // Rows are summed in order: a parallel sum would depend on how the rows were shared out.
    let image_sums: Vec<Sums> = of_image.collect();
    let reference_sums: Vec<Sums> = of_reference.collect();
    let (image_sums, reference_sums) = (Sums::total(&image_sums), Sums::total(&reference_sums));
    for channel in 0..3 {
        let (mean, deviation) = image_sums.mean_and_deviation(channel);
        let (target_mean, target_deviation) = reference_sums.mean_and_deviation(channel);
        let scale = target_deviation / deviation;
        let values = image.data.par_chunks_mut(3);
        values.for_each(|rgb| rgb[channel] = (rgb[channel] - mean) * scale + target_mean);
    }
}

#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    values: [f64; 3],
    squares: [f64; 3],
}

impl Sums {
    fn add(&mut self, pixel: &[f32; 3]) {
        self.count += 1.0;
        for (channel, value) in pixel.iter().enumerate() {
            self.values[channel] += f64::from(*value);
            self.squares[channel] += f64::from(*value).powi(2);
        }
    }

    fn total(rows: &[Self]) -> Self {
        let mut total = Self::default();
        for row in rows {
            total.count += row.count;
            for channel in 0..3 {
                total.values[channel] += row.values[channel];
                total.squares[channel] += row.squares[channel];
            }
        }
        total
    }

    #[expect(clippy::cast_possible_truncation, reason = "pixels are f32")]
    fn mean_and_deviation(&self, channel: usize) -> (f32, f32) {
        const EPS: f64 = 1e-5;
        let mean = self.values[channel] / self.count;
        let spread = self.squares[channel] - self.count * mean * mean;
        let variance = (spread / (self.count - 1.0)).max(0.0);
        (mean as f32, (variance + EPS).sqrt() as f32)
    }
}

/// Takes luma from the image and chroma from the reference, both clamped, in the studio swing of
/// BT.601.
fn ycbcr(image: &mut RgbImage, reference: &Reference<'_>) {
    let width = image.width as usize;
    image
        .data
        .par_chunks_mut(3 * width)
        .enumerate()
        .for_each(|(y, row)| {
            reference.row(y, |x, pixel| {
                let rgb = &mut row[3 * x..3 * x + 3];
                let [luma, _, _] = to_ycbcr([rgb[0], rgb[1], rgb[2]]);
                let [_, blue, red] = to_ycbcr(pixel);
                rgb.copy_from_slice(&to_rgb([luma, blue, red]));
            });
        });
}

/// RGB in `[0, 1]` to Y, Cb, Cr, 0 to 255 where 1 would be white, clamped.
fn to_ycbcr([r, g, b]: [f32; 3]) -> [f32; 3] {
    [
        65.481 * r + 128.553 * g + 24.966 * b + 16.0,
        -37.797 * r - 74.203 * g + 112.0 * b + 128.0,
        112.0 * r - 93.786 * g - 18.214 * b + 128.0,
    ]
    .map(|value| value.clamp(0.0, 255.0))
}

/// Back to RGB in `[0, 1]`, clamped. The coefficients are the rounded ones of the reference.
fn to_rgb([y, cb, cr]: [f32; 3]) -> [f32; 3] {
    let luma = 0.004_566_21 * 255.0 * y;
    [
        luma + 0.006_258_93 * 255.0 * cr - 222.921,
        luma - 0.001_536_32 * 255.0 * cb - 0.003_188_11 * 255.0 * cr + 135.576,
        luma + 0.007_910_71 * 255.0 * cb - 276.836,
    ]
    .map(|value| (value / 255.0).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An input and a result that is its nearest enlargement plus a tint and a fine pattern.
    fn tinted() -> (RgbImage, RgbImage) {
        let (width, height) = (6, 5);
        let input: Vec<f32> = (0u8..90).map(|i| f32::from(i % 37) / 74.0 + 0.2).collect();
        let input = RgbImage::new(width, height, input).unwrap();
        let mut data = Vec::new();
        for y in 0..4 * height as usize {
            for x in 0..4 * width as usize {
                let sign = if (x + y) % 2 == 0 { 0.02 } else { -0.02 };
                let pixel = &input.row(y / 4)[3 * (x / 4)..][..3];
                data.extend([
                    pixel[0] + 0.1 + sign,
                    pixel[1] + sign,
                    pixel[2] - 0.1 + sign,
                ]);
            }
        }
        (input, RgbImage::new(4 * width, 4 * height, data).unwrap())
    }

    fn channel_means(image: &RgbImage) -> [f32; 3] {
        let count = (image.data.len() / 3) as f32;
        [0, 1, 2].map(|c| image.data.iter().skip(c).step_by(3).sum::<f32>() / count)
    }

    #[test]
    fn every_fix_removes_a_tint_and_none_keeps_it() {
        let (input, result) = tinted();
        let wanted = channel_means(&input);
        for (fix, tolerance) in [
            (ColorFix::Wavelet, 0.02),
            (ColorFix::AdaIn, 0.01),
            (ColorFix::YCbCr, 0.04),
        ] {
            let mut fixed = result.clone();
            apply(fix, &mut fixed, &input);
            for (found, wanted) in channel_means(&fixed).into_iter().zip(wanted) {
                assert!(
                    (found - wanted).abs() < tolerance,
                    "{fix}: {found} for {wanted}"
                );
            }
        }
        let mut untouched = result.clone();
        apply(ColorFix::None, &mut untouched, &input);
        assert_eq!(untouched, result);
    }

    #[test]
    fn names_are_read_back_as_they_are_shown() {
        for fix in [
            ColorFix::None,
            ColorFix::Wavelet,
            ColorFix::AdaIn,
            ColorFix::YCbCr,
        ] {
            assert_eq!(fix.to_string().parse(), Ok(fix));
        }
        assert!("lab".parse::<ColorFix>().is_err());
    }
}
