//! Enlarged tiles back to one image, weighted by a Gaussian window, summed in `f64`.
//!
//! Tiles come in raster order, so only one row of tiles is held as sums. The weights are a product
//! of a row's and a column's, hence so is their total: two short lists replace a plane of totals.

use rayon::prelude::*;

use crate::config::SCALE;
use crate::image::RgbImage;
use crate::tiling::{Axis, Tiling};

/// One side of the blending weight for tiles of `side` output pixels.
///
/// A Gaussian of deviation `0.3 ((side - 1) / 2 - 1) + 0.8` and of odd length. An even side drops
/// the first sample of the next longer kernel, so that the peak is half a pixel off the centre.
pub(crate) fn window(side: usize) -> Vec<f64> {
    let sigma = 0.3 * ((side as f64 - 1.0) * 0.5 - 1.0) + 0.8;
    let length = side | 1;
    let centre = (length as f64 - 1.0) / 2.0;
    let sample = |i: usize| (-(i as f64 - centre).powi(2) / (2.0 * sigma * sigma)).exp();
    let total: f64 = (0..length).map(sample).sum();
    (length - side..length).map(|i| sample(i) / total).collect()
}

/// Gathers enlarged tiles into the image.
pub(crate) struct Blender<'a> {
    tiling: &'a Tiling,
    weights: Vec<f64>,
    row_totals: Vec<f64>,
    column_totals: Vec<f64>,
    /// Weighted sums of the rows from `band_top` on: one tile high, interleaved RGB.
    band: Vec<f64>,
    /// First row of the band, in padded output pixels.
    band_top: usize,
    image: RgbImage,
}

impl<'a> Blender<'a> {
    /// - `image`: the result's size; every value will be written.
    pub(crate) fn new(tiling: &'a Tiling, image: RgbImage) -> Self {
        let side = tiling.enlarged_tile();
        let weights = if tiling.is_single() {
            vec![1.0; side]
        } else {
            window(side)
        };
        let width = SCALE * tiling.columns.padded();
        Self {
            row_totals: totals(&tiling.rows, &weights),
            column_totals: totals(&tiling.columns, &weights),
            band: vec![0.0; side * width * 3],
            band_top: 0,
            tiling,
            weights,
            image,
        }
    }

    /// Adds the next tile in raster order.
    ///
    /// - `decoded`: `[3, 4p, 4p]` around `[-1, 1]`; each value is first brought to `[0, 1]`.
    pub(crate) fn add(&mut self, tile: usize, decoded: &[f32]) {
        let (top, left) = self.tiling.origin(tile);
        self.finish_rows_above(SCALE * top);
        let side = self.tiling.enlarged_tile();
        let stride = 3 * SCALE * self.tiling.columns.padded();
        let weights = &self.weights;
        self.band
            .par_chunks_mut(stride)
            .enumerate()
            .for_each(|(y, row)| {
                let row = &mut row[3 * SCALE * left..][..3 * side];
                for (channel, plane) in decoded.chunks_exact(side * side).enumerate() {
                    let values = &plane[y * side..(y + 1) * side];
                    let sums = row.iter_mut().skip(channel).step_by(3);
                    for ((sum, value), weight) in sums.zip(values).zip(weights) {
                        let shown = (value / 2.0 + 0.5).clamp(0.0, 1.0);
                        *sum += f64::from(shown) * (weights[y] * weight);
                    }
                }
            });
    }

    /// The image, once every tile was added.
    pub(crate) fn finish(mut self) -> RgbImage {
        self.finish_rows_above(SCALE * self.tiling.rows.padded());
        self.image
    }

    /// Writes out the rows that no later tile touches, and moves the band down to `top`.
    fn finish_rows_above(&mut self, top: usize) {
        let finished = top - self.band_top;
        if finished == 0 {
            return;
        }
        let stride = 3 * SCALE * self.tiling.columns.padded();
        let first_row = SCALE * self.tiling.rows.before;
        let first_column = SCALE * self.tiling.columns.before;
        let out_stride = 3 * self.image.width as usize;
        for padded in self.band_top.max(first_row)..top {
            let y = padded - first_row;
            if y >= self.image.height as usize {
                break;
            }
            let sums = &self.band[(padded - self.band_top) * stride + 3 * first_column..];
            let pixels = self.image.data[y * out_stride..][..out_stride].chunks_exact_mut(3);
            let totals = &self.column_totals[first_column..];
            for ((out, sums), column_total) in pixels.zip(sums.chunks_exact(3)).zip(totals) {
                let total = self.row_totals[padded] * column_total;
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = narrowed(sum / total);
                }
            }
        }
        let kept = self.band.len().saturating_sub(finished * stride);
        let dropped = self.band.len() - kept;
        self.band.copy_within(dropped.., 0);
        self.band[kept..].fill(0.0);
        self.band_top = top;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "pixels are f32, only their sums are wider"
)]
fn narrowed(wide: f64) -> f32 {
    wide as f32
}

/// The weights of all tiles, added up along an axis.
fn totals(axis: &Axis, weights: &[f64]) -> Vec<f64> {
    let mut totals = vec![0.0; SCALE * axis.padded()];
    for origin in &axis.origins {
        for (total, weight) in totals[SCALE * origin..].iter_mut().zip(weights) {
            *total += weight;
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_peaks_half_a_pixel_before_the_centre() {
        let weights = window(512);
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn every_pixel_has_positive_weight(length in 1usize..700, halves in 1usize..5) {
            let axis = Axis::new(length, 32 * halves, 16);
            let totals = totals(&axis, &window(SCALE * 32 * halves));
            prop_assert!(totals.iter().all(|total| *total > 0.0 && total.is_finite()));
        }

        /// Tiles cut from one picture must blend back into it, cropped to the image.
        #[test]
        fn agreeing_tiles_blend_into_their_picture(width in 1u32..70, height in 1u32..70) {
            let tiling = Tiling::new(width, height, 16, 8);
            let (out_w, out_h) = (width * 4, height * 4);
            let blank = RgbImage::new(out_w, out_h, vec![0.0; (out_w * out_h * 3) as usize]).unwrap();
            let value = |y: usize, x: usize, c: usize| ((y * 31 + x * 7 + c * 3) % 101) as f32 / 101.0;
            let mut blender = Blender::new(&tiling, blank);
            for tile in 0..tiling.len() {
                let (top, left) = tiling.origin(tile);
                let mut decoded = Vec::new();
                for c in 0..3 {
                    for y in 0..64 {
                        decoded.extend((0..64).map(|x| 2.0 * value(4 * top + y, 4 * left + x, c) - 1.0));
                    }
                }
                blender.add(tile, &decoded);
            }
            let image = blender.finish();
            let (up, across) = (4 * tiling.rows.before, 4 * tiling.columns.before);
            for (i, found) in image.data.iter().enumerate() {
                let (y, x, c) = (i / 3 / out_w as usize, i / 3 % out_w as usize, i % 3);
                prop_assert!((found - value(y + up, x + across, c)).abs() < 1e-6);
            }
        }
    }
}
