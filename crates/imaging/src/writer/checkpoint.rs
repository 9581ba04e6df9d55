//! What one process leaves behind so that another can go on with its file.

use serde::{Deserialize, Serialize};

use super::sheets::{Sheet, Sheets};
use crate::{Depth, EncodeError, Format, TiffCompression, TiffTile};

/// Changes whenever the bytes of a file would: what an older version began is then begun again.
const LAYOUT: u32 = 3;

/// Where a half-written file stands. Small: a number for each strip of a TIFF, a few numbers
/// otherwise, no pixels. Made to be serialised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    layout: u32,
    /// The first page, in full.
    first: PageRecord,
    /// All pages.
    pages: Digest,
    /// The first row that the writer that goes on needs, counted through all pages.
    pub next_row: u32,
    /// Rows above that one whose samples are held: those of a band that is not full.
    rows_in_hand: u32,
    /// Bytes that were taken from the writer: those that belong behind the head. Later ones are to
    /// be dropped.
    pub bytes: u64,
    held: Digest,
    pub(super) state: State,
}

/// What the bytes of a page depend on, beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PageRecord {
    format: Format,
    width: u32,
    height: u32,
    gray: bool,
    alpha: bool,
    depth: Depth,
    jpeg_quality: u8,
    tiff_tile: Option<TiffTile>,
    tiff_compression: TiffCompression,
    icc: Digest,
    metadata: Digest,
}

/// Tells one sequence of bytes from another by accident, not by design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Digest {
    bytes: u64,
    crc32: u32,
}

/// What the bands so far leave behind for the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Jpeg,
    Png { adler: u32 },
    Tiff { strips: Vec<u32> },
    WebP,
}

impl Checkpoint {
    /// The beginning of a file.
    pub(super) fn new(sheets: &Sheets, state: State) -> Self {
        let pages: Vec<PageRecord> = sheets.all().iter().map(PageRecord::of).collect();
        let all: String = pages.iter().map(|page| format!("{page:?}")).collect();
        Self {
            layout: LAYOUT,
            pages: Digest::of(all.as_bytes()),
            first: pages[0].clone(),
            next_row: 0,
            rows_in_hand: 0,
            bytes: 0,
            held: Digest::of(&[]),
            state,
        }
    }

    /// The same file further down.
    ///
    /// - `held`: finished bytes that were not taken.
    pub(super) fn at(&self, next_row: u32, bytes: u64, state: State, held: &[u8]) -> Self {
        Self {
            next_row,
            rows_in_hand: 0,
            bytes,
            held: Digest::of(held),
            state,
            ..self.clone()
        }
    }

    /// The same with rows of the next band, whose samples follow the finished bytes in `held`.
    pub(super) fn with_rows_in_hand(self, rows: u32, held: &[u8]) -> Self {
        Self {
            next_row: self.next_row + rows,
            rows_in_hand: rows,
            held: Digest::of(held),
            ..self
        }
    }

    /// The first row of the band that is not full.
    pub(super) fn band_row(&self) -> u32 {
        self.next_row - self.rows_in_hand
    }

    /// Checks that this belongs to the file that begins as `fresh` does, and to the bytes `held`.
    ///
    /// # Errors
    /// [`EncodeError::Checkpoint`] says what is different.
    pub(super) fn check(
        &self,
        fresh: &Self,
        sheets: &Sheets,
        held: &[u8],
    ) -> Result<(), EncodeError> {
        let refuse = |what| Err(EncodeError::Checkpoint(what));
        if self.layout != fresh.layout {
            return refuse("another version wrote it");
        }
        let start = |checkpoint: &Self| checkpoint.at(0, 0, State::WebP, &[]);
        if start(self) != start(fresh) {
            return refuse("it belongs to another file");
        }
        let Some(band_row) = self.next_row.checked_sub(self.rows_in_hand) else {
            return refuse("it holds more rows than there were");
        };
        if self.next_row > sheets.rows() || !sheets.is_at_a_band(band_row) {
            return refuse("its row is not the first of a band");
        }
        let chunks = |band: &super::sheets::Written| band.chunks;
        let strips_fit = match &self.state {
            State::Tiff { strips } => {
                strips.len()
                    == sheets
                        .bands_above(band_row)
                        .iter()
                        .map(chunks)
                        .sum::<usize>()
            }
            State::Jpeg | State::Png { .. } | State::WebP => true,
        };
        if !strips_fit {
            return refuse("its row is not the first of a band");
        }
        if self.held != Digest::of(held) {
            return refuse("the bytes held with it are others");
        }
        let (index, row) = sheets.find(band_row);
        let shape = &sheets.all()[index].shape;
        if self.rows_in_hand >= shape.rows_of_band(row).max(1)
            || held.len() / shape.row_bytes() < self.rows_in_hand as usize
        {
            return refuse("it lacks rows");
        }
        Ok(())
    }
}

impl PageRecord {
    fn of(sheet: &Sheet) -> Self {
        let Sheet { options, shape, .. } = sheet;
        Self {
            format: options.format,
            width: shape.width,
            height: shape.height,
            gray: shape.layout.gray,
            alpha: shape.layout.alpha,
            depth: shape.layout.depth,
            jpeg_quality: options.jpeg_quality,
            tiff_tile: options.tiff_tile,
            tiff_compression: options.tiff_compression,
            icc: Digest::of(options.icc.as_deref().unwrap_or_default()),
            metadata: Digest::of(&options.metadata.fingerprint()),
        }
    }
}

impl Digest {
    fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            crc32: crc32fast::hash(bytes),
        }
    }
}
