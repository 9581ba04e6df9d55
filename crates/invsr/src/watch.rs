//! The observer's side of a run: how far it is, whether to go on, what each stage gave and took.

use std::ops::ControlFlow;

use candle_core::{Device, Tensor};

use crate::error::UpscaleError;
use crate::upscale::{Observer, Progress, Timings, Widened};

/// Reports to an observer, and keeps for it what it wants.
pub(crate) struct Watch<'a> {
    observer: &'a mut dyn Observer,
    tiles_total: usize,
    pub timings: Timings,
    pub widened: Option<Widened>,
    /// The tile of the last batch that is computed again: what is kept of it takes the place of what
    /// was kept before.
    row: Option<usize>,
    /// Filled only for an observer that wants tensors.
    kept: Vec<Kept>,
}

/// A tensor in the parts in which it came.
struct Kept {
    name: String,
    /// The dimension that the parts share out.
    along: usize,
    parts: Vec<Tensor>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(observer: &'a mut dyn Observer, tiles_total: usize) -> Self {
        Self {
            observer,
            tiles_total,
            timings: Timings::default(),
            widened: None,
            row: None,
            kept: Vec::new(),
        }
    }

    /// Says how far the image is and asks whether to go on.
    pub(crate) fn report(&mut self, tiles_done: usize) -> Result<(), UpscaleError> {
        match self.observer.progress(Progress {
            tiles_done,
            tiles_total: self.tiles_total,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(UpscaleError::Cancelled),
        }
    }

    /// Whether the observer wants the run to be suspended.
    pub(crate) fn is_to_suspend(&mut self) -> bool {
        self.observer.suspend()
    }

    /// Notes a tile that is computed again in `f32`.
    pub(crate) fn note_widened(&mut self, tile: usize, stage: &'static str) {
        tracing::debug!(tile.index = tile, stage, "computed again in f32");
        let noted = self.widened.get_or_insert(Widened {
            tiles: 0,
            first_tile: tile,
            stage,
        });
        noted.tiles += 1;
    }

    /// Says that what comes next is of one tile of the last batch again, or no longer.
    pub(crate) fn replace_row(&mut self, row: Option<usize>) {
        self.row = row;
    }

    /// Keeps a batch's part of a stage tensor, tiles first.
    pub(crate) fn keep(&mut self, name: &str, tensor: &Tensor) -> Result<(), UpscaleError> {
        self.keep_part(name, 0, || Ok(tensor.clone()))
    }

    /// Keeps a tensor that is the same for all batches.
    pub(crate) fn keep_once(&mut self, name: &str, tensor: &Tensor) -> Result<(), UpscaleError> {
        if self.kept.iter().any(|kept| kept.name == name) {
            return Ok(());
        }
        self.keep(name, tensor)
    }

    /// Keeps rows of an image that will be `[1, 3, H, W]`.
    ///
    /// - `stride`: values a row.
    pub(crate) fn keep_rows(
        &mut self,
        name: &str,
        rows: &[f32],
        stride: usize,
    ) -> Result<(), UpscaleError> {
        let shape = (1, rows.len() / stride, stride / 3, 3);
        self.keep_part(name, 2, || {
            Tensor::from_slice(rows, shape, &Device::Cpu)?
                .permute((0, 3, 1, 2))?
                .contiguous()
        })
    }

    fn keep_part(
        &mut self,
        name: &str,
        along: usize,
        part: impl FnOnce() -> candle_core::Result<Tensor>,
    ) -> Result<(), UpscaleError> {
        if !self.observer.wants_tensors() {
            return Ok(());
        }
        let on_host = |part: Tensor| part.to_device(&Device::Cpu);
        let part = part().and_then(on_host).map_err(refused(name))?;
        match self.kept.iter_mut().find(|kept| kept.name == name) {
            Some(kept) => match (self.row, kept.parts.last_mut()) {
                (Some(row), Some(last)) => {
                    *last = last.slice_scatter0(&part, row).map_err(refused(name))?;
                }
                _ => kept.parts.push(part),
            },
            None => self.kept.push(Kept {
                name: name.to_owned(),
                along,
                parts: vec![part],
            }),
        }
        Ok(())
    }

    /// Gives the observer all that was kept.
    pub(crate) fn hand_over(&mut self) -> Result<(), UpscaleError> {
        for Kept { name, along, parts } in std::mem::take(&mut self.kept) {
            Tensor::cat(&parts, along)
                .and_then(|tensor| self.observer.tensor(&name, &tensor))
                .map_err(refused(&name))?;
        }
        Ok(())
    }
}

fn refused(name: &str) -> impl Fn(candle_core::Error) -> UpscaleError + '_ {
    |source| UpscaleError::Observer {
        name: name.to_owned(),
        source,
    }
}
