//! Rows between the engine's thread and the rest of the worker.

use imaging::Pixels;
use invsr::{RowSink, RowSource, Stop};
use tokio::sync::mpsc;

/// The rows of a decoded picture.
#[derive(Debug)]
pub(crate) struct PixelRows {
    pixels: Pixels,
    next: usize,
}

impl PixelRows {
    pub(crate) fn new(pixels: Pixels) -> Self {
        Self { pixels, next: 0 }
    }
}

impl RowSource for PixelRows {
    fn width(&self) -> u32 {
        self.pixels.width
    }

    fn height(&self) -> u32 {
        self.pixels.height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        let samples = &self.pixels.rgb[self.next * row.len()..][..row.len()];
        for (value, &sample) in row.iter_mut().zip(samples) {
            *value = f32::from(sample) / 255.0;
        }
        self.next += 1;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        self.next += rows as usize;
        Ok(())
    }
}

/// Finished rows as 8 bit RGB, to whoever writes them. When the other side is full the engine waits;
/// when it is gone the work is cancelled.
#[derive(Debug)]
pub(crate) struct Bands(pub(crate) mpsc::Sender<Vec<u8>>);

impl RowSink for Bands {
    fn take(&mut self, _first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        let samples = Pixels::from_unit(0, 0, rows).rgb;
        self.0.blocking_send(samples).map_err(|_| Stop::Cancelled)
    }
}
