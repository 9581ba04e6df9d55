//! Gives each channel the mean and deviation of the reference's. Nothing can be fixed before all was
//! seen, so the whole result is held.

use rayon::prelude::*;

use super::{Give, Size};
use crate::bands::BAND_ROWS;
use crate::error::UpscaleError;

/// The result so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AdaIn {
    size: Size,
    rows: Vec<f32>,
    of_rows: Sums,
    of_reference: Sums,
}

impl AdaIn {
    pub(super) fn new(size: Size) -> Self {
        Self {
            size,
            rows: Vec::new(),
            of_rows: Sums::default(),
            of_reference: Sums::default(),
        }
    }

    /// Takes the next rows; gives out all of them after the last.
    pub(super) fn push(
        &mut self,
        rows: &[f32],
        reference: &[f32],
        give: &mut Give<'_>,
    ) -> Result<(), UpscaleError> {
        let stride = self.size.stride;
        self.of_rows.add_rows(rows, stride);
        self.of_reference.add_rows(reference, stride);
        self.rows.extend_from_slice(rows);
        if self.rows.len() < stride * self.size.height {
            return Ok(());
        }
        let scales = [0, 1, 2].map(|channel| {
            let (mean, deviation) = self.of_rows.mean_and_deviation(channel);
            let (target_mean, target_deviation) = self.of_reference.mean_and_deviation(channel);
            (mean, target_deviation / deviation, target_mean)
        });
        for band in self.rows.chunks_mut(BAND_ROWS * stride) {
            band.par_chunks_mut(3).for_each(|rgb| {
                for (value, (mean, scale, target_mean)) in rgb.iter_mut().zip(scales) {
                    *value = ((*value - mean) * scale + target_mean).clamp(0.0, 1.0);
                }
            });
            give(band)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
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

    /// Rows are summed in order: a parallel sum would depend on how the rows were shared out.
    fn add_rows(&mut self, rows: &[f32], stride: usize) {
        let of_row = |row: &[f32]| {
            let mut sums = Self::default();
            row.as_chunks().0.iter().for_each(|pixel| sums.add(pixel));
            sums
        };
        let each: Vec<Self> = rows.par_chunks(stride).map(of_row).collect();
        for row in each {
            self.count += row.count;
            for channel in 0..3 {
                self.values[channel] += row.values[channel];
                self.squares[channel] += row.squares[channel];
            }
        }
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
