//! Rows in, a file out, in bands: memory does not grow with the height of the picture, and another
//! process can go on where this one was stopped.
//!
//! A band is a fixed number of rows that is compressed for itself, so a finished band is never
//! needed again. How many rows depends on the format and the width alone, hence the bytes of a file
//! do not depend on how its rows were handed in, nor on where the work was interrupted.
//! What each format makes of it stands in its file here, and why in
//! `docs/adr/0004-bands-in-files.md`.

mod bands;
mod checkpoint;
mod deflate;
mod filter;
mod jpeg;
mod jpeg_head;
mod lzw;
mod png;
mod png_head;
mod shape;
mod sheets;
mod tiff;
mod tiff_chunks;
mod tiff_directory;
mod tiff_entries;
mod tiff_metadata;
mod webp;

use bands::Bands;
pub use checkpoint::Checkpoint;
use checkpoint::State;
#[cfg(test)]
pub(crate) use deflate::zlib_stream;
use shape::Shape;
pub use sheets::Page;
use sheets::Sheets;

use crate::{Depth, EncodeError, EncodeOptions, pixels::luma_of, samples::Layout};

/// Writes a file from rows. Those of a file of several pages are counted through all of them, as if
/// they lay one below the other.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use imaging::{EncodeOptions, Format, Writer};
///
/// let mut writer = Writer::new(&EncodeOptions::new(Format::Png), 2, 3)?;
/// let mut file = Vec::new();
/// for row in 0..3 {
///     writer.push_rows(&[row; 6])?;
///     file.extend(writer.take());
/// }
/// let finished = writer.finish()?;
/// file.splice(0..0, finished.head);
/// file.extend(finished.tail);
/// assert_eq!(imaging::sniff(&file)?.kept(), Format::Png);
/// # Ok(())
/// # }
/// ```
pub struct Writer {
    sheets: Sheets,
    /// The page in hand.
    page: usize,
    /// Samples of the band that is not full.
    samples: Vec<u8>,
    /// First row of that band, in its page.
    band_row: u32,
    bands: Bands,
    /// Finished bytes that nobody has taken.
    ready: Vec<u8>,
    /// Bytes that were taken.
    taken: u64,
    /// The row behind the bytes taken, and what the next band needs; unknown between going on with
    /// held bytes and taking them.
    mark: Option<(u32, State)>,
    /// The checkpoint of row 0.
    start: Checkpoint,
}

/// The end of a file. The file is `head`, all that [`Writer::take`] gave, `tail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What stands at the beginning although it was known only at the end: empty for PNG, JPEG and
    /// WebP. For TIFF it is the whole file, or at least 5 MiB, so that it can be the first part of
    /// an upload to an object store.
    pub head: Vec<u8>,
    /// What follows the bytes taken; may be empty.
    pub tail: Vec<u8>,
}

impl Writer {
    /// Begins a file. It must not be larger than its format allows; see
    /// [`EncodeOptions::check`].
    ///
    /// - `width`, `height`: of the picture, in pixels.
    ///
    /// # Errors
    /// [`EncodeError::SideTooLong`], [`EncodeError::NoPixels`], [`EncodeError::NoTransparency`].
    pub fn new(options: &EncodeOptions, width: u32, height: u32) -> Result<Self, EncodeError> {
        let options = options.clone();
        Self::of_pages(vec![Page {
            options,
            width,
            height,
        }])
    }

    /// Begins a file of several pages.
    ///
    /// # Errors
    /// [`EncodeError::SeveralPages`] for more than one but for TIFF, [`EncodeError::NoPages`],
    /// [`EncodeError::TooManyRows`], and those of [`new`](Self::new).
    pub fn of_pages(pages: Vec<Page>) -> Result<Self, EncodeError> {
        let sheets = Sheets::new(pages)?;
        let bands = Bands::new(sheets.format());
        Ok(Self {
            mark: Some((0, bands.state())),
            start: Checkpoint::new(&sheets, bands.state()),
            sheets,
            page: 0,
            samples: Vec::new(),
            band_row: 0,
            bands,
            ready: Vec::new(),
            taken: 0,
        })
    }

    /// Goes on with a file that another writer began. The next row to push is
    /// [`Checkpoint::next_row`]; the bytes of the file are then the same as if it had never been
    /// interrupted.
    ///
    /// - `options`, `width`, `height`: those the file was begun with.
    /// - `held`: the bytes that [`suspend`](Self::suspend) gave with the checkpoint; empty for one
    ///   from [`checkpoint`](Self::checkpoint).
    ///
    /// # Errors
    /// [`EncodeError::Checkpoint`] if the checkpoint belongs to another file, to other bytes, or to
    /// another version of the file layout: begin again then. Also those of [`new`](Self::new).
    pub fn resume(
        options: &EncodeOptions,
        width: u32,
        height: u32,
        checkpoint: Checkpoint,
        held: &[u8],
    ) -> Result<Self, EncodeError> {
        let options = options.clone();
        let page = Page {
            options,
            width,
            height,
        };
        Self::resume_pages(vec![page], checkpoint, held)
    }

    /// [`resume`](Self::resume) for a file of several pages.
    ///
    /// # Errors
    /// Those of [`resume`](Self::resume) and of [`of_pages`](Self::of_pages).
    pub fn resume_pages(
        pages: Vec<Page>,
        checkpoint: Checkpoint,
        held: &[u8],
    ) -> Result<Self, EncodeError> {
        let mut writer = Self::of_pages(pages)?;
        checkpoint.check(&writer.start, &writer.sheets, held)?;
        let band_row = checkpoint.band_row();
        (writer.page, writer.band_row) = writer.sheets.find(band_row);
        writer.taken = checkpoint.bytes;
        let rows_in_hand = checkpoint.next_row - band_row;
        let samples = rows_in_hand as usize * writer.shape().row_bytes();
        let (held, samples) = held.split_at(held.len() - samples);
        writer.samples = samples.to_vec();
        let above = writer.sheets.bands_above(band_row);
        writer.bands = Bands::resume(&checkpoint.state, &above, held, &mut writer.ready)?;
        writer.mark = held.is_empty().then_some((band_row, checkpoint.state));
        Ok(writer)
    }

    /// Adds rows of 8 bit RGB from the top downwards, all of one page.
    ///
    /// - `rgb`: any number of whole rows, `width * 3` bytes each, red green blue. For a gray file
    ///   their luma is written, for one of 16 bits 257 times each sample, for one with transparency
    ///   opaque pixels. [`push_samples`](Self::push_samples) takes rows that have all that already.
    ///
    /// # Errors
    /// [`EncodeError::WrongLength`] for half a row or more rows than the picture has;
    /// [`EncodeError::Encoder`] if the encoder refuses. The file cannot be finished after an error.
    pub fn push_rows(&mut self, rgb: &[u8]) -> Result<(), EncodeError> {
        let row_rgb = self.shape().row_rgb();
        if self.shape().layout == Layout::RGB8 {
            return self.push_samples(rgb);
        }
        if !rgb.len().is_multiple_of(row_rgb) {
            return Err(self.wrong_length(rgb.len(), row_rgb));
        }
        let layout = self.shape().layout;
        let mut samples = Vec::with_capacity(self.shape().row_bytes());
        for row in rgb.chunks_exact(row_rgb) {
            samples.clear();
            append_as(layout, row, &mut samples);
            self.push_samples(&samples)?;
        }
        Ok(())
    }

    /// Adds rows from the top downwards, of samples as the options name them, all of one page.
    ///
    /// - `samples`: any number of whole rows: gray or red green blue of each pixel, then alpha if there
    ///   is one, not multiplied; those of 16 bits in the machine's order of bytes.
    ///
    /// # Errors
    /// Like [`push_rows`](Self::push_rows).
    pub fn push_samples(&mut self, samples: &[u8]) -> Result<(), EncodeError> {
        let row_bytes = self.shape().row_bytes();
        let rows = u32::try_from(samples.len() / row_bytes).unwrap_or(u32::MAX);
        let left = self.shape().height - self.band_row - self.rows_in_hand();
        if !samples.len().is_multiple_of(row_bytes) || rows > left {
            return Err(self.wrong_length(samples.len(), row_bytes));
        }
        let mut rest = samples;
        while !rest.is_empty() {
            let band_rows = self.shape().rows_of_band(self.band_row);
            let missing = usize::try_from(band_rows - self.rows_in_hand()).unwrap_or(usize::MAX);
            let (rows, after) = rest.split_at(rest.len().min(missing.saturating_mul(row_bytes)));
            rest = after;
            if rows.len() / row_bytes == missing && self.samples.is_empty() {
                self.finish_band(rows)?;
                continue;
            }
            self.add(rows);
            if self.rows_in_hand() == band_rows {
                let mut samples = std::mem::take(&mut self.samples);
                self.finish_band(&samples)?;
                samples.clear();
                self.samples = samples;
            }
        }
        Ok(())
    }

    /// The row that is to be pushed next, counted through all pages.
    #[must_use]
    pub fn next_row(&self) -> u32 {
        self.at_band() + self.rows_in_hand()
    }

    /// Rows of all pages.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.sheets.rows()
    }

    /// The page, from 0, with the row that is to be pushed next, and which of its rows that is.
    #[must_use]
    pub fn place(&self) -> (usize, u32) {
        self.sheets.find(self.next_row())
    }

    /// Finished bytes that [`take`](Self::take) would give now.
    #[must_use]
    pub fn ready_bytes(&self) -> usize {
        self.ready.len()
    }

    /// Hands over the finished bytes that follow those taken before. They are never changed again.
    /// For TIFF they do not begin with the file's first byte: see [`Finished`].
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.ready);
        self.taken += bytes.len() as u64;
        self.mark = Some(self.bands.released(self.at_band()));
        bytes
    }

    /// What another process needs to go on behind the bytes taken so far, and nothing else: rows
    /// from [`Checkpoint::next_row`] on are to be made again.
    ///
    /// `None` if the format does not stream ([`Format::streams`](crate::Format::streams)), and after
    /// [`resume`](Self::resume) with held bytes until some are taken: what it was resumed from is
    /// still the place to go on from.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let (row, state) = self.mark.clone()?;
        let checkpoint = self.start.at(row, self.taken, state, &[]);
        self.sheets.format().streams().then_some(checkpoint)
    }

    /// Stops on purpose: like [`checkpoint`](Self::checkpoint), but with all that was not taken: the
    /// bytes of finished bands (some 5 MiB more for TIFF) and the samples of the band in hand, so that
    /// no row is to be made again. `None` if the format does not stream.
    #[must_use]
    pub fn suspend(self) -> Option<(Checkpoint, Vec<u8>)> {
        let mut held = self.ready;
        self.bands.append_held(&mut held);
        let state = self.bands.state();
        let at_band = self.sheets.all()[self.page].above + self.band_row;
        let checkpoint = self.start.at(at_band, self.taken, state, &held);
        held.extend_from_slice(&self.samples);
        let row_bytes = self.sheets.all()[self.page].shape.row_bytes();
        let rows = u32::try_from(self.samples.len() / row_bytes).unwrap_or(u32::MAX);
        let checkpoint = checkpoint.with_rows_in_hand(rows, &held);
        self.sheets.format().streams().then_some((checkpoint, held))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`EncodeError::WrongLength`] if rows are missing; [`EncodeError::Encoder`] if the encoder
    /// refuses.
    pub fn finish(self) -> Result<Finished, EncodeError> {
        if self.next_row() != self.sheets.rows() {
            return Err(self.wrong_length(0, self.shape().row_bytes()));
        }
        Ok(Finished {
            head: self.bands.head(self.sheets.all())?,
            tail: self.ready,
        })
    }

    /// Of the page in hand.
    fn shape(&self) -> &Shape {
        &self.sheets.all()[self.page].shape
    }

    /// First row of the band that is not full, counted through all pages.
    fn at_band(&self) -> u32 {
        self.sheets.all()[self.page].above + self.band_row
    }

    fn rows_in_hand(&self) -> u32 {
        u32::try_from(self.samples.len() / self.shape().row_bytes()).unwrap_or(u32::MAX)
    }

    fn add(&mut self, rows: &[u8]) {
        if self.samples.is_empty() {
            let rows = usize::try_from(self.shape().rows_of_band(self.band_row)).unwrap_or(0);
            self.samples.reserve_exact(rows * self.shape().row_bytes());
        }
        self.samples.extend_from_slice(rows);
    }

    fn finish_band(&mut self, samples: &[u8]) -> Result<(), EncodeError> {
        let sheet = &self.sheets.all()[self.page];
        let (shape, ready) = (&sheet.shape, &mut self.ready);
        self.bands
            .push(shape, &sheet.options, self.band_row, samples, ready)?;
        self.band_row += shape.rows_of_band(self.band_row);
        if self.band_row == shape.height && self.page + 1 < self.sheets.all().len() {
            (self.page, self.band_row) = (self.page + 1, 0);
        }
        Ok(())
    }

    fn wrong_length(&self, pushed: usize, row_bytes: usize) -> EncodeError {
        let row_bytes = row_bytes as u64;
        let &Shape { width, height, .. } = self.shape();
        EncodeError::WrongLength {
            width,
            height,
            expected: u64::from(height) * row_bytes,
            found: u64::from(self.band_row + self.rows_in_hand()) * row_bytes + pushed as u64,
        }
    }
}

/// Appends 8 bit RGB as samples of another layout.
fn append_as(layout: Layout, rgb: &[u8], samples: &mut Vec<u8>) {
    let mut push = |sample: u8| match layout.depth {
        Depth::Eight => samples.push(sample),
        Depth::Sixteen => samples.extend([sample; 2]),
    };
    for &pixel in rgb.as_chunks::<3>().0 {
        if layout.gray {
            push(luma_of(pixel));
        } else {
            pixel.into_iter().for_each(&mut push);
        }
        if layout.alpha {
            push(u8::MAX);
        }
    }
}
