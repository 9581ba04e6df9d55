//! A file opened for reading in rows, as the engine sees them.

use super::{Info, Source, Stored, Wanted, fill::Fill, native::Native};
use crate::{
    DecodeError, Depth, EncodeOptions, Format, InputFormat, Limits, Metadata, Pixels,
    colour::{Managed, manage, profile_name},
    samples::{push_unit, unit_at},
};

/// Reads a file in rows, upright, from the top downwards, in sRGB.
///
/// What is in memory at a time:
///
/// - PNG: some rows;
/// - TIFF: one strip, or one row of tiles; some rows of strips that are large and not compressed;
/// - JPEG, WebP, GIF and BMP: the file and the whole picture, 3 or 4 bytes a pixel (a progressive
///   JPEG 12 while it is decoded);
/// - a picture that is stored sideways or upside down, and an interlaced PNG: the whole picture,
///   twice while it is turned.
///
/// What cannot be seen has no colour: under full transparency a pixel has that of its neighbours, so
/// that nothing hidden comes out when the picture is enlarged.
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
    native: Native<'a>,
    colours: Managed,
    warnings: Vec<String>,
    /// For pictures with transparency.
    fill: Option<Fill>,
    next_row: u32,
}

impl<'a> Reader<'a> {
    /// Opens a file of one page and reads its header; refuses what [`probe`](super::probe) refuses.
    ///
    /// # Errors
    /// [`DecodeError`]; damage behind the header shows when its row is read.
    pub fn open(source: Box<dyn Source + 'a>, limits: &Limits) -> Result<Self, DecodeError> {
        let (limits, page) = (*limits, None);
        let native = Native::of_source(source, Wanted { limits, page })?;
        Ok(Self::of_native(native))
    }

    /// [`open`](Self::open) for a page of a file that may have several:
    /// [`page_count`](super::page_count).
    ///
    /// - `page`: from 0.
    ///
    /// # Errors
    /// Like [`open`](Self::open), and [`DecodeError::NoSuchPage`].
    pub fn open_page(
        source: Box<dyn Source + 'a>,
        limits: &Limits,
        page: u32,
    ) -> Result<Self, DecodeError> {
        let (limits, page) = (*limits, Some(page));
        let native = Native::of_source(source, Wanted { limits, page })?;
        Ok(Self::of_native(native))
    }

    /// [`open`](Self::open) for a file in memory, which is not copied.
    ///
    /// # Errors
    /// Like [`open`](Self::open).
    pub fn from_bytes(bytes: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        let (limits, page) = (*limits, None);
        let native = Native::of_bytes(bytes, Wanted { limits, page })?;
        Ok(Self::of_native(native))
    }

    fn of_native(mut native: Native<'a>) -> Self {
        let header = native.header();
        let mut warnings = std::mem::take(&mut header.warnings);
        let mut colours = manage(std::mem::take(&mut header.colour), header.layout.gray);
        warnings.extend(colours.warning.take());
        Self {
            fill: native.layout().alpha.then(Fill::default),
            native,
            colours,
            warnings,
            next_row: 0,
        }
    }

    /// What the file declares about itself.
    #[must_use]
    pub fn info(&self) -> &Info {
        self.native.info()
    }

    /// The ICC profile that the result is to carry; `None` means sRGB.
    #[must_use]
    pub fn icc(&self) -> Option<&[u8]> {
        self.colours.icc.as_deref()
    }

    /// What the file says beside its pixels; as it was read, so to be mended for a result.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.native.metadata()
    }

    /// What a careful person should know, as sentences: a profile left behind, bytes after the end.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A warning if the name `name` promises another format than the content is.
    #[must_use]
    pub fn misnamed(&self, name: &str) -> Option<String> {
        let (_, extension) = name.rsplit_once('.')?;
        let named = InputFormat::from_extension(extension)?;
        let found = self.info().format;
        let misnamed = named != found;
        misnamed.then(|| format!("the file is named like {named} but is {found}"))
    }

    /// [`warnings`](Self::warnings), and what a result in `format` (or else in the file's own) cannot
    /// hold.
    #[must_use]
    pub fn warnings_in(&self, format: Option<Format>) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        let format = format.unwrap_or(self.info().format.kept());
        if self.info().depth > self.encode_like(Some(format)).depth {
            warnings.push(format!(
                "{format} holds 8 bits per sample, the picture has {}",
                self.info().depth.bits()
            ));
        }
        if self.colours.icc.is_some() && !format.holds_profile(self.info().gray) {
            warnings.push(format!(
                "{format} holds no profile for gray: the tones are written in sRGB"
            ));
        }
        warnings
    }

    /// The options that write a result like this file, in `format` or else in the same format (GIF and
    /// BMP: PNG). With fewer bits where the format holds no more. Without metadata, which are not those
    /// of a result: see [`Metadata::for_result`].
    #[must_use]
    pub fn encode_like(&self, format: Option<Format>) -> EncodeOptions {
        let info = self.info();
        let format = format.unwrap_or(info.format.kept());
        EncodeOptions {
            gray: info.gray,
            alpha: info.alpha,
            depth: info.depth.min(format.max_depth()),
            icc: self
                .colours
                .icc
                .clone()
                .filter(|_| format.holds_profile(info.gray)),
            ..EncodeOptions::new(format)
        }
    }

    /// What lies in memory whole while this picture is read, [finished](crate::Finish) and written, in
    /// bytes, at most about. Some rows and bands come on top, 32 MiB.
    ///
    /// - `options`: those the result is written with.
    #[must_use]
    pub fn held_bytes(&self, options: &EncodeOptions) -> u64 {
        let whole = self.native.whole_bytes();
        let wide = self.colours.returns && self.colours.source.is_wide();
        let readers = if options.alpha || wide { 2 } else { 1 };
        let (width, height) = (
            4 * u64::from(self.info().width),
            4 * u64::from(self.info().height),
        );
        let pixel_bytes = options.layout().pixel_bytes() as u64;
        // Samples of the result, and the file that they become; or of a row of tiles.
        let rows = match (options.format, options.tiff_tile) {
            (format, _) if !format.streams() => height,
            (Format::Tiff, Some(tile)) => u64::from(tile.side()),
            _ => 0,
        };
        let result = 2 * pixel_bytes * width * rows;
        readers * whole + result
    }

    /// How the file stores the picture: not always as it is given out, nor as a result has it.
    #[must_use]
    pub fn stored(&self) -> Stored {
        self.native.stored()
    }

    /// What the ICC profile that a result would carry calls itself.
    #[must_use]
    pub fn profile_name(&self) -> Option<String> {
        profile_name(self.colours.icc.as_deref()?)
    }

    /// Bytes in a row as [`read_rows`](Self::read_rows) gives it out: 3 a pixel.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        usize::try_from(self.info().width)
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
    /// - `rgb`: [`row_bytes`](Self::row_bytes) a row, red green blue of sRGB; gray is repeated in all
    ///   three, 16 bits are rounded to 8, and what sRGB cannot show is clipped.
    ///
    /// # Errors
    /// [`DecodeError`] for damage in these rows or, with the last row, behind it. The reader is of no
    /// use afterwards.
    pub fn read_rows(&mut self, rgb: &mut [u8]) -> Result<u32, DecodeError> {
        let room = u32::try_from(rgb.len() / self.row_bytes()).unwrap_or(u32::MAX);
        let rows = room.min(self.info().height - self.next_row);
        if self.is_plain() {
            return self.read_plain(rows, rgb);
        }
        let mut unit = vec![0.0; self.row_bytes()];
        let mut samples = Vec::with_capacity(self.row_bytes());
        for row in rgb.chunks_exact_mut(self.row_bytes()).take(rows as usize) {
            self.read_unit_rows(&mut unit)?;
            samples.clear();
            for &value in &unit {
                push_unit(value, Depth::Eight, &mut samples);
            }
            row.copy_from_slice(&samples);
        }
        Ok(rows)
    }

    /// [`read_rows`](Self::read_rows) for the engine: values in `[0, 1]`, with all the bits of the
    /// source.
    ///
    /// - `unit`: [`row_bytes`](Self::row_bytes) values a row.
    ///
    /// # Errors
    /// As there.
    pub fn read_unit_rows(&mut self, unit: &mut [f32]) -> Result<u32, DecodeError> {
        let row_values = self.row_bytes();
        let room = u32::try_from(unit.len() / row_values).unwrap_or(u32::MAX);
        let rows = room.min(self.info().height - self.next_row);
        let mut stored = Vec::with_capacity(self.native.row_bytes());
        for row in unit.chunks_exact_mut(row_values).take(rows as usize) {
            if let Some(fill) = &mut self.fill {
                fill.row(self.next_row, &mut self.native, &self.colours.source, row)?;
            } else {
                stored.clear();
                self.native.read(1, |part| stored.extend_from_slice(part))?;
                let layout = self.native.layout();
                colours(&stored, layout, row);
                self.colours.source.to_srgb(row);
                row.iter_mut()
                    .for_each(|value| *value = value.clamp(0.0, 1.0));
            }
            self.next_row += 1;
        }
        Ok(rows)
    }

    /// Leaves out `rows` rows, or as many as are left. Strips and tiles of TIFF are not even read;
    /// of the other formats nothing is saved but the copying.
    ///
    /// # Errors
    /// [`DecodeError`] if damage is met; what was not decoded is not examined.
    pub fn skip_rows(&mut self, rows: u32) -> Result<(), DecodeError> {
        let height = self.info().height;
        self.next_row = self.next_row.saturating_add(rows).min(height);
        // With transparency the rows above the next one still show in it.
        if self.fill.is_none() || self.next_row == height {
            let behind = self.next_row.saturating_sub(self.native.next_row());
            self.native.skip(behind)?;
        }
        Ok(())
    }

    /// Reads all that is left, to find damage; converts nothing.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn verify(mut self) -> Result<(), DecodeError> {
        self.native.read(u32::MAX, |_| {})?;
        Ok(())
    }

    /// All rows, for a reader of which none was read.
    pub(super) fn into_pixels(mut self) -> Result<Pixels, DecodeError> {
        let &Info { width, height, .. } = self.info();
        if self.is_plain()
            && !self.info().gray
            && let Some(rgb) = self.native.take_whole()?
        {
            return Ok(Pixels { width, height, rgb });
        }
        let rows = usize::try_from(height).unwrap_or(usize::MAX);
        let mut rgb = vec![0; self.row_bytes() * rows];
        self.read_rows(&mut rgb)?;
        Ok(Pixels { width, height, rgb })
    }

    /// Whether the stored samples are those of sRGB, 8 bits each, and there is nothing else.
    fn is_plain(&self) -> bool {
        let info = self.info();
        info.depth == Depth::Eight && !info.alpha && self.colours.source.is_srgb()
    }

    /// The file's own rows, of which none was read, and their colours.
    pub(crate) fn into_parts(self) -> (Native<'a>, Managed) {
        (self.native, self.colours)
    }

    pub(crate) fn managed(&self) -> &Managed {
        &self.colours
    }

    fn read_plain(&mut self, rows: u32, rgb: &mut [u8]) -> Result<u32, DecodeError> {
        let gray = self.info().gray;
        let mut rest = rgb;
        let read = self.native.read(rows, |samples| {
            let bytes = samples.len() * if gray { 3 } else { 1 };
            let (now, later) = std::mem::take(&mut rest).split_at_mut(bytes);
            if gray {
                for (pixel, sample) in now.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
                    *pixel = [*sample; 3];
                }
            } else {
                now.copy_from_slice(samples);
            }
            rest = later;
        })?;
        self.next_row += read;
        Ok(read)
    }
}

/// The colours of a stored row in `[0, 1]`, three a pixel; gray is repeated.
pub(crate) fn colours(stored: &[u8], layout: crate::samples::Layout, row: &mut [f32]) {
    let channels = layout.channels();
    for (index, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let first = index * channels;
        *pixel = if layout.gray {
            [unit_at(stored, layout.depth, first); 3]
        } else {
            [0, 1, 2].map(|channel| unit_at(stored, layout.depth, first + channel))
        };
    }
}

/// The alpha of a stored row in `[0, 1]`.
pub(crate) fn alphas(stored: &[u8], layout: crate::samples::Layout, row: &mut [f32]) {
    let channels = layout.channels();
    for (index, alpha) in row.iter_mut().enumerate() {
        *alpha = unit_at(stored, layout.depth, (index + 1) * channels - 1);
    }
}
