//! One image's way from a source to a sink: tiles in batches, blended, fixed, a band at a time.
//!
//! What is held at any moment: the input rows that a row of tiles and the colour fix still need, one
//! row of tiles as sums, a batch of tiles, and the fix's context. None of it grows with the image's
//! height.

use std::ops::Range;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::blend::Blender;
use crate::color_fix::{ColorFix, Fixer, Size};
use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::hand_over::{BelongsTo, HandOver};
use crate::input::Input;
use crate::nn::host;
use crate::resample::Reference;
use crate::rows::{RowSink, RowSource};
use crate::tiling::Tiling;
use crate::upscale::{Observer, Options, Spent, Start};
use crate::watch::Watch;

/// Rows of the result that are blended and fixed together, if nothing else is said.
pub(crate) const BAND_ROWS: usize = 32;

/// Tiles that go through the networks together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub first: usize,
    pub count: usize,
}

/// The networks, or what stands in for them.
pub(crate) trait EnlargeTiles {
    /// Enlarges a batch; reports to `watch` at least once, before any work.
    ///
    /// - `tiles`: `[B, 3, p, p]` in `[0, 1]`, in main memory.
    /// - returns `[B, 3, 4p, 4p]` around `[-1, 1]`, contiguous, in main memory.
    fn enlarge(
        &mut self,
        batch: Batch,
        tiles: &Tensor,
        watch: &mut Watch<'_>,
    ) -> Result<Tensor, UpscaleError>;
}

/// An image on its way.
pub(crate) struct Bands<'a> {
    tiling: &'a Tiling,
    options: &'a Options,
    input: Input<'a>,
    reference: Reference,
    blender: Blender<'a>,
    /// The tile that this run begins with.
    first_tile: usize,
    /// The tile that comes next.
    next_tile: usize,
    fixer: Fixer,
    output: Output<'a>,
    watch: Watch<'a>,
    /// The row of the result to be blended next.
    next_row: usize,
}

impl<'a> Bands<'a> {
    /// Prepares the way from the first row of tiles that shows in the first row wanted, or from where
    /// another run was suspended.
    pub(crate) fn new(
        tiling: &'a Tiling,
        options: &'a Options,
        source: &'a mut dyn RowSource,
        start: Start,
        sink: &'a mut dyn RowSink,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, UpscaleError> {
        let place = match start {
            Start::Row(row) => Place::at(row, tiling, options)?,
            Start::HandOver(left) => Place::of(*left, tiling, options)?,
        };
        Ok(Self {
            input: Input::new(source),
            reference: Reference::new(tiling.columns.length, tiling.rows.length),
            blender: place.blender,
            first_tile: place.tile,
            next_tile: place.tile,
            fixer: place.fixer,
            output: Output {
                sink,
                stride: 3 * SCALE * tiling.columns.length,
                first_row: place.wanted,
                next_row: place.next_fixed,
                waited: Duration::ZERO,
            },
            watch: Watch::new(observer, tiling.len()),
            next_row: place.next_row,
            tiling,
            options,
        })
    }

    /// Walks all tiles from the first that is needed.
    pub(crate) fn run(mut self, engine: &mut dyn EnlargeTiles) -> Result<Spent, UpscaleError> {
        let tiles = self.tiling.len();
        while self.next_tile < tiles {
            let batch = Batch {
                first: self.next_tile,
                count: self.options.tile_batch.min(tiles - self.next_tile),
            };
            self.input.hold(self.needed(batch))?;
            let pixels = self.cut(batch)?;
            let decoded = match engine.enlarge(batch, &pixels, &mut self.watch) {
                Err(UpscaleError::Cancelled) if self.is_to_suspend() => return Err(self.suspend()),
                done => done?,
            };
            host::with_values(&decoded, |values| self.blend(batch, values))
                .map_err(|source| UpscaleError::from_candle("blend", batch.first, source))??;
            self.next_tile += batch.count;
            if self.next_tile < tiles && self.is_to_suspend() {
                return Err(self.suspend());
            }
            let told = self.watch.report(self.next_tile);
            let whole_in_time = self.next_tile == tiles && self.is_to_suspend();
            if !whole_in_time {
                told?;
            }
        }
        self.watch.hand_over()?;
        let tiles = tiles - self.first_tile;
        Ok(Spent {
            timings: self.watch.timings,
            tiles,
            tile_steps: tiles * self.options.steps_a_tile(),
            widened: self.watch.widened,
        })
    }

    fn is_to_suspend(&mut self) -> bool {
        self.options.color_fix.streams() && self.watch.is_to_suspend()
    }

    /// What is to be known before the next tile.
    fn suspend(self) -> UpscaleError {
        UpscaleError::Suspended(Box::new(HandOver {
            belongs_to: BelongsTo::new(self.tiling, self.options),
            next_tile: self.next_tile,
            next_row: self.next_row,
            next_fixed: self.output.next_row,
            wanted: self.output.first_row,
            sums: self.blender.into_sums(),
            fixer: self.fixer,
            computed: self.next_tile - self.first_tile,
        }))
    }

    /// The input's rows that a batch needs, from the first that anything will need.
    fn needed(&self, batch: Batch) -> Range<usize> {
        let rows = |tile: usize| self.tiling.rows.needed(self.tiling.row_of(tile));
        let tiles = rows(batch.first);
        let fix = self.reference.needed(self.next_row..self.next_row);
        tiles.start.min(fix.start)..rows(batch.first + batch.count - 1).end
    }

    /// The batch's tiles, `[B, 3, p, p]` in `[0, 1]`.
    fn cut(&self, batch: Batch) -> Result<Tensor, UpscaleError> {
        let side = self.tiling.tile;
        let mut pixels = Vec::with_capacity(batch.count * 3 * side * side);
        let held = self.input.held();
        for tile in batch.first..batch.first + batch.count {
            self.tiling.cut(|y| held.row(y), tile, &mut pixels);
        }
        Tensor::from_vec(pixels, (batch.count, 3, side, side), &Device::Cpu)
            .map_err(|source| UpscaleError::from_candle("cut", batch.first, source))
    }

    /// Adds a batch of enlarged tiles and hands over the rows that this finishes.
    fn blend(&mut self, batch: Batch, decoded: &[f32]) -> Result<(), UpscaleError> {
        let each = decoded.chunks_exact(decoded.len() / batch.count);
        for (tile, values) in (batch.first..).zip(each) {
            let started = Instant::now();
            self.blender.add(tile, values);
            self.watch.timings.blend += started.elapsed();
            if (tile + 1).is_multiple_of(self.tiling.columns.tiles()) {
                self.finish_row(self.tiling.row_of(tile))?;
            }
        }
        Ok(())
    }

    /// Hands over what is final after a row of tiles.
    fn finish_row(&mut self, tile_row: usize) -> Result<(), UpscaleError> {
        let end = self.blender.final_rows(tile_row).end;
        while self.next_row < end {
            let rows = self.next_row..end.min(self.next_row + self.options.band_rows.max(1));
            self.finish(rows.clone())?;
            self.next_row = rows.end;
        }
        let started = Instant::now();
        self.blender.give_out(tile_row);
        self.watch.timings.blend += started.elapsed();
        Ok(())
    }

    /// Fixes rows that are final and hands over what the fix gives for them.
    fn finish(&mut self, rows: Range<usize>) -> Result<(), UpscaleError> {
        let stride = self.output.stride;
        let started = Instant::now();
        let mut blended = vec![0.0; rows.len() * stride];
        self.blender.read(rows.clone(), &mut blended);
        self.watch.timings.blend += started.elapsed();
        self.watch.keep_rows("image_raw", &blended, stride)?;

        self.input.reach(self.reference.needed(rows.clone()).end)?;
        let (started, waited) = (Instant::now(), self.output.waited);
        let mut reference = Vec::new();
        if self.options.color_fix != ColorFix::None {
            reference.resize(blended.len(), 0.0);
            let held = self.input.held();
            let lines = reference.par_chunks_mut(stride).enumerate();
            lines.for_each(|(i, line)| self.reference.row(rows.start + i, |y| held.row(y), line));
        }
        let (output, watch) = (&mut self.output, &mut self.watch);
        let mut give = |fixed: &[f32]| output.give(fixed, watch);
        self.fixer.push(&mut blended, &reference, &mut give)?;
        let waited = self.output.waited - waited;
        self.watch.timings.color_fix += started.elapsed().saturating_sub(waited);
        Ok(())
    }
}

/// Where a run begins, and what it knows there.
struct Place<'a> {
    tile: usize,
    blender: Blender<'a>,
    fixer: Fixer,
    /// The first row that the sink wants.
    wanted: usize,
    /// The row that comes next out of the fix.
    next_fixed: usize,
    /// The row to be blended next.
    next_row: usize,
}

impl<'a> Place<'a> {
    /// The first row of tiles that shows in a row of the result.
    fn at(first_row: u32, tiling: &'a Tiling, options: &Options) -> Result<Self, UpscaleError> {
        let size = result_size(tiling);
        let wanted = first_row as usize;
        if wanted >= size.height {
            let rows = u32::try_from(size.height).unwrap_or(u32::MAX);
            return Err(UpscaleError::FirstRow { first_row, rows });
        }
        let next_row = options.color_fix.first_row_needed(wanted);
        let padded = tiling.rows.before + next_row / SCALE;
        let tile_row = tiling.rows.first_tile_over(padded);
        Ok(Self {
            tile: tile_row * tiling.columns.tiles(),
            blender: Blender::new(tiling, tile_row),
            fixer: Fixer::new(options.color_fix, size, wanted),
            wanted,
            next_fixed: if next_row == 0 { 0 } else { wanted },
            next_row,
        })
    }

    /// Where another run was suspended.
    fn of(left: HandOver, tiling: &'a Tiling, options: &Options) -> Result<Self, UpscaleError> {
        let belongs = left.belongs_to == BelongsTo::new(tiling, options);
        let fits = left.fixer.fits(result_size(tiling));
        if !belongs || !fits || left.next_tile >= tiling.len() {
            return Err(UpscaleError::HandOver);
        }
        let tile_row = tiling.row_of(left.next_tile);
        Ok(Self {
            tile: left.next_tile,
            blender: Blender::resume(tiling, tile_row, left.sums).ok_or(UpscaleError::HandOver)?,
            fixer: left.fixer,
            wanted: left.wanted,
            next_fixed: left.next_fixed,
            next_row: left.next_row,
        })
    }
}

fn result_size(tiling: &Tiling) -> Size {
    Size {
        stride: 3 * SCALE * tiling.columns.length,
        height: SCALE * tiling.rows.length,
    }
}

/// The sink's side of a run.
struct Output<'a> {
    sink: &'a mut dyn RowSink,
    stride: usize,
    /// The first row that the sink wants.
    first_row: usize,
    /// The row that comes next out of the fix.
    next_row: usize,
    /// Time spent in the sink.
    waited: Duration,
}

impl Output<'_> {
    fn give(&mut self, rows: &[f32], watch: &mut Watch<'_>) -> Result<(), UpscaleError> {
        let first = self.next_row;
        self.next_row += rows.len() / self.stride;
        if self.next_row <= self.first_row {
            return Ok(());
        }
        let unwanted = self.first_row.saturating_sub(first);
        let rows = &rows[unwanted * self.stride..];
        watch.keep_rows("image", rows, self.stride)?;
        let started = Instant::now();
        let first = u32::try_from(first + unwanted).unwrap_or(u32::MAX);
        self.sink
            .take(first, rows)
            .map_err(UpscaleError::from_sink)?;
        self.waited += started.elapsed();
        Ok(())
    }
}
