//! Rows between files and the engine.

use std::time::{Duration, Instant};

use imaging::{DecodeError, Pixels, Reader, Writer};
use invsr::{RowSink, RowSource, Stop};

use super::draft::Draft;
use super::failure::Failure;

/// The rows of a file.
pub struct FileRows {
    reader: Reader<'static>,
    samples: Vec<u8>,
    pub decoding: Duration,
}

impl FileRows {
    pub fn new(reader: Reader<'static>) -> Self {
        Self {
            samples: vec![0; reader.row_bytes()],
            reader,
            decoding: Duration::ZERO,
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
        let started = Instant::now();
        self.reader.read_rows(&mut self.samples)?;
        for (value, &sample) in row.iter_mut().zip(&self.samples) {
            *value = f32::from(sample) / 255.0;
        }
        self.decoding += started.elapsed();
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        Ok(self.reader.skip_rows(rows)?)
    }
}

/// What went wrong in the source, if it was that.
pub fn decode_failure(cause: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    Some(Failure::decoding(cause.downcast_ref::<DecodeError>()?))
}

/// Finished rows, encoded as they come.
pub struct FileSink {
    pub writer: Writer,
    pub draft: Draft,
    pub encoding: Duration,
    pub writing: Duration,
    /// Why it stopped the engine.
    pub failure: Option<Failure>,
}

impl FileSink {
    pub fn new(writer: Writer, draft: Draft) -> Self {
        Self {
            writer,
            draft,
            encoding: Duration::ZERO,
            writing: Duration::ZERO,
            failure: None,
        }
    }

    fn add(&mut self, rows: &[f32]) -> Result<(), Failure> {
        let started = Instant::now();
        let samples = Pixels::from_unit(0, 0, rows).rgb;
        let pushed = self.writer.push_rows(&samples);
        let bytes = self.writer.take();
        self.encoding += started.elapsed();
        pushed.map_err(|error| Failure::encoding(&error))?;
        let started = Instant::now();
        let written = self.draft.push(&bytes);
        self.writing += started.elapsed();
        written
    }
}

impl RowSink for FileSink {
    fn take(&mut self, _first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.add(rows).map_err(|failure| {
            self.failure = Some(failure);
            Stop::Cancelled
        })
    }
}
