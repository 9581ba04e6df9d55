//! The rows of the input that are still needed, between a source and the tiles.

use std::collections::VecDeque;
use std::ops::Range;

use crate::error::UpscaleError;
use crate::rows::RowSource;

/// A window that moves down the image.
pub(crate) struct Input<'a> {
    source: &'a mut dyn RowSource,
    stride: usize,
    held: Held,
    /// Rows that were given up, to be read into.
    spare: Vec<Vec<f32>>,
}

/// The rows in the window.
#[derive(Default)]
pub(crate) struct Held {
    /// The image's row that the window begins with.
    first: usize,
    rows: VecDeque<Vec<f32>>,
}

impl Held {
    /// A row, interleaved RGB.
    pub(crate) fn row(&self, y: usize) -> &[f32] {
        &self.rows[y - self.first]
    }
}

impl<'a> Input<'a> {
    pub(crate) fn new(source: &'a mut dyn RowSource) -> Self {
        Self {
            stride: 3 * source.width() as usize,
            source,
            held: Held::default(),
            spare: Vec::new(),
        }
    }

    /// Moves the window on, so that it begins with `needed.start` and holds at least `needed`.
    /// Rows before that are gone for good, hence `needed` never begins above an earlier one.
    pub(crate) fn hold(&mut self, needed: Range<usize>) -> Result<(), UpscaleError> {
        let held = &mut self.held;
        while held.first < needed.start
            && let Some(row) = held.rows.pop_front()
        {
            held.first += 1;
            self.spare.push(row);
        }
        if held.first < needed.start {
            let rows = u32::try_from(needed.start - held.first).unwrap_or(u32::MAX);
            self.source.skip(rows).map_err(UpscaleError::from_source)?;
            held.first = needed.start;
        }
        self.reach(needed.end)
    }

    /// Makes sure that the window holds the rows above `end`.
    pub(crate) fn reach(&mut self, end: usize) -> Result<(), UpscaleError> {
        while self.held.first + self.held.rows.len() < end {
            let spare = self.spare.pop();
            let mut row = spare.unwrap_or_else(|| vec![0.0; self.stride]);
            self.source
                .read_row(&mut row)
                .map_err(UpscaleError::from_source)?;
            self.held.rows.push_back(row);
        }
        Ok(())
    }

    /// The window.
    pub(crate) fn held(&self) -> &Held {
        &self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Stop;

    /// Every value of row `y` is `y`; notes what was asked of it.
    #[derive(Default)]
    struct Numbered {
        next: u8,
        read: Vec<u8>,
    }

    impl RowSource for Numbered {
        fn width(&self) -> u32 {
            2
        }

        fn height(&self) -> u32 {
            100
        }

        fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
            if self.next == 60 {
                return Err(Stop::Cancelled);
            }
            row.fill(f32::from(self.next));
            self.read.push(self.next);
            self.next += 1;
            Ok(())
        }

        fn skip(&mut self, rows: u32) -> Result<(), Stop> {
            self.next += u8::try_from(rows)?;
            Ok(())
        }
    }

    #[test]
    fn only_what_is_needed_is_read_and_kept() {
        let mut source = Numbered::default();
        let mut input = Input::new(&mut source);
        for needed in [5..8, 6..8, 7..12, 20..22] {
            input.hold(needed.clone()).unwrap();
            assert_eq!(input.held.rows.len(), needed.len());
            for y in needed {
                assert_eq!(input.held().row(y), [y as f32; 6]);
            }
        }
        let stopped = input.hold(58..61).unwrap_err();
        assert!(matches!(stopped, UpscaleError::Cancelled));
        assert_eq!(source.read, [5, 6, 7, 8, 9, 10, 11, 20, 21, 58, 59]);
    }
}
