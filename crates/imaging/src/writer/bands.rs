//! What a band becomes in each format.

use super::{
    Shape,
    checkpoint::State,
    jpeg,
    png::{self, Position},
    png_head,
    sheets::{Sheet, Written},
    tiff::Strips,
    webp,
};
use crate::{EncodeError, EncodeOptions, Format};

/// Everything that one band leaves behind for the next.
#[derive(Debug)]
pub(super) enum Bands {
    /// Restart intervals share nothing.
    Jpeg,
    /// The Adler-32 of all filtered rows so far.
    Png {
        adler: u32,
    },
    Tiff(Strips),
    WebP,
}

impl Bands {
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg,
            Format::Png => Self::Png { adler: 1 },
            Format::Tiff => Self::Tiff(Strips::default()),
            Format::WebP => Self::WebP,
        }
    }

    /// Goes on from `state`; appends to `ready` those of the `held` bytes that can be taken.
    ///
    /// - `above`: all bands so far.
    pub(super) fn resume(
        state: &State,
        above: &[Written],
        held: &[u8],
        ready: &mut Vec<u8>,
    ) -> Result<Self, EncodeError> {
        Ok(match state {
            State::Jpeg => {
                ready.extend_from_slice(held);
                Self::Jpeg
            }
            State::Png { adler } => {
                ready.extend_from_slice(held);
                Self::Png { adler: *adler }
            }
            State::Tiff { strips } => {
                let mut strips = Strips::resume(above, strips.clone(), held)
                    .ok_or(EncodeError::Checkpoint("its strips have other sizes"))?;
                strips.release(ready);
                Self::Tiff(strips)
            }
            State::WebP => return Err(EncodeError::Checkpoint("webp is written in one go")),
        })
    }

    /// Writes the band that begins at `row` and appends to `out` what is finished.
    pub(super) fn push(
        &mut self,
        shape: &Shape,
        options: &EncodeOptions,
        row: u32,
        samples: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Jpeg => {
                let index = row / shape.band_rows;
                jpeg::append_band(shape, samples, index, options, out)?;
            }
            Self::Png { adler } => {
                let position = Position {
                    first: row == 0,
                    last: row + shape.rows_of_band(row) == shape.height,
                };
                if position.first {
                    png_head::append(shape, options, out);
                }
                png::append_band(shape, samples, position, adler, out);
            }
            Self::Tiff(strips) => {
                strips.push(shape, options, samples, shape.rows_of_band(row), out);
            }
            Self::WebP => webp::append_file(shape, samples, options, out)?,
        }
        Ok(())
    }

    /// What is to be known of all bands so far.
    pub(super) fn state(&self) -> State {
        match self {
            Self::Jpeg => State::Jpeg,
            Self::Png { adler } => State::Png { adler: *adler },
            Self::Tiff(strips) => State::Tiff {
                strips: strips.sizes.clone(),
            },
            Self::WebP => State::WebP,
        }
    }

    /// The row behind the last band whose bytes were all appended, and the state at that row.
    ///
    /// - `row`: behind the last band pushed; like what is returned, counted through all pages.
    pub(super) fn released(&self, row: u32) -> (u32, State) {
        let Self::Tiff(strips) = self else {
            return (row, self.state());
        };
        let state = State::Tiff {
            strips: strips.sizes[..strips.released()].to_vec(),
        };
        (row - strips.held_rows(), state)
    }

    /// Appends the bytes of finished bands that were kept back.
    pub(super) fn append_held(&self, out: &mut Vec<u8>) {
        if let Self::Tiff(strips) = self {
            for strip in strips.held() {
                out.extend_from_slice(strip);
            }
        }
    }

    /// The beginning of the file, if that is known only at its end.
    pub(super) fn head(self, sheets: &[Sheet]) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Tiff(strips) => strips.head(sheets),
            Self::Jpeg | Self::Png { .. } | Self::WebP => Ok(Vec::new()),
        }
    }
}
