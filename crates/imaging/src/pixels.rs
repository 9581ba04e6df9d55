//! Pixels in memory: 8 bit RGB, and their form for the engine.

/// An upright picture, 8 bit RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `width * height * 3` bytes, row by row, red green blue. Gray is repeated in all three.
    pub rgb: Vec<u8>,
}

impl Pixels {
    /// Repeats each of the `width * height` gray `samples` in three channels.
    #[must_use]
    pub fn gray(width: u32, height: u32, samples: &[u8]) -> Self {
        let mut rgb = Vec::with_capacity(samples.len() * 3);
        for &sample in samples {
            rgb.extend_from_slice(&[sample; 3]);
        }
        Self { width, height, rgb }
    }

    /// The samples divided by 255, for the engine: `width * height * 3` values in `[0, 1]`.
    #[must_use]
    pub fn to_unit(&self) -> Vec<f32> {
        self.rgb
            .iter()
            .map(|&sample| f32::from(sample) / 255.0)
            .collect()
    }

    /// Makes pixels from `width * height * 3` values: clamped to `[0, 1]`, times 255, rounded half
    /// to even; not-a-number becomes 0. The length is checked by [`encode`](crate::encode()).
    #[must_use]
    pub fn from_unit(width: u32, height: u32, unit: &[f32]) -> Self {
        Self {
            width,
            height,
            rgb: unit.iter().map(|&value| to_sample(value)).collect(),
        }
    }

    /// One gray sample a pixel: Rec. 601 luma, rounded; the sample itself where all three agree.
    #[must_use]
    pub fn luma(&self) -> Vec<u8> {
        self.rgb
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&rgb| luma_of(rgb))
            .collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is an integer in 0..=255 or NaN, which `as` makes 0"
)]
fn to_sample(unit: f32) -> u8 {
    (unit.clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

pub(crate) fn luma_of([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    u8::try_from((sum + 500) / 1000).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_survives_the_way_to_the_engine_and_back() {
        let samples: Vec<u8> = (0..=255).collect();
        let pixels = Pixels::gray(256, 1, &samples);
        assert_eq!(Pixels::from_unit(256, 1, &pixels.to_unit()), pixels);
        assert_eq!(pixels.luma(), samples);
    }

    #[test]
    fn values_outside_the_range_are_clamped_and_halves_go_to_even() {
        let unit = [-1.0, 2.0, f32::NAN, 0.5 / 255.0, 1.5 / 255.0, f32::INFINITY];
        assert_eq!(Pixels::from_unit(2, 1, &unit).rgb, [0, 255, 0, 0, 2, 255]);
    }
}
