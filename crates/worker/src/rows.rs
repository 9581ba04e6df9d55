//! Rows between the engine's thread and the rest of the worker.

use imaging::{Pixels, Reader};
use invsr::{RowSink, RowSource, Stop};
use tokio::sync::mpsc;

/// The rows of a file.
pub(crate) struct FileRows {
    reader: Reader<'static>,
    samples: Vec<u8>,
}

impl FileRows {
    pub(crate) fn new(reader: Reader<'static>) -> Self {
        Self {
            samples: vec![0; reader.row_bytes()],
            reader,
        }
    }
}

impl RowSource for FileRows {
    fn width(&self) -> u32 {
        self.reader.info().width
    }

    fn height(&self) -> u32 {
        self.reader.info().height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        self.reader.read_rows(&mut self.samples)?;
        for (value, &sample) in row.iter_mut().zip(&self.samples) {
            *value = f32::from(sample) / 255.0;
        }
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        Ok(self.reader.skip_rows(rows)?)
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
