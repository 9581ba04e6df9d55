//! Rows between files and the engine.

use std::time::{Duration, Instant};

use imaging::{DecodeError, Finish, Reader, Writer};
use invsr::{RowSink, RowSource, Stop};

use super::draft::Draft;
use super::failure::Failure;

/// The rows of a file.
pub struct FileRows {
    reader: Reader<'static>,
    pub decoding: Duration,
}

impl FileRows {
    pub fn new(reader: Reader<'static>) -> Self {
        Self {
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
        self.reader.read_unit_rows(row)?;
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

/// Finished rows, brought into the kind of the source and encoded as they come.
pub struct FileSink {
    /// Of the page in hand.
    finish: Option<Finish<'static>>,
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
            finish: None,
            writer,
            draft,
            encoding: Duration::ZERO,
            writing: Duration::ZERO,
            failure: None,
        }
    }

    /// The rows that follow are those of another page.
    pub fn begin_page(&mut self, finish: Finish<'static>) {
        self.finish = Some(finish);
    }

    fn add(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Failure> {
        let started = Instant::now();
        let finish = self.finish.as_mut().expect("no rows come before a page");
        let samples = finish.rows(first_row, rows);
        let samples = samples.map_err(|error| Failure::decoding(&error))?;
        let pushed = self.writer.push_samples(&samples);
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
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.add(first_row, rows).map_err(|failure| {
            self.failure = Some(failure);
            Stop::Cancelled
        })
    }
}
