//! What an interrupted run leaves to the next, so that no tile is computed twice: the sums of tiles
//! whose rows are not final, and the rows that are still on their way through the colour fix.
//!
//! Its bytes are numbers of eight bytes and values of four, little-endian, in a fixed order. Stretches
//! of zeros, which is most of a row of tiles that has just begun, take no room.

use crate::color_fix::Fixer;
use crate::tiling::Tiling;
use crate::upscale::Options;

/// Changes whenever the bytes, or what they mean, do.
const VERSION: u64 = 1;

/// Zeros in a row that are worth leaving out.
const GAP: usize = 16;

/// A run that was [suspended](crate::UpscaleError::Suspended), for a [`Start`](crate::Start) of the
/// same image with the same options and model; only the tile batch may differ.
///
/// With tiles of 128 px and the wavelet fix it takes up to 35 kB for each pixel of the input's width.
#[derive(Debug, Clone, PartialEq)]
pub struct HandOver {
    pub(crate) belongs_to: BelongsTo,
    /// The tile that comes next.
    pub(crate) next_tile: usize,
    /// The row of the result to be blended next.
    pub(crate) next_row: usize,
    /// The row that comes next out of the colour fix.
    pub(crate) next_fixed: usize,
    /// The first row that the sink wants.
    pub(crate) wanted: usize,
    /// The blender's ring.
    pub(crate) sums: Vec<f32>,
    pub(crate) fixer: Fixer,
    /// Tiles that the suspended run had computed.
    pub(crate) computed: usize,
}

/// What must be the same for a run to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BelongsTo([u64; 5]);

impl BelongsTo {
    pub(crate) fn new(tiling: &Tiling, options: &Options) -> Self {
        Self([
            tiling.columns.length as u64,
            tiling.rows.length as u64,
            tiling.tile as u64,
            tiling.overlap as u64,
            options.color_fix as u64,
        ])
    }
}

impl HandOver {
    /// The first row of the result that the run that goes on will give.
    #[must_use]
    pub fn next_row(&self) -> u32 {
        u32::try_from(self.next_fixed.max(self.wanted)).unwrap_or(u32::MAX)
    }

    /// The tile that the run that goes on will begin with, in raster order.
    #[must_use]
    pub fn next_tile(&self) -> usize {
        self.next_tile
    }

    /// Tiles that the suspended run had computed itself.
    #[must_use]
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// As bytes, for another process.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out(Vec::new());
        out.number(VERSION);
        for number in self.belongs_to.0 {
            out.number(number);
        }
        let places = [self.next_tile, self.next_row, self.next_fixed, self.wanted];
        for count in places {
            out.count(count);
        }
        out.values(&self.sums);
        self.fixer.save(&mut out);
        out.0
    }

    /// From [`to_bytes`](Self::to_bytes). `None` for bytes of another version, or of something else. That
    /// a bit of them has changed is for a digest to find.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bytes = In(bytes);
        if bytes.number()? != VERSION {
            return None;
        }
        let mut belongs_to = [0; 5];
        for number in &mut belongs_to {
            *number = bytes.number()?;
        }
        let found = Self {
            belongs_to: BelongsTo(belongs_to),
            next_tile: bytes.count()?,
            next_row: bytes.count()?,
            next_fixed: bytes.count()?,
            wanted: bytes.count()?,
            sums: bytes.values()?,
            fixer: Fixer::load(&mut bytes)?,
            computed: 0,
        };
        bytes.0.is_empty().then_some(found)
    }
}

/// Bytes being written.
pub(crate) struct Out(Vec<u8>);

impl Out {
    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// Their number, then in turn: how many zeros, how many others, and these.
    pub(crate) fn values(&mut self, values: &[f32]) {
        self.count(values.len());
        let mut rest = values;
        while !rest.is_empty() {
            let zeros = rest.iter().take_while(|value| is_zero(**value)).count();
            rest = &rest[zeros..];
            let others = until_a_gap(rest);
            self.count(zeros);
            self.count(others);
            self.0
                .extend(rest[..others].iter().flat_map(|value| value.to_le_bytes()));
            rest = &rest[others..];
        }
    }
}

/// Not minus zero, whose bits are to come back too.
fn is_zero(value: f32) -> bool {
    value.to_bits() == 0
}

/// How many values there are before the next long stretch of zeros.
fn until_a_gap(values: &[f32]) -> usize {
    let mut zeros = 0;
    for (i, value) in values.iter().enumerate() {
        zeros = if is_zero(*value) { zeros + 1 } else { 0 };
        if zeros == GAP {
            return i + 1 - GAP;
        }
    }
    values.len()
}

/// Bytes being read.
pub(crate) struct In<'a>(&'a [u8]);

impl In<'_> {
    pub(crate) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(crate) fn values(&mut self) -> Option<Vec<f32>> {
        let count = self.count()?;
        let mut values = Vec::new();
        while values.len() < count {
            let (zeros, others) = (self.count()?, self.count()?);
            let length = values.len().checked_add(zeros)?.checked_add(others)?;
            let bytes = others
                .checked_mul(4)
                .filter(|bytes| *bytes <= self.0.len())?;
            if length > count || zeros + others == 0 {
                return None;
            }
            values.try_reserve(zeros + others).ok()?;
            values.resize(values.len() + zeros, 0.0);
            let (stretch, rest) = self.0.split_at(bytes);
            let stretch = stretch.as_chunks().0.iter();
            values.extend(stretch.map(|value| f32::from_le_bytes(*value)));
            self.0 = rest;
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::color_fix::{ColorFix, Size};

    const SIZE: Size = Size {
        stride: 30,
        height: 160,
    };

    /// A fix that has seen some rows of a result of [`SIZE`].
    fn begun(fix: ColorFix) -> Fixer {
        let mut fixer = Fixer::new(fix, SIZE, 0);
        let mut rows = vec![0.5; 40 * SIZE.stride];
        let reference = vec![0.25; rows.len()];
        fixer.push(&mut rows, &reference, &mut |_| Ok(())).unwrap();
        fixer
    }

    fn written(fixer: &Fixer) -> Vec<u8> {
        let mut out = Out(Vec::new());
        fixer.save(&mut out);
        out.0
    }

    proptest! {
        #[test]
        fn values_come_back_bit_by_bit(stretches in prop::collection::vec((0usize..40, 0usize..9, any::<f32>()), 0..9)) {
            let mut values = Vec::new();
            for (zeros, others, value) in stretches {
                values.extend(std::iter::repeat_n(0.0, zeros));
                values.extend(std::iter::repeat_n(value, others));
            }
            let mut out = Out(Vec::new());
            out.values(&values);
            let found = In(&out.0).values().unwrap();
            prop_assert!(found.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())));
        }

        #[test]
        fn bytes_of_something_else_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(HandOver::from_bytes(&bytes), None);
            let with_version: Vec<u8> = VERSION.to_le_bytes().into_iter().chain(bytes).collect();
            prop_assert_eq!(HandOver::from_bytes(&with_version), None);
        }
    }

    #[test]
    fn a_fixer_comes_back_and_fits_its_own_size_alone() {
        for fix in [ColorFix::None, ColorFix::YCbCr, ColorFix::Wavelet] {
            let fixer = begun(fix);
            let back = Fixer::load(&mut In(&written(&fixer))).unwrap();
            assert_eq!(back, fixer, "{fix}");
            assert!(back.fits(SIZE), "{fix}");
            let narrower = Size { stride: 27, ..SIZE };
            assert!(!back.fits(narrower), "{fix}");
            // Only the blurs know where a result ends.
            let lower = Size {
                height: 156,
                ..SIZE
            };
            assert_eq!(back.fits(lower), fix != ColorFix::Wavelet, "{fix}");
        }
    }

    /// Rows that are no whole rows, or more of them than a blur holds back, would be read out of bounds.
    #[test]
    fn a_fixer_that_none_could_have_written_is_refused() {
        const STRIDE_OF_THE_BLURS: usize = 2;
        const UNFIXED: usize = 4;
        let bytes = written(&begun(ColorFix::Wavelet));
        let with = |place: usize, number: u64| {
            let mut bytes = bytes.clone();
            bytes[8 * place..][..8].copy_from_slice(&number.to_le_bytes());
            Fixer::load(&mut In(&bytes))
        };
        assert!(with(STRIDE_OF_THE_BLURS, SIZE.stride as u64).is_some());
        assert_eq!(with(STRIDE_OF_THE_BLURS, 31), None);
        assert_eq!(with(STRIDE_OF_THE_BLURS, 0), None);
        assert!(with(UNFIXED, 31).is_some());
        assert_eq!(with(UNFIXED, 32), None);
    }

    #[test]
    fn zeros_take_no_room() {
        let mut out = Out(Vec::new());
        out.values(&vec![0.0; 1 << 20]);
        assert_eq!(out.0.len(), 24);
    }
}
