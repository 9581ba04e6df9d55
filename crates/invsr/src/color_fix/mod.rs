//! Colour fixes: they give the result the colours of the input, enlarged.
//!
//! The reference is always the image as it was given, never its padded form. Rows go in from the
//! top and come out fixed, some of them later than they went in.

mod adain;
mod wavelet;
#[cfg(test)]
mod whole;
mod ycbcr;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UpscaleError;
use crate::hand_over::{In, Out};
use adain::AdaIn;
use wavelet::Wavelet;

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

    /// Rows of the result that [`ColorFix::Wavelet`] holds when so many are pushed at once.
    pub(crate) fn wavelet_rows(pushed: usize) -> usize {
        wavelet::rows_held(pushed)
    }

    /// The first row of the result that must be known for `first_row` to be fixed.
    pub(crate) fn first_row_needed(self, first_row: usize) -> usize {
        match self {
            Self::None | Self::YCbCr => first_row,
            Self::Wavelet => first_row.saturating_sub(wavelet::CONTEXT),
            Self::AdaIn => 0,
        }
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

/// The result's, in values and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Values a row: three times its pixels.
    pub stride: usize,
    /// Rows.
    pub height: usize,
}

/// Takes rows that are fixed.
pub(crate) type Give<'a> = dyn FnMut(&[f32]) -> Result<(), UpscaleError> + 'a;

/// Fixes rows as they come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fixer {
    stride: usize,
    held: Held,
}

/// What a fix must remember.
#[derive(Debug, Clone, PartialEq)]
enum Held {
    Nothing,
    Chroma,
    Frequencies(Wavelet),
    Everything(AdaIn),
}

impl Fixer {
    /// - `first_row`: the first row to come out; the first to go in is
    ///   [`ColorFix::first_row_needed`] for it. Rows may come out from there on already.
    pub(crate) fn new(fix: ColorFix, size: Size, first_row: usize) -> Self {
        let held = match fix {
            ColorFix::None => Held::Nothing,
            ColorFix::YCbCr => Held::Chroma,
            ColorFix::AdaIn => Held::Everything(AdaIn::new(size)),
            ColorFix::Wavelet => {
                Held::Frequencies(Wavelet::new(size, fix.first_row_needed(first_row)))
            }
        };
        Self {
            stride: size.stride,
            held,
        }
    }

    /// Takes the next rows, gives out what is fixed, clamped to `[0, 1]` unless it is left alone.
    ///
    /// - `rows`: whole rows; may be overwritten.
    /// - `reference`: the same rows of the input, enlarged.
    pub(crate) fn push(
        &mut self,
        rows: &mut [f32],
        reference: &[f32],
        give: &mut Give<'_>,
    ) -> Result<(), UpscaleError> {
        match &mut self.held {
            Held::Nothing => give(rows),
            Held::Chroma => {
                ycbcr::fix(rows, reference, self.stride);
                give(rows)
            }
            Held::Frequencies(wavelet) => wavelet.push(rows, reference, give),
            Held::Everything(adain) => adain.push(rows, reference, give),
        }
    }

    /// Writes what has to be remembered. AdaIN is never suspended: see [`ColorFix::streams`].
    pub(crate) fn save(&self, out: &mut Out) {
        out.count(self.stride);
        match &self.held {
            Held::Nothing => out.number(0),
            Held::Chroma => out.number(1),
            Held::Frequencies(wavelet) => {
                out.number(2);
                wavelet.save(out);
            }
            Held::Everything(_) => out.number(3),
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(crate) fn load(bytes: &mut In<'_>) -> Option<Self> {
        let stride = bytes.count()?;
        let held = match bytes.number()? {
            0 => Held::Nothing,
            1 => Held::Chroma,
            2 => Held::Frequencies(Wavelet::load(bytes)?),
            _ => return None,
        };
        Some(Self { stride, held })
    }

    /// Whether it is for results of this size.
    pub(crate) fn fits(&self, size: Size) -> bool {
        let held = match &self.held {
            Held::Frequencies(wavelet) => wavelet.fits(size),
            Held::Nothing | Held::Chroma | Held::Everything(_) => true,
        };
        held && self.stride == size.stride
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::image::RgbImage;
    use crate::resample::Reference;

    const ALL: [ColorFix; 4] = [
        ColorFix::None,
        ColorFix::Wavelet,
        ColorFix::AdaIn,
        ColorFix::YCbCr,
    ];

    /// An input and a result that is its nearest enlargement plus a tint and a fine pattern.
    fn tinted(width: u32, height: u32) -> (RgbImage, RgbImage) {
        let values = (0..width * height * 3).map(|i| (i * 7 % 37) as f32 / 74.0 + 0.2);
        let input = RgbImage::new(width, height, values.collect()).unwrap();
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

    /// Rows from `first_row` on, pushed `band` rows at a time.
    fn fixed(
        fix: ColorFix,
        image: &RgbImage,
        input: &RgbImage,
        first_row: usize,
        band: usize,
    ) -> Vec<f32> {
        let size = Size {
            stride: 3 * image.width as usize,
            height: image.height as usize,
        };
        let reference = Reference::new(input.width as usize, input.height as usize);
        let mut fixer = Fixer::new(fix, size, first_row);
        let mut out = Vec::new();
        let begin = fix.first_row_needed(first_row);
        for y in (begin..size.height).step_by(band) {
            let rows = y..(y + band).min(size.height);
            let mut large = vec![0.0; rows.len() * size.stride];
            for (y, line) in rows.clone().zip(large.chunks_exact_mut(size.stride)) {
                reference.row(y, |y| input.row(y), line);
            }
            let mut own = image.data[rows.start * size.stride..rows.end * size.stride].to_vec();
            let mut give = |rows: &[f32]| {
                out.extend_from_slice(rows);
                Ok(())
            };
            fixer.push(&mut own, &large, &mut give).unwrap();
        }
        out.split_off(out.len() - (size.height - first_row) * size.stride)
    }

    fn channel_means(data: &[f32]) -> [f32; 3] {
        let count = (data.len() / 3) as f32;
        [0, 1, 2].map(|c| data.iter().skip(c).step_by(3).sum::<f32>() / count)
    }

    #[test]
    fn every_fix_removes_a_tint_and_none_keeps_it() {
        let (input, result) = tinted(6, 5);
        let wanted = channel_means(&input.data);
        for (fix, tolerance) in [
            (ColorFix::Wavelet, 0.02),
            (ColorFix::AdaIn, 0.01),
            (ColorFix::YCbCr, 0.04),
        ] {
            let found = channel_means(&fixed(fix, &result, &input, 0, 3));
            for (found, wanted) in found.into_iter().zip(wanted) {
                assert!(
                    (found - wanted).abs() < tolerance,
                    "{fix}: {found} for {wanted}"
                );
            }
        }
        assert_eq!(fixed(ColorFix::None, &result, &input, 0, 3), result.data);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// In bands of any height and from any row on, the bits are those of the whole image.
        #[test]
        fn bands_show_in_no_bit(
            width in 1u32..24, height in 1u32..24, begin in any::<prop::sample::Index>(), band in 1usize..70,
        ) {
            let (input, result) = tinted(width, height);
            let first_row = begin.index(4 * height as usize);
            for fix in ALL {
                let mut wanted = result.clone();
                if fix == ColorFix::Wavelet {
                    whole::wavelet(&mut wanted, &input);
                } else {
                    wanted.data = fixed(fix, &result, &input, 0, 4 * height as usize);
                }
                let wanted = wanted.data[first_row * 12 * width as usize..].iter().map(|v| v.to_bits());
                let found = fixed(fix, &result, &input, first_row, band);
                prop_assert!(found.iter().map(|v| v.to_bits()).eq(wanted), "{} from row {}", fix, first_row);
            }
        }
    }

    #[test]
    fn names_are_read_back_as_they_are_shown() {
        for fix in ALL {
            assert_eq!(fix.to_string().parse(), Ok(fix));
        }
        assert!("lab".parse::<ColorFix>().is_err());
    }
}
