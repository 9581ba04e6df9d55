//! Enlarged tiles back to one image, weighted by a window, summed in `f32`: the
//! weights are wider, and what is left of the error is far below a level of 16 bits.
//!
//! Tiles come in raster order, so only one row of tiles is held as sums: a ring of as many rows as
//! a tile is high. The weights are a product of a row's and a column's, hence so is their total:
//! two short lists replace a plane of totals.

use std::ops::Range;

use rayon::prelude::*;

use crate::config::SCALE;
use crate::tiling::{Axis, Tiling};

/// One side of the blending weight for tiles of `side` output pixels that overlap by half.
///
/// A Gaussian of deviation `0.3 ((side - 1) / 2 - 1) + 0.8` and of odd length. An even side drops
/// the first sample of the next longer kernel, so that the peak is half a pixel off the centre.
fn gaussian(side: usize) -> Vec<f64> {
    let sigma = 0.3 * ((side as f64 - 1.0) * 0.5 - 1.0) + 0.8;
    let length = side | 1;
    let centre = (length as f64 - 1.0) / 2.0;
    let sample = |i: usize| (-(i as f64 - centre).powi(2) / (2.0 * sigma * sigma)).exp();
    let total: f64 = (0..length).map(sample).sum();
    (length - side..length).map(|i| sample(i) / total).collect()
}

/// One side of the blending weight for any other overlap: flat, with edges of `overlap` pixels that
/// rise as half a cosine wave, on which two neighbours add up to 1.
///
/// A Gaussian is still so high where a narrow overlap ends that the edge shows, and a straight ramp
/// has a faint kink there; `docs/performance.md` has the figures.
fn ramp(side: usize, overlap: usize) -> Vec<f64> {
    let rise = |i: usize| {
        let way = ((i as f64 + 0.5) / overlap as f64).min(1.0);
        0.5 - 0.5 * (std::f64::consts::PI * way).cos()
    };
    (0..side).map(|i| rise(i).min(rise(side - 1 - i))).collect()
}

/// The window for a tiling: the published one for the published overlap, so that its results are
/// the published ones.
fn window(tiling: &Tiling) -> Vec<f64> {
    let side = tiling.enlarged_tile();
    if tiling.is_single() {
        vec![1.0; side]
    } else if tiling.is_official() {
        gaussian(side)
    } else {
        ramp(side, SCALE * tiling.overlap)
    }
}

/// Gathers enlarged tiles into rows.
pub(crate) struct Blender<'a> {
    tiling: &'a Tiling,
    weights: Vec<f64>,
    column_totals: Vec<f64>,
    /// Weighted sums: padded output row `y` at `y % side`, three planes of a row each.
    ring: Vec<f32>,
    /// Padded output rows before this one were given out.
    given: usize,
}

impl<'a> Blender<'a> {
    /// Begins with a row of tiles; rows above it are taken as given out.
    pub(crate) fn new(tiling: &'a Tiling, first_tile_row: usize) -> Self {
        let weights = window(tiling);
        let width = SCALE * tiling.columns.padded();
        Self {
            column_totals: totals(&tiling.columns, &weights),
            ring: vec![0.0; tiling.enlarged_tile() * width * 3],
            given: SCALE * tiling.rows.origin(first_tile_row),
            tiling,
            weights,
        }
    }

    /// Goes on with the sums of another, [`into_sums`](Self::into_sums), before a tile of this row of
    /// tiles. `None` if they are those of another tiling.
    pub(crate) fn resume(tiling: &'a Tiling, tile_row: usize, sums: Vec<f32>) -> Option<Self> {
        let begun = Self::new(tiling, tile_row);
        let fits = sums.len() == begun.ring.len();
        fits.then_some(Self {
            ring: sums,
            ..begun
        })
    }

    /// The sums of all rows that were not given out.
    pub(crate) fn into_sums(self) -> Vec<f32> {
        self.ring
    }

    /// Adds the next tile in raster order; rows above it must have been given out.
    ///
    /// - `decoded`: `[3, 4p, 4p]` around `[-1, 1]`; each value is first brought to `[0, 1]`.
    pub(crate) fn add(&mut self, tile: usize, decoded: &[f32]) {
        let (top, left) = self.tiling.origin(tile);
        debug_assert_eq!(self.given, SCALE * top);
        let side = self.tiling.enlarged_tile();
        let width = SCALE * self.tiling.columns.padded();
        let (top, left) = (SCALE * top % side, SCALE * left);
        let weights = &self.weights;
        let rows = self.ring.par_chunks_mut(3 * width).enumerate();
        rows.for_each(|(slot, row)| {
            let y = (slot + side - top) % side;
            let planes = row.chunks_exact_mut(width);
            for (sums, plane) in planes.zip(decoded.chunks_exact(side * side)) {
                let values = &plane[y * side..(y + 1) * side];
                let sums = &mut sums[left..left + side];
                for ((sum, value), weight) in sums.iter_mut().zip(values).zip(weights) {
                    let shown = (value / 2.0 + 0.5).clamp(0.0, 1.0);
                    *sum += narrowed(f64::from(shown) * (weights[y] * weight));
                }
            }
        });
    }

    /// The rows of the result that no tile after this row of tiles touches; later rows may be
    /// final too once a further row of tiles is done.
    pub(crate) fn final_rows(&self, tile_row: usize) -> Range<usize> {
        let rows = &self.tiling.rows;
        let end = if tile_row + 1 == rows.tiles() {
            rows.padded()
        } else {
            rows.origin(tile_row + 1)
        };
        let own = |padded: usize| {
            padded
                .saturating_sub(SCALE * rows.before)
                .min(SCALE * rows.length)
        };
        own(self.given)..own(SCALE * end)
    }

    /// Writes final rows of the result, interleaved RGB.
    pub(crate) fn read(&self, rows: Range<usize>, out: &mut [f32]) {
        let side = self.tiling.enlarged_tile();
        let width = SCALE * self.tiling.columns.padded();
        let left = SCALE * self.tiling.columns.before;
        let own_width = SCALE * self.tiling.columns.length;
        let first = SCALE * self.tiling.rows.before + rows.start;
        let lines = out.par_chunks_mut(3 * own_width).enumerate();
        lines.for_each(|(i, line)| {
            let padded = first + i;
            let row_total = total_at(&self.tiling.rows, &self.weights, padded);
            let planes = &self.ring[padded % side * 3 * width..][..3 * width];
            for (channel, plane) in planes.chunks_exact(width).enumerate() {
                let values = line.iter_mut().skip(channel).step_by(3);
                let sums = plane[left..].iter().zip(&self.column_totals[left..]);
                for (value, (sum, column_total)) in values.zip(sums) {
                    // White must not come out a rounding error whiter.
                    *value = narrowed(f64::from(*sum) / (row_total * column_total)).min(1.0);
                }
            }
        });
    }

    /// Makes room for the tiles below a row of tiles, whose final rows were read.
    pub(crate) fn give_out(&mut self, tile_row: usize) {
        let below = SCALE * self.tiling.rows.origin(tile_row + 1);
        let side = self.tiling.enlarged_tile();
        let stride = 3 * SCALE * self.tiling.columns.padded();
        for padded in self.given..below {
            self.ring[padded % side * stride..][..stride].fill(0.0);
        }
        self.given = below;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "pixels and their sums are f32, only the weights are wider"
)]
fn narrowed(wide: f64) -> f32 {
    wide as f32
}

/// The weights of all tiles at a padded output coordinate.
fn total_at(axis: &Axis, weights: &[f64], at: usize) -> f64 {
    let tiles = axis.tiles_over(at / SCALE);
    tiles.fold(0.0, |total, tile| {
        total + weights[at - SCALE * axis.origin(tile)]
    })
}

/// The weights of all tiles, added up along an axis.
fn totals(axis: &Axis, weights: &[f64]) -> Vec<f64> {
    let along = 0..SCALE * axis.padded();
    along.map(|at| total_at(axis, weights, at)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_window_peaks_half_a_pixel_before_the_centre() {
        let weights = gaussian(512);
        let peak = weights.iter().copied().fold(0.0, f64::max);
        assert_eq!(weights[255], peak);
        assert!((weights[254] - weights[256]).abs() < 1e-18);
        assert!((weights[0] / peak - 0.004).abs() < 5e-4);
        let lost = 1.0 - weights.iter().sum::<f64>();
        assert!(
            (lost - weights[510]).abs() < 1e-4,
            "only the first sample is missing: {lost}"
        );
    }

    #[test]
    fn two_neighbours_ramps_add_up_to_one() {
        let weights = ramp(64, 12);
        for i in 0..12 {
            assert!((weights[i] + weights[64 - 12 + i] - 1.0).abs() < 1e-12);
        }
        assert!(weights[12..52].iter().all(|weight| *weight == 1.0));
    }

    fn tiling(width: usize, height: usize, overlap: usize) -> Tiling {
        Tiling {
            rows: Axis::new(height, 16, overlap, 8),
            columns: Axis::new(width, 16, overlap, 8),
            tile: 16,
            overlap,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_pixel_has_positive_weight(length in 1usize..700, halves in 1usize..5, eighths in 1usize..8) {
            let tile = 32 * halves;
            let overlap = tile * eighths / 8;
            let axis = Axis::new(length, tile, overlap, 16);
            let weights = window(&Tiling { rows: axis.clone(), columns: axis.clone(), tile, overlap });
            prop_assert!(totals(&axis, &weights).iter().all(|total| *total > 0.0 && total.is_finite()));
        }

        /// Tiles cut from one picture must blend back into it, cropped to the image.
        #[test]
        fn agreeing_tiles_blend_into_their_picture(width in 1usize..70, height in 1usize..70, overlap in 1usize..16) {
            let tiling = tiling(width, height, overlap);
            let value = |y: usize, x: usize, c: usize| ((y * 31 + x * 7 + c * 3) % 101) as f32 / 101.0;
            let mut blender = Blender::new(&tiling, 0);
            let mut found = Vec::new();
            for tile in 0..tiling.len() {
                let (top, left) = tiling.origin(tile);
                let mut decoded = Vec::new();
                for c in 0..3 {
                    for y in 0..64 {
                        decoded.extend((0..64).map(|x| 2.0 * value(4 * top + y, 4 * left + x, c) - 1.0));
                    }
                }
                blender.add(tile, &decoded);
                let row = tiling.row_of(tile);
                if (tile + 1).is_multiple_of(tiling.columns.tiles()) {
                    let rows = blender.final_rows(row);
                    let mut out = vec![0.0; 12 * width * rows.len()];
                    blender.read(rows, &mut out);
                    found.extend(out);
                    blender.give_out(row);
                }
            }
            prop_assert_eq!(found.len(), 48 * width * height);
            let (up, across) = (4 * tiling.rows.before, 4 * tiling.columns.before);
            for (i, found) in found.iter().enumerate() {
                let (y, x, c) = (i / 3 / (4 * width), i / 3 % (4 * width), i % 3);
                prop_assert!((found - value(y + up, x + across, c)).abs() < 1e-6);
            }
        }
    }
}
