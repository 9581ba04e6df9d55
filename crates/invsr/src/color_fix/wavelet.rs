//! The input's low frequencies replace the result's: the blurred difference between the two is
//! added. Blurring is linear, so this equals taking out the one and putting in the other.
//!
//! Five blurs follow each other, each with taps further apart than the one before. Each holds just
//! the rows that its taps reach, so a row comes out [`CONTEXT`] rows after it went in.

use rayon::prelude::*;

use super::{Give, Size};
use crate::error::UpscaleError;
use crate::hand_over::{In, Out};

/// Levels of blurring that separate low from high frequencies.
pub(super) const LEVELS: u32 = 5;

/// Rows on each side of a row that show in it: the reaches of all levels together.
pub(super) const CONTEXT: usize = (1 << LEVELS) - 1;

/// Rows held when so many are pushed at once: those that wait, each blur's own, and two on their way.
pub(super) fn rows_held(pushed: usize) -> usize {
    let of_blurs: usize = (0..LEVELS).map(|level| (2 << level) + pushed).sum();
    CONTEXT + pushed + of_blurs + 2 * pushed
}

/// Rows on their way through the blurs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wavelet {
    stride: usize,
    /// The result's own rows that wait for their low frequencies.
    rows: Vec<f32>,
    /// So many of them, at first, only feed the blurs.
    unfixed: usize,
    levels: Vec<Level>,
}

impl Wavelet {
    /// - `first`: the row that is pushed first; unless it is the top one, the first row to come out
    ///   is [`CONTEXT`] rows further down.
    pub(super) fn new(size: Size, first: usize) -> Self {
        let mut next = first;
        let levels = (0..LEVELS).map(|level| {
            let level = Level::new(size, 1 << level, next);
            next = level.next;
            level
        });
        let levels = levels.collect();
        Self {
            stride: size.stride,
            rows: Vec::new(),
            unfixed: next - first,
            levels,
        }
    }

    /// Takes the next rows, gives out those that all taps have passed.
    pub(super) fn push(
        &mut self,
        rows: &[f32],
        reference: &[f32],
        give: &mut Give<'_>,
    ) -> Result<(), UpscaleError> {
        let stride = self.stride;
        self.rows.extend_from_slice(rows);
        let mut low = vec![0.0; rows.len()];
        let lines = low.par_chunks_mut(stride);
        let lines = lines.zip(reference.par_chunks(stride).zip(rows.par_chunks(stride)));
        lines.for_each(|(low, (reference, row))| {
            for ((low, reference), value) in low.iter_mut().zip(reference).zip(row) {
                *low = reference - value;
            }
        });
        for level in &mut self.levels {
            low = level.push(&low);
        }
        if low.is_empty() {
            return Ok(());
        }
        self.rows
            .drain(..stride * std::mem::take(&mut self.unfixed));
        let lines = low.par_chunks_mut(stride).zip(self.rows.par_chunks(stride));
        lines.for_each(|(low, row)| {
            for (low, value) in low.iter_mut().zip(row) {
                *low = (value + *low).clamp(0.0, 1.0);
            }
        });
        self.rows.drain(..low.len());
        give(&low)
    }

    pub(super) fn fits(&self, size: Size) -> bool {
        self.levels.iter().all(|level| level.size == size)
    }

    pub(super) fn save(&self, out: &mut Out) {
        let size = self.levels[0].size;
        for count in [size.stride, size.height, self.unfixed] {
            out.count(count);
        }
        out.values(&self.rows);
        for level in &self.levels {
            out.values(&level.held);
            out.count(level.first);
            out.count(level.next);
        }
    }

    /// Reads what [`save`](Self::save) wrote; `None` for what no [`Wavelet`] could have written.
    pub(super) fn load(bytes: &mut In<'_>) -> Option<Self> {
        let size = Size {
            stride: bytes.count()?,
            height: bytes.count()?,
        };
        let (unfixed, rows) = (bytes.count()?, bytes.values()?);
        let level = |level: u32| {
            Some(Level {
                size,
                reach: 1 << level,
                held: bytes.values()?,
                first: bytes.count()?,
                next: bytes.count()?,
            })
        };
        let levels: Vec<Level> = (0..LEVELS).map(level).collect::<Option<_>>()?;
        let whole = |values: &[f32]| size.stride > 0 && values.len().is_multiple_of(size.stride);
        let sound = whole(&rows)
            && unfixed <= CONTEXT
            && levels.iter().all(|level| {
                let lowest = size.height.saturating_add(CONTEXT);
                whole(&level.held) && level.first <= level.next && level.next <= lowest
            });
        sound.then_some(Self {
            stride: size.stride,
            rows,
            unfixed,
            levels,
        })
    }
}

/// One blur with `[1 2 1] / 4` each way, the taps `reach` pixels apart, borders repeated.
#[derive(Debug, Clone, PartialEq)]
struct Level {
    size: Size,
    reach: usize,
    /// Rows blurred sideways, from `first` on.
    held: Vec<f32>,
    first: usize,
    /// The row to come out next.
    next: usize,
}

impl Level {
    /// Above the first row nothing is known, unless it is the top one.
    fn new(size: Size, reach: usize, first: usize) -> Self {
        Self {
            size,
            reach,
            held: Vec::new(),
            first,
            next: if first == 0 { 0 } else { first + reach },
        }
    }

    fn push(&mut self, rows: &[f32]) -> Vec<f32> {
        let Size { stride, height } = self.size;
        let (reach, first, next) = (self.reach, self.first, self.next);
        let old = self.held.len();
        self.held.resize(old + rows.len(), 0.0);
        let lines = self.held[old..].par_chunks_mut(stride);
        let lines = lines.zip(rows.par_chunks(stride));
        lines.for_each(|(out, row)| blur_sideways(row, out, reach));

        let seen = first + self.held.len() / stride;
        let end = if seen == height {
            height
        } else {
            seen.saturating_sub(reach)
        };
        let mut blurred = vec![0.0; end.saturating_sub(next) * stride];
        let row = |y: usize| &self.held[(y - first) * stride..][..stride];
        let lines = blurred.par_chunks_mut(stride).enumerate();
        lines.for_each(|(i, out)| {
            let y = next + i;
            let (above, below) = (y.saturating_sub(reach), (y + reach).min(height - 1));
            let taps = row(above).iter().zip(row(below)).zip(row(y));
            for (out, ((above, below), here)) in out.iter_mut().zip(taps) {
                *out = 0.25 * (above + below) + 0.5 * here;
            }
        });
        self.next = next.max(end);
        let kept = self.next.saturating_sub(reach).clamp(first, seen);
        self.held.drain(..(kept - first) * stride);
        self.first = kept;
        blurred
    }
}

/// Blurs a row of interleaved RGB.
fn blur_sideways(row: &[f32], out: &mut [f32], reach: usize) {
    let (shift, length) = (3 * reach, row.len());
    if length > 2 * shift {
        let taps = row[..length - 2 * shift].iter().zip(&row[2 * shift..]);
        let inner = out[shift..length - shift].iter_mut();
        for ((out, (left, right)), here) in inner.zip(taps).zip(&row[shift..]) {
            *out = 0.25 * (left + right) + 0.5 * here;
        }
    }
    let mut near_the_border = |i: usize| {
        let left = if i < shift { i % 3 } else { i - shift };
        let right = if i + shift < length {
            i + shift
        } else {
            length - 3 + i % 3
        };
        out[i] = 0.25 * (row[left] + row[right]) + 0.5 * row[i];
    };
    let head = shift.min(length);
    (0..head).for_each(&mut near_the_border);
    (head.max(length.saturating_sub(shift))..length).for_each(near_the_border);
}
