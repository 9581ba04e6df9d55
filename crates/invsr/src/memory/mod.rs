//! How much main memory an image will take, and what to give up so that it takes no more than it may.
//!
//! The peak is reckoned before the first tile, from sizes alone: weights, the networks' largest stage
//! for a batch of tiles, and the rows that an image of this width needs at a time. The height counts
//! only where a colour fix needs the whole result. `docs/performance.md` has the terms, and
//! `tests/memory_limit.rs` holds them against what a process really took.

mod limit;
mod networks;

pub use limit::{MemoryLimit, ParseMemoryLimitError};
pub(crate) use networks::{Stages, weight_bytes};

use crate::bands::BAND_ROWS;
use crate::color_fix::ColorFix;
use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::tiling::Tiling;
use crate::upscale::Options;

/// Bytes of a value.
pub(super) const VALUE: u64 = 4;

/// The program itself: code, stacks, small allocations.
const PROGRAM: u64 = 48 << 20;

/// What the allocator cannot give back or fill: a part of all that comes and goes.
const SLACK: f64 = 0.2;

/// Rows that are blended and fixed together, when even one tile at a time takes too much.
const FEWER_ROWS: [usize; 3] = [16, 8, 4];

/// What the model takes, whatever the image.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Model {
    /// Weights in main memory, in bytes.
    pub weights: u64,
    /// The networks' activations for a tile, and what each core needs beside them, in bytes.
    pub stages: Stages,
}

/// Lowers the tile batch, and then the rows of a band, until the reckoned peak is within the limit.
///
/// # Errors
/// [`UpscaleError::Memory`] when nothing that leaves the result as it is would do.
pub(crate) fn fit(
    tiling: &Tiling,
    options: &Options,
    model: &Model,
) -> Result<Options, UpscaleError> {
    let mut fitted = options.clone();
    fitted.tile_batch = options.tile_batch.min(tiling.len());
    let Some(limit) = options.memory_limit else {
        return Ok(fitted);
    };
    let tries = (1..=fitted.tile_batch)
        .rev()
        .map(|tiles| (tiles, BAND_ROWS))
        .chain(FEWER_ROWS.map(|rows| (1, rows)));
    for (tile_batch, band_rows) in tries {
        fitted.tile_batch = tile_batch;
        fitted.band_rows = band_rows.min(options.band_rows);
        if peak(tiling, &fitted, model) <= limit {
            if (tile_batch, fitted.band_rows) != (options.tile_batch, options.band_rows) {
                tracing::debug!(tile_batch, band_rows, limit, "lowered to fit into memory");
            }
            return Ok(fitted);
        }
    }
    Err(UpscaleError::Memory {
        needed: peak(tiling, &fitted, model),
        limit,
    })
}

/// The most that the process will hold while it works on an image, in bytes.
pub(crate) fn peak(tiling: &Tiling, options: &Options, model: &Model) -> u64 {
    let batch = options.tile_batch.min(tiling.len()) as u64;
    let moving = batch * model.stages.a_tile + model.stages.all_cores + rows(tiling, options);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an estimate of something positive"
    )]
    let slack = (moving as f64 * SLACK) as u64;
    PROGRAM + model.weights + moving + slack
}

/// Rows of the input, sums of a row of tiles, and rows on their way out, in bytes.
fn rows(tiling: &Tiling, options: &Options) -> u64 {
    let (columns, tile) = (&tiling.columns, tiling.tile);
    let input_row = 3 * columns.length;
    let result_row = SCALE * input_row;
    let rows_of_tiles = 1 + options
        .tile_batch
        .saturating_sub(1)
        .div_ceil(columns.tiles());
    let input = input_row * (tile + (rows_of_tiles - 1) * (tile - tiling.overlap));
    let sums = 3 * SCALE * columns.padded() * tiling.enlarged_tile();
    // Blended, reference, and what a sink makes of a band.
    let band = 3 * options.band_rows * result_row;
    let fix = match options.color_fix {
        ColorFix::None | ColorFix::YCbCr => 0,
        ColorFix::Wavelet => ColorFix::wavelet_rows(options.band_rows) * result_row,
        ColorFix::AdaIn => SCALE * tiling.rows.length * result_row,
    };
    VALUE * (input + sums + band + fix) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiling::Cells;

    const CELLS: Cells = Cells {
        multiple: 16,
        latent_px: 2,
    };
    const MIB: u64 = 1 << 20;
    const MODEL: Model = Model {
        weights: 100 * MIB,
        stages: Stages {
            a_tile: 50 * MIB,
            all_cores: 10 * MIB,
        },
    };

    fn fitted(width: u32, memory_limit: u64) -> Result<(usize, usize), UpscaleError> {
        let options = Options {
            tile_batch: 8,
            memory_limit: Some(memory_limit),
            ..Options::default()
        };
        let tiling = Tiling::new(width, 1000, &options, CELLS).unwrap();
        let fitted = fit(&tiling, &options, &MODEL)?;
        assert!(peak(&tiling, &fitted, &MODEL) <= memory_limit);
        Ok((fitted.tile_batch, fitted.band_rows))
    }

    #[test]
    fn the_batch_is_lowered_first_then_the_rows_of_a_band() {
        assert_eq!(fitted(1000, 10_000 * MIB).unwrap(), (8, BAND_ROWS));
        let (batch, rows) = fitted(1000, 450 * MIB).unwrap();
        assert!((2..8).contains(&batch), "{batch}");
        assert_eq!(rows, BAND_ROWS);
        let wide = fitted(20_000, 1_000 * MIB).unwrap();
        assert_eq!((wide.0, wide.1 < BAND_ROWS), (1, true), "{wide:?}");
    }

    #[test]
    fn what_cannot_fit_is_refused_with_both_figures() {
        let refused = fitted(1000, 200 * MIB).unwrap_err().to_string();
        assert!(refused.contains("limit of 200 MiB"), "{refused}");
    }

    #[test]
    fn an_image_takes_no_more_tiles_at_once_than_it_has() {
        let options = Options::default();
        let tiling = Tiling::new(128, 128, &options, CELLS).unwrap();
        assert_eq!(fit(&tiling, &options, &MODEL).unwrap().tile_batch, 1);
    }

    #[test]
    fn only_what_needs_the_whole_result_grows_with_the_height() {
        let peak_of = |height, color_fix| {
            let options = Options {
                color_fix,
                ..Options::default()
            };
            let tiling = Tiling::new(500, height, &options, CELLS).unwrap();
            peak(&tiling, &options, &MODEL)
        };
        for fix in [ColorFix::None, ColorFix::Wavelet, ColorFix::YCbCr] {
            assert_eq!(peak_of(1_000, fix), peak_of(100_000, fix), "{fix}");
        }
        let result = |height: u64| 500 * height * 16 * 12;
        let grown = peak_of(2_000, ColorFix::AdaIn) - peak_of(1_000, ColorFix::AdaIn);
        assert!(grown >= result(1_000), "{grown}");
    }
}
