//! What a pixel is made of: colour channels, transparency, bits.

use serde::{Deserialize, Serialize};

/// Bits in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// 0 to 255; also what files with 1, 2 or 4 bits become.
    Eight,
    /// 0 to 65,535; two bytes in the machine's order.
    Sixteen,
}

impl Depth {
    /// Bits in a sample: 8 or 16.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        usize::from(self.bits()) / 8
    }
}

/// The samples of a pixel: gray, or red green blue; then alpha, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub gray: bool,
    /// 0 is transparent; colours are not multiplied by it.
    pub alpha: bool,
    pub depth: Depth,
}

impl Layout {
    pub(crate) const GRAY8: Self = Self {
        gray: true,
        alpha: false,
        depth: Depth::Eight,
    };
    pub(crate) const RGB8: Self = Self {
        gray: false,
        ..Self::GRAY8
    };

    /// Channels without alpha: 1 or 3.
    pub(crate) fn colours(self) -> usize {
        if self.gray { 1 } else { 3 }
    }

    /// All channels.
    pub(crate) fn channels(self) -> usize {
        self.colours() + usize::from(self.alpha)
    }

    pub(crate) fn pixel_bytes(self) -> usize {
        self.channels() * self.depth.bytes()
    }

    /// Bytes in a row of `width` pixels.
    pub(crate) fn row_bytes(self, width: u32) -> usize {
        usize::try_from(width)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.pixel_bytes())
    }
}

/// The sample at `index` of a row, in `[0, 1]`.
pub(crate) fn unit_at(row: &[u8], depth: Depth, index: usize) -> f32 {
    match depth {
        Depth::Eight => f32::from(row[index]) / 255.0,
        Depth::Sixteen => {
            f32::from(u16::from_ne_bytes([row[2 * index], row[2 * index + 1]])) / 65_535.0
        }
    }
}

/// Appends `unit`, clamped to `[0, 1]`, as a sample, rounded half to even; not-a-number becomes 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is an integer in range or NaN, which `as` makes 0"
)]
pub(crate) fn push_unit(unit: f32, depth: Depth, row: &mut Vec<u8>) {
    let unit = unit.clamp(0.0, 1.0);
    match depth {
        Depth::Eight => row.push((unit * 255.0).round_ties_even() as u8),
        Depth::Sixteen => {
            let sample = (unit * 65_535.0).round_ties_even() as u16;
            row.extend(sample.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_survives_the_way_to_the_engine_and_back() {
        for sample in 0..=u16::MAX {
            let bytes = sample.to_ne_bytes();
            let mut again = Vec::new();
            push_unit(
                unit_at(&bytes, Depth::Sixteen, 0),
                Depth::Sixteen,
                &mut again,
            );
            assert_eq!(again, bytes, "{sample}");
        }
    }
}
