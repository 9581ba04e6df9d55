//! The two bicubic kernels of the method. They differ, and confusing them costs 0.04 in a pixel.
//!
//! Both enlarge four times with half-pixel centres, so that output pixel `4 i + k` takes four input
//! pixels with weights that depend on `k` alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::config::SCALE;

/// For output pixel `4 i + k`, the offset from `i` of the first of its four input pixels.
const FIRST_TAP: [isize; SCALE] = [-2, -2, -1, -1];

/// Weights of the four taps for each `k`, by the cubic convolution kernel of parameter `a`.
fn phases(a: f64) -> [[f64; 4]; SCALE] {
    let kernel = |x: f64| {
        let x = x.abs();
        if x <= 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
        } else {
            0.0
        }
    };
    let mut weights = [[0.0; 4]; SCALE];
    for (k, weights) in weights.iter_mut().enumerate() {
        let centre = (k as f64 + 0.5) / SCALE as f64 - 0.5;
        for (tap, weight) in weights.iter_mut().enumerate() {
            *weight = kernel(centre - (FIRST_TAP[k] + tap as isize) as f64);
        }
    }
    weights
}

/// Four input positions and their weights.
type Taps = [(usize, f32); 4];

/// What happens to taps outside the image.
#[derive(Clone, Copy, PartialEq)]
enum Border {
    /// They read the nearest border pixel.
    Repeat,
    /// They are dropped, and the others made up to a sum of 1.
    Drop,
}

/// A kernel along a side of `length` pixels.
struct Kernel {
    length: usize,
    phases: [[f64; 4]; SCALE],
    border: Border,
}

impl Kernel {
    fn new(length: usize, a: f64, border: Border) -> Self {
        Self {
            length,
            phases: phases(a),
            border,
        }
    }

    /// What the enlarged pixel `out` is made of.
    #[expect(clippy::cast_possible_truncation, reason = "weights act on f32 pixels")]
    fn taps(&self, out: usize) -> Taps {
        let (i, k) = ((out / SCALE) as isize, out % SCALE);
        let last = self.length as isize - 1;
        let at = |tap: usize| i + FIRST_TAP[k] + tap as isize;
        let mut weights = self.phases[k];
        if self.border == Border::Drop {
            for (tap, weight) in weights.iter_mut().enumerate() {
                *weight = if (0..=last).contains(&at(tap)) {
                    *weight
                } else {
                    0.0
                };
            }
            let sum: f64 = weights.iter().sum();
            weights = weights.map(|weight| weight / sum);
        }
        std::array::from_fn(|tap| (at(tap).clamp(0, last).unsigned_abs(), weights[tap] as f32))
    }

    fn all(&self) -> Vec<Taps> {
        (0..SCALE * self.length).map(|out| self.taps(out)).collect()
    }
}

/// Enlarges square planes for the VAE: `a = -0.75`, borders repeated, overshoot kept.
///
/// - `planes`: any number of `[side, side]` planes; returns as many `[4 side, 4 side]`.
pub(crate) fn enlarge_planes(planes: &[f32], side: usize) -> Vec<f32> {
    let taps = Kernel::new(side, -0.75, Border::Repeat).all();
    let large = SCALE * side;
    let mut out = vec![0.0; planes.len() * SCALE * SCALE];
    let pairs = out
        .par_chunks_mut(large * large)
        .zip(planes.par_chunks(side * side));
    pairs.for_each(|(out, plane)| {
        let mut wide = vec![0.0; side * large];
        for (wide, row) in wide.chunks_exact_mut(large).zip(plane.chunks_exact(side)) {
            for (out, taps) in wide.iter_mut().zip(&taps) {
                *out = taps.iter().map(|&(x, weight)| row[x] * weight).sum();
            }
        }
        for (out, taps) in out.chunks_exact_mut(large).zip(&taps) {
            mix_rows(out, taps, |y| &wide[y * large..(y + 1) * large]);
        }
    });
    out
}

/// Enlarges an image row by row for the colour fixes: `a = -0.5`, taps outside dropped.
pub(crate) struct Reference {
    rows: Kernel,
    columns: Vec<Taps>,
}

impl Reference {
    /// For an image of so many pixels.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let kernel = |length| Kernel::new(length, -0.5, Border::Drop);
        Self {
            rows: kernel(height),
            columns: kernel(width).all(),
        }
    }

    /// The image's rows that enlarged rows are made of.
    pub(crate) fn needed(&self, rows: Range<usize>) -> Range<usize> {
        let first = (rows.start / SCALE).saturating_sub(2);
        first
            ..rows
                .end
                .div_ceil(SCALE)
                .saturating_add(2)
                .min(self.rows.length)
    }

    /// Writes enlarged row `y`, interleaved RGB.
    ///
    /// - `row`: gives a row of the image.
    pub(crate) fn row<'r>(&self, y: usize, row: impl Fn(usize) -> &'r [f32], out: &mut [f32]) {
        let mut mixed = vec![0.0; 3 * self.columns.len() / SCALE];
        mix_rows(&mut mixed, &self.rows.taps(y), row);
        for (pixel, taps) in out.as_chunks_mut::<3>().0.iter_mut().zip(&self.columns) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let [a, b, c, d] = taps.map(|(x, weight)| mixed[3 * x + channel] * weight);
                *value = a + b + c + d;
            }
        }
    }
}

fn mix_rows<'r>(out: &mut [f32], taps: &Taps, row: impl Fn(usize) -> &'r [f32]) {
    let [(a, wa), (b, wb), (c, wc), (d, wd)] = *taps;
    let rows = row(a).iter().zip(row(b)).zip(row(c)).zip(row(d));
    for (out, (((a, b), c), d)) in out.iter_mut().zip(rows) {
        *out = a * wa + b * wb + c * wc + d * wd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_each_phase_sum_to_one() {
        for a in [-0.75, -0.5] {
            for phase in phases(a) {
                assert!((phase.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn enlarged_rows_are_made_of_the_rows_they_name() {
        let reference = Reference::new(1, 9);
        for y in 0..36 {
            let needed = reference.needed(y..y + 1);
            let taps = reference.rows.taps(y);
            assert!(taps.iter().all(|(row, _)| needed.contains(row)), "{y}");
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let large = enlarge_planes(&[0.25; 9], 3);
        assert!(large.iter().all(|x| (x - 0.25).abs() < 1e-6));
        let row = [0.1, 0.5, 0.9];
        let mut large = [0.0; 12];
        for y in 0..8 {
            Reference::new(1, 2).row(y, |_| &row, &mut large);
            for (found, wanted) in large.iter().zip(row.iter().cycle()) {
                assert!((found - wanted).abs() < 1e-6);
            }
        }
    }
}
