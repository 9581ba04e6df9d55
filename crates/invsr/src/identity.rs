//! The engine without its networks.

use candle_core::Tensor;

use crate::bands::{Bands, Batch, EnlargeTiles};
use crate::error::UpscaleError;
use crate::memory::{self, Model, Stages};
use crate::rows::{RowSink, RowSource};
use crate::run::enlarge;
use crate::tiling::{Cells, Tiling};
use crate::upscale::{Observer, Options, Plan, Spent, Start, Upscale};
use crate::watch::Watch;

/// Cuts, blends and fixes like [`InvSr`](crate::InvSr), but enlarges each tile by bicubic alone:
/// neither model nor device, and all the rest of the way. For tests, and for dry runs that ask
/// what an image of some size takes beside the networks.
///
/// Schedule, seed and noise show in nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity;

/// As the released model has them.
const CELLS: Cells = Cells {
    multiple: 16,
    latent_px: 2,
};

/// What it takes in memory.
fn model(options: &Options) -> Model {
    Model {
        weights: 0,
        stages: Stages::of_enlarging(options.tile_px as usize),
    }
}

impl Upscale for Identity {
    fn plan(&self, width: u32, height: u32, options: &Options) -> Result<Plan, UpscaleError> {
        let tiling = Tiling::new(width, height, options, CELLS)?;
        let fitted = memory::fit(&tiling, options, &model(options))?;
        let tiles = tiling.len();
        Ok(Plan {
            tiles,
            tile_steps: tiles * options.steps_a_tile(),
            peak_bytes: memory::peak(&tiling, &fitted, &model(options)),
        })
    }

    fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        start: Start,
        options: &Options,
        sink: &mut dyn RowSink,
        observer: &mut dyn Observer,
    ) -> Result<Spent, UpscaleError> {
        let tiling = Tiling::new(source.width(), source.height(), options, CELLS)?;
        let options = memory::fit(&tiling, options, &model(options))?;
        Bands::new(&tiling, &options, source, start, sink, observer)?.run(self)
    }
}

impl EnlargeTiles for Identity {
    fn enlarge(
        &mut self,
        batch: Batch,
        tiles: &Tensor,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, UpscaleError> {
        watch.report(batch.first)?;
        let started = std::time::Instant::now();
        let enlarged = enlarge(tiles)
            .and_then(|large| large.affine(2.0, -1.0))
            .map_err(|source| UpscaleError::from_candle("enlarge", batch.first, source))?;
        watch.timings.vae_encode += started.elapsed();
        Ok(enlarged)
    }
}
