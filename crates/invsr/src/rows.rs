//! Where an image's rows come from and go to, when it is too large to lie in memory whole.
//!
//! Both sides are called on the engine's thread and may block it: a source that waits for a decoder
//! and a sink that waits for a writer is how they keep step.

use std::error::Error;

use crate::image::RgbImage;

/// The input, row by row, strictly from the top downwards.
pub trait RowSource {
    /// Pixels a row.
    fn width(&self) -> u32;

    /// Rows of the image, those passed already included.
    fn height(&self) -> u32;

    /// Reads the next row; called at most [`height`](Self::height) times, skipped rows included.
    ///
    /// - `row`: `width * 3` values to overwrite: R, G, B of the first pixel, then of its right
    ///   neighbour, in `[0, 1]`.
    ///
    /// # Errors
    /// [`Stop`] ends the work.
    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop>;

    /// Passes over the next `rows` rows. Work that is resumed skips all that it needs no more, so
    /// a source that can should do less than read them, which is what happens by default.
    ///
    /// # Errors
    /// [`Stop`] ends the work.
    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        let mut row = vec![0.0; self.width() as usize * 3];
        (0..rows).try_for_each(|_| self.read_row(&mut row))
    }
}

/// The result, in bands of finished rows from the top downwards.
pub trait RowSink {
    /// Takes the next rows. Together the calls bring every row from the first one asked for to the
    /// last of the image, once and in order, each as soon as no tile that is still to come can
    /// touch it.
    ///
    /// The end of a band is a resume point: once these rows are safe, the work may be given up and
    /// later be done from `first_row + rows` on, with the same result.
    ///
    /// - `first_row`: where the band begins, in rows of the result.
    /// - `rows`: one or more whole rows of `4 * width * 3` values, in `[0, 1]` up to rounding.
    ///
    /// # Errors
    /// [`Stop`] ends the work.
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop>;
}

/// How a source or a sink ends the work. Any error becomes one through `?`.
#[derive(Debug)]
pub enum Stop {
    /// It was asked for: [`UpscaleError::Cancelled`](crate::UpscaleError::Cancelled).
    Cancelled,
    /// It cannot go on: [`UpscaleError::Source`](crate::UpscaleError::Source) or
    /// [`UpscaleError::Sink`](crate::UpscaleError::Sink), with this as their cause.
    Failed(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// The rows of an image in memory.
#[derive(Debug)]
pub struct ImageRows<'a> {
    image: &'a RgbImage,
    next: usize,
}

impl<'a> ImageRows<'a> {
    /// Begins at the top.
    pub fn new(image: &'a RgbImage) -> Self {
        Self { image, next: 0 }
    }
}

impl RowSource for ImageRows<'_> {
    fn width(&self) -> u32 {
        self.image.width
    }

    fn height(&self) -> u32 {
        self.image.height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        row.copy_from_slice(self.image.row(self.next));
        self.next += 1;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        self.next += rows as usize;
        Ok(())
    }
}

/// Puts bands back together.
pub(crate) struct Collect(pub Vec<f32>);

impl RowSink for Collect {
    fn take(&mut self, _first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.0.extend_from_slice(rows);
        Ok(())
    }
}
