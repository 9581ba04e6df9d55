//! A file's rows as they are stored, upright.

use image::metadata::Orientation;

use super::{
    Header, Info, Source, Wanted, info_of,
    input::{Failure, Input},
    rows::StoredRows,
    stage::{DISAGREES, Stage, header},
    stored::Stored,
    turned,
};
use crate::{DecodeError, InputFormat, Metadata, samples::Layout};

/// Reads rows from the top downwards; samples as [`Header::layout`] says.
pub(crate) struct Native<'a> {
    info: Info,
    header: Header,
    metadata: Metadata,
    file_bytes: u64,
    failure: Failure,
    stage: Stage<'a>,
    /// Samples that are decoded, and how many of them are given out.
    band: Vec<u8>,
    given: usize,
    next_row: u32,
}

impl<'a> Native<'a> {
    pub(super) fn of_source(
        source: Box<dyn Source + 'a>,
        wanted: Wanted,
    ) -> Result<Self, DecodeError> {
        Self::of_input(Input::of_source(source).map_err(DecodeError::Read)?, wanted)
    }

    pub(super) fn of_bytes(bytes: &'a [u8], wanted: Wanted) -> Result<Self, DecodeError> {
        Self::of_input(Input::of_bytes(bytes), wanted)
    }

    fn of_input(mut input: Input<'a>, wanted: Wanted) -> Result<Self, DecodeError> {
        wanted.limits.check_bytes(input.len())?;
        let failure = input.failure();
        let (format, mut header) = header(&mut input, &wanted)
            .map_err(|error| failure.take().map_or(error, DecodeError::Read))?;
        let directory = header.page.map(|page| page.at);
        let metadata = Metadata::read(format, directory, &mut input);
        // Decoders overlook EXIF that is behind the pixels, or written in an unusual way.
        let told = metadata.orientation().and_then(Orientation::from_exif);
        if let (Orientation::NoTransforms, Some(told)) = (header.orientation, told) {
            header.orientation = told;
        }
        let metadata = metadata.of_turned(turned(header.orientation));
        if let Some(error) = failure.take() {
            return Err(DecodeError::Read(error));
        }
        Ok(Self {
            metadata,
            info: info_of(format, &header),
            header,
            file_bytes: input.len(),
            failure,
            stage: Stage::Opened(input),
            band: Vec::new(),
            given: 0,
            next_row: 0,
        })
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(super) fn header(&mut self) -> &mut Header {
        &mut self.header
    }

    /// Bytes that lie in memory while rows are read: for formats that know no rows, and for what is turned, all
    /// samples and the file.
    pub(super) fn whole_bytes(&self) -> u64 {
        let rows = u64::from(self.info.height);
        let samples = (self.row_bytes() as u64).saturating_mul(rows);
        match self.info.format {
            _ if self.header.orientation != Orientation::NoTransforms => {
                let turned = samples.saturating_mul(2).saturating_add(self.file_bytes);
                turned.saturating_add(self.header.held_bytes)
            }
            InputFormat::Png | InputFormat::Tiff => self.header.held_bytes,
            InputFormat::Jpeg | InputFormat::WebP | InputFormat::Gif | InputFormat::Bmp => samples
                .saturating_add(self.file_bytes)
                .saturating_add(self.header.held_bytes),
            // Its decoder keeps numbers of four bytes, twice while it works.
            InputFormat::Jpeg2000 => samples.saturating_mul(9).saturating_add(self.file_bytes),
        }
    }

    pub(super) fn stored(&self) -> Stored {
        self.header.stored
    }

    pub(crate) fn layout(&self) -> Layout {
        self.header.layout
    }

    /// Bytes in an upright row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.header.layout.row_bytes(self.info.width)
    }

    pub(crate) fn next_row(&self) -> u32 {
        self.next_row
    }

    /// Gives the next rows, at most `rows`, to `take`, some samples at a time, and returns how many
    /// rows they were.
    pub(crate) fn read(
        &mut self,
        rows: u32,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u32, DecodeError> {
        let rows = rows.min(self.info.height - self.next_row);
        let mut left = usize::try_from(rows).unwrap_or(usize::MAX) * self.row_bytes();
        while left > 0 {
            self.fill_band()?;
            let samples = &self.band[self.given..];
            let samples = &samples[..samples.len().min(left)];
            take(samples);
            left -= samples.len();
            self.given += samples.len();
        }
        self.next_row += rows;
        self.end()?;
        Ok(rows)
    }

    /// Leaves out `rows` rows, or as many as are left.
    pub(crate) fn skip(&mut self, rows: u32) -> Result<(), DecodeError> {
        let row_bytes = self.row_bytes();
        let mut left = rows.min(self.info.height - self.next_row);
        while left > 0 {
            let decoded = (self.band.len() - self.given) / row_bytes;
            let skipped = if decoded > 0 {
                let skipped = left.min(u32::try_from(decoded).unwrap_or(u32::MAX));
                self.given += usize::try_from(skipped).unwrap_or(usize::MAX) * row_bytes;
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

    /// All samples without copying them, if none were read and they are decoded whole.
    pub(super) fn take_whole(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        self.fill_band()?;
        let rows = usize::try_from(self.info.height).unwrap_or(usize::MAX);
        if self.next_row != 0 || self.given != 0 || self.band.len() != self.row_bytes() * rows {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.band);
        self.next_row = self.info.height;
        self.end()?;
        Ok(Some(whole))
    }

    /// Makes sure that there are samples to give out.
    fn fill_band(&mut self) -> Result<(), DecodeError> {
        if self.given < self.band.len() {
            return Ok(());
        }
        let mut band = std::mem::take(&mut self.band);
        self.work(|rows| rows.next(&mut band))?;
        if band.is_empty() || !band.len().is_multiple_of(self.row_bytes()) {
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
        let done = self.stage.work(self.info.format, &self.header, work);
        done.map_err(|error| self.failure.take().map_or(error, DecodeError::Read))
    }

    fn disagrees(&self) -> DecodeError {
        DecodeError::corrupt(self.format(), DISAGREES)
    }

    fn format(&self) -> InputFormat {
        self.info.format
    }
}
