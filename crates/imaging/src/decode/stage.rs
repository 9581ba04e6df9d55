//! From an opened file to its rows, format by format, whatever the file does to the decoder.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;

#[cfg(feature = "jpeg2000")]
use super::jpeg2000;
use super::{
    Header, Wanted, bmp, gif,
    input::Input,
    jpeg, png,
    rows::{StoredRows, upright},
    tiff, webp,
};
#[cfg(not(feature = "jpeg2000"))]
use crate::sniff::NO_JPEG_2000;
use crate::{DecodeError, InputFormat, sniff::sniff};

/// Bytes from which the format of a file can be told.
const SNIFFED_BYTES: u64 = 512;

/// What is wrong when a decoder gives another number of samples than it should.
pub(super) const DISAGREES: &str = "the size disagrees with the header";

/// How far a file is read.
pub(super) enum Stage<'a> {
    /// Only the header was read.
    Opened(Input<'a>),
    Rows(Box<dyn StoredRows + 'a>),
    /// Every row is given out and the end of the file was found sound.
    Ended,
    Failed,
}

impl<'a> Stage<'a> {
    /// Lets the decoder do something, and starts it before if need be.
    ///
    /// # Errors
    /// [`DecodeError`] of the work; every later call fails too.
    pub(super) fn work<T>(
        &mut self,
        format: InputFormat,
        header: &Header,
        work: impl FnOnce(&mut dyn StoredRows) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        guarded(format, || {
            let mut rows = match std::mem::replace(self, Self::Failed) {
                Self::Rows(rows) => rows,
                Self::Opened(input) => start(format, input, header)?,
                Self::Ended | Self::Failed => {
                    return Err(DecodeError::corrupt(format, DISAGREES));
                }
            };
            let done = work(rows.as_mut())?;
            *self = Self::Rows(rows);
            Ok(done)
        })
    }
}

/// Tells the format of a file and reads its header.
///
/// # Errors
/// [`DecodeError`] for what is not handled, or larger than the limits.
pub(super) fn header(
    input: &mut Input<'_>,
    wanted: &Wanted,
) -> Result<(InputFormat, Header), DecodeError> {
    let format = format_of(input)?;
    let Wanted { limits, page } = wanted;
    let header = guarded(format, || match format {
        InputFormat::Jpeg => jpeg::header(input, limits),
        InputFormat::Png => png::header(input, limits),
        InputFormat::Tiff => tiff::header(input, wanted),
        InputFormat::WebP => webp::header(input, limits),
        InputFormat::Gif => gif::header(input, limits),
        InputFormat::Bmp => bmp::header(input, limits),
        #[cfg(feature = "jpeg2000")]
        InputFormat::Jpeg2000 => jpeg2000::header(input, limits),
        #[cfg(not(feature = "jpeg2000"))]
        InputFormat::Jpeg2000 => Err(DecodeError::UnsupportedFormat(NO_JPEG_2000)),
    })?;
    match page {
        Some(page) if format != InputFormat::Tiff && *page > 0 => Err(DecodeError::NoSuchPage {
            page: page.saturating_add(1),
            pages: 1,
        }),
        _ => Ok((format, header)),
    }
}

/// Tells the format of a file by its first bytes.
///
/// # Errors
/// [`DecodeError`] for what is no image that is handled.
pub(super) fn format_of(input: &mut Input<'_>) -> Result<InputFormat, DecodeError> {
    let mut head = vec![0; usize::try_from(input.len().min(SNIFFED_BYTES)).unwrap_or(0)];
    input.read_at(0, &mut head).map_err(DecodeError::Read)?;
    sniff(&head)
}

fn start<'a>(
    format: InputFormat,
    input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let mut rows = match format {
        InputFormat::Jpeg => jpeg::rows(input, header)?,
        InputFormat::Png => png::rows(input, header)?,
        InputFormat::Tiff => tiff::rows(input, header)?,
        InputFormat::WebP => webp::rows(input, header)?,
        InputFormat::Gif => gif::rows(input, header)?,
        InputFormat::Bmp => bmp::rows(input, header)?,
        #[cfg(feature = "jpeg2000")]
        InputFormat::Jpeg2000 => jpeg2000::rows(input, header)?,
        #[cfg(not(feature = "jpeg2000"))]
        InputFormat::Jpeg2000 => return Err(DecodeError::UnsupportedFormat(NO_JPEG_2000)),
    };
    if header.orientation == Orientation::NoTransforms {
        return Ok(rows);
    }
    let turned = upright(rows.as_mut(), header)?;
    Ok(Box::new(
        turned.ok_or_else(|| DecodeError::corrupt(format, DISAGREES))?,
    ))
}

/// Turns a decoder's panic into a damaged file: a hostile input must not end the process.
pub(super) fn guarded<T>(
    format: InputFormat,
    work: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(DecodeError::corrupt(format, "the decoder gave up")))
}
