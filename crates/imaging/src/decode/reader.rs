//! A file opened for reading in rows.

use super::{
    Header, Info, Source, icc, info_of,
    input::{Failure, Input},
    rows::StoredRows,
    stage::{DISAGREES, Stage, header},
};
use crate::{DecodeError, EncodeOptions, Format, Limits, Pixels};

/// Reads a file in rows, upright, from the top downwards.
///
/// What is in memory at a time:
///
/// - PNG: some rows;
/// - TIFF: one strip, or one row of tiles; some rows of strips that are large and not compressed;
/// - JPEG and WebP: the file and the whole picture, 3 bytes a pixel (a progressive JPEG 12 while it
///   is decoded);
/// - a picture that is stored sideways or upside down, and an interlaced PNG: the whole picture,
///   twice while it is turned.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use imaging::{EncodeOptions, Format, Limits, Pixels, Reader};
/// # let file = imaging::encode(&Pixels::gray(2, 3, &[1; 6]), &EncodeOptions::new(Format::Png))?;
/// let mut reader = Reader::open(Box::new(std::io::Cursor::new(file)), &Limits::default())?;
/// let mut two_rows = vec![0; 2 * reader.row_bytes()];
/// assert_eq!(reader.read_rows(&mut two_rows)?, 2);
/// assert_eq!(reader.read_rows(&mut two_rows)?, 1);
/// assert_eq!(reader.read_rows(&mut two_rows)?, 0);
/// # Ok(())
/// # }
/// ```
pub struct Reader<'a> {
    info: Info,
    header: Header,
    warnings: Vec<String>,
    limits: Limits,
    failure: Failure,
    stage: Stage<'a>,
    /// Samples that are decoded, and how many of them are given out.
    band: Vec<u8>,
    given: usize,
    next_row: u32,
}

impl<'a> Reader<'a> {
    /// Opens a file and reads its header; refuses what [`probe`](super::probe) refuses.
    ///
    /// # Errors
    /// [`DecodeError`]; damage behind the header shows when its row is read.
    pub fn open(source: Box<dyn Source + 'a>, limits: &Limits) -> Result<Self, DecodeError> {
        Self::of_input(Input::of_source(source).map_err(DecodeError::Read)?, limits)
    }

    /// [`open`](Self::open) for a file in memory, which is not copied.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn from_bytes(bytes: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        Self::of_input(Input::of_bytes(bytes), limits)
    }

    fn of_input(mut input: Input<'a>, limits: &Limits) -> Result<Self, DecodeError> {
        limits.check_bytes(input.len())?;
        let failure = input.failure();
        let (format, mut header) = header(&mut input, limits)
            .map_err(|error| failure.take().map_or(error, DecodeError::Read))?;

        let mut warnings = std::mem::take(&mut header.warnings);
        let (icc, dropped) = icc::usable(header.icc.take());
        header.icc = icc;
        warnings.extend(dropped);
        if !header.left_behind.is_empty() {
            warnings.push(format!(
                "not carried to the result: {}",
                header.left_behind.join(", ")
            ));
        }
        Ok(Self {
            info: info_of(format, &header),
            header,
            warnings,
            limits: *limits,
            failure,
            stage: Stage::Opened(input),
            band: Vec::new(),
            given: 0,
            next_row: 0,
        })
    }

    /// What the file declares about itself.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The ICC profile that gives the samples their colour; `None` means sRGB.
    #[must_use]
    pub fn icc(&self) -> Option<&[u8]> {
        self.header.icc.as_deref()
    }

    /// What a careful person should know, as sentences: metadata left behind, bytes after the end.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The options that write a result like this file, in `format` or else in the same format.
    #[must_use]
    pub fn encode_like(&self, format: Option<Format>) -> EncodeOptions {
        EncodeOptions {
            gray: self.info.gray,
            icc: self.header.icc.clone(),
            ..EncodeOptions::new(format.unwrap_or(self.info.format))
        }
    }

    /// Bytes in a row as it is given out: 3 a pixel.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        usize::try_from(self.info.width)
            .unwrap_or(usize::MAX)
            .saturating_mul(3)
    }

    /// The row that is read next, from 0 at the top.
    #[must_use]
    pub fn next_row(&self) -> u32 {
        self.next_row
    }

    /// Fills `rgb` with as many whole rows as it has room for and the picture has left, and returns
    /// how many; 0 behind the last row. The rest of `rgb` is left as it is.
    ///
    /// - `rgb`: [`row_bytes`](Self::row_bytes) a row, red green blue; gray is repeated in all three.
    ///
    /// # Errors
    /// [`DecodeError`] for damage in these rows or, with the last row, behind it. The reader is of no
    /// use afterwards.
    pub fn read_rows(&mut self, rgb: &mut [u8]) -> Result<u32, DecodeError> {
        let room = u32::try_from(rgb.len() / self.row_bytes()).unwrap_or(u32::MAX);
        let rows = room.min(self.info.height - self.next_row);
        let wanted = usize::try_from(rows).unwrap_or(usize::MAX) * self.row_bytes();
        let mut rest = &mut rgb[..wanted];
        while !rest.is_empty() {
            self.fill_band()?;
            let samples = &self.band[self.given..];
            let channels = self.header.channels();
            let pixels = (samples.len() / channels).min(rest.len() / 3);
            let (now, later) = rest.split_at_mut(pixels * 3);
            let samples = &samples[..pixels * channels];
            if self.header.gray {
                for (pixel, sample) in now.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
                    *pixel = [*sample; 3];
                }
            } else {
                now.copy_from_slice(samples);
            }
            self.given += pixels * channels;
            rest = later;
        }
        self.next_row += rows;
        self.end()?;
        Ok(rows)
    }

    /// Leaves out `rows` rows, or as many as are left. Strips and tiles of TIFF are not even read;
    /// of the other formats nothing is saved but the copying.
    ///
    /// # Errors
    /// [`DecodeError`] if damage is met; what was not decoded is not examined.
    pub fn skip_rows(&mut self, rows: u32) -> Result<(), DecodeError> {
        let row_samples = self.row_bytes() / 3 * self.header.channels();
        let mut left = rows.min(self.info.height - self.next_row);
        while left > 0 {
            let decoded = (self.band.len() - self.given) / row_samples;
            let skipped = if decoded > 0 {
                let skipped = left.min(u32::try_from(decoded).unwrap_or(u32::MAX));
                self.given += usize::try_from(skipped).unwrap_or(usize::MAX) * row_samples;
                skipped
            } else {
                let skipped = self.work(|rows| rows.skip(left))?;
                if skipped == 0 {
                    self.fill_band()?;
                }
                skipped
            };
            left -= skipped;
            self.next_row += skipped;
        }
        self.end()
    }

    /// All rows, for a reader of which none was read.
    pub(super) fn into_pixels(mut self) -> Result<Pixels, DecodeError> {
        let Info { width, height, .. } = self.info;
        let rows = usize::try_from(height).unwrap_or(usize::MAX);
        let row_bytes = self.row_bytes();
        self.fill_band()?;
        // What is decoded whole need not be copied.
        if !self.info.gray && self.band.len() == row_bytes * rows {
            let rgb = std::mem::take(&mut self.band);
            self.given = 0;
            self.next_row = height;
            self.end()?;
            return Ok(Pixels { width, height, rgb });
        }
        let mut rgb = vec![0; row_bytes * rows];
        self.read_rows(&mut rgb)?;
        Ok(Pixels { width, height, rgb })
    }

    /// Makes sure that there are samples to give out.
    fn fill_band(&mut self) -> Result<(), DecodeError> {
        if self.given < self.band.len() {
            return Ok(());
        }
        let mut band = std::mem::take(&mut self.band);
        self.work(|rows| rows.next(&mut band))?;
        let row_samples = self.row_bytes() / 3 * self.header.channels();
        if band.is_empty() || !band.len().is_multiple_of(row_samples) {
            return Err(self.disagrees());
        }
        (self.band, self.given) = (band, 0);
        Ok(())
    }

    /// Behind the last row, checks the end of the file and lets go of it.
    fn end(&mut self) -> Result<(), DecodeError> {
        if self.next_row == self.info.height && !matches!(self.stage, Stage::Ended) {
            self.work(|rows| rows.finish())?;
            self.stage = Stage::Ended;
            self.band = Vec::new();
            self.given = 0;
        }
        Ok(())
    }

    fn work<T>(
        &mut self,
        work: impl FnOnce(&mut dyn StoredRows) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let done = self
            .stage
            .work(self.info.format, &self.header, &self.limits, work);
        done.map_err(|error| self.failure.take().map_or(error, DecodeError::Read))
    }

    fn disagrees(&self) -> DecodeError {
        DecodeError::corrupt(self.info.format, DISAGREES)
    }
}
