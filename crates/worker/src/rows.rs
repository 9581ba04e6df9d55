//! Rows between the engine's thread and the rest of the worker.

use imaging::{Finish, Reader};
use invsr::{RowSink, RowSource, Stop};
use tokio::sync::mpsc;

/// The rows of a file.
pub(crate) struct FileRows(pub(crate) Reader<'static>);

impl RowSource for FileRows {
    fn width(&self) -> u32 {
        self.0.info().width
    }

    fn height(&self) -> u32 {
        self.0.info().height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        self.0.read_unit_rows(row)?;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        Ok(self.0.skip_rows(rows)?)
    }
}

/// Finished rows as samples of the result, to whoever writes them. When the other side is full the
/// engine waits; when it is gone the work is cancelled.
pub(crate) struct Bands {
    pub(crate) finish: Finish<'static>,
    pub(crate) to: mpsc::Sender<Vec<u8>>,
}

impl RowSink for Bands {
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        let samples = self.finish.rows(first_row, rows)?;
        self.to.blocking_send(samples).map_err(|_| Stop::Cancelled)
    }
}
