//! What a convolution's sums see: for each output pixel, the input's values under the kernel.

use super::Window;
use crate::nn::product::LANES;

/// One term of every sum: an input channel, at a place in the kernel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub channel: usize,
    /// Rows and columns from the kernel's first.
    pub down: usize,
    pub right: usize,
}

/// Pixels of an output row whose sums are neighbours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Which panel of [`LANES`] sums, and where in it.
    pub panel: usize,
    pub lane: usize,
    pub count: usize,
    /// The first pixel.
    pub y: usize,
    pub x: usize,
}

/// The runs of `count` pixels from `first` on, counted row by row in rows of `width`.
pub(super) fn runs(first: usize, count: usize, width: usize) -> Vec<Run> {
    let mut runs = Vec::with_capacity(count / LANES + 2);
    let mut done = 0;
    while done < count {
        let (y, x) = ((first + done) / width, (first + done) % width);
        let lane = done % LANES;
        let here = (count - done).min(LANES - lane).min(width - x);
        runs.push(Run {
            panel: done / LANES,
            lane,
            count: here,
            y,
            x,
        });
        done += here;
    }
    runs
}

/// A sample's input.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    pub values: &'a [f32],
    pub height: usize,
    pub width: usize,
    pub window: Window,
}

impl Image<'_> {
    /// Height and width of the grid that the kernel visits.
    pub(super) fn grid(&self) -> (usize, usize) {
        self.window.grid(self.height, self.width)
    }

    /// Fills panels of [`LANES`] pixels with a row of them for each term; zeros where the kernel
    /// leaves the image.
    #[inline(always)]
    pub(super) fn patches(&self, out: &mut [f32], terms: &[Term], runs: &[Run]) {
        let panel = terms.len() * LANES;
        let plane = self.height * self.width;
        let (stride, before) = (self.window.stride(), self.window.before());
        for (i, term) in terms.iter().enumerate() {
            let channel = &self.values[term.channel * plane..][..plane];
            for run in runs {
                let out = &mut out[run.panel * panel + i * LANES + run.lane..][..run.count];
                let row = (run.y * stride + term.down).wrapping_sub(before);
                if row >= self.height {
                    out.fill(0.0);
                    continue;
                }
                let row = &channel[row * self.width..][..self.width];
                copy(out, row, run.x * stride + term.right, before, stride);
            }
        }
    }
}

/// `out[i] = row[from - before + i * stride]`, or zero where that does not exist.
#[inline(always)]
fn copy(out: &mut [f32], row: &[f32], from: usize, before: usize, stride: usize) {
    let skipped = before.saturating_sub(from).div_ceil(stride);
    let begin = from + skipped * stride - before;
    if stride == 1 && skipped == 0 && begin + out.len() <= row.len() {
        // A whole panel's row is a few registers, without a call.
        match <&mut [f32; LANES]>::try_from(&mut *out) {
            Ok(out) => out.copy_from_slice(&row[begin..begin + LANES]),
            Err(_) => out.copy_from_slice(&row[begin..begin + out.len()]),
        }
        return;
    }
    out.fill(0.0);
    let there = row.get(begin..).unwrap_or_default().iter().step_by(stride);
    for (out, x) in out.iter_mut().skip(skipped).zip(there) {
        *out = *x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_the_pixels_in_order() {
        for (first, count, width) in [(0, 1, 1), (0, 64, 8), (5, 100, 7), (30, 70, 512)] {
            let mut pixel = first;
            for run in runs(first, count, width) {
                assert_eq!(run.y * width + run.x, pixel);
                assert_eq!(run.panel * LANES + run.lane, pixel - first);
                assert!(
                    run.count > 0 && run.lane + run.count <= LANES && run.x + run.count <= width
                );
                pixel += run.count;
            }
            assert_eq!(pixel, first + count);
        }
    }
}
