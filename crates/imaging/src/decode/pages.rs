//! How many pages a file has.

use super::{
    Source,
    input::Input,
    stage::{format_of, guarded},
    tiff_pages,
};
use crate::{DecodeError, InputFormat, Limits};

/// Counts the pages of a file: one but for TIFF, whose pyramids and thumbnails are none. Looks at the
/// directories only.
///
/// # Errors
/// [`DecodeError`] for what is no image, larger than `limits`, or a chain of directories that is
/// damaged.
pub fn page_count(source: Box<dyn Source + '_>, limits: &Limits) -> Result<u32, DecodeError> {
    let mut input = Input::of_source(source).map_err(DecodeError::Read)?;
    limits.check_bytes(input.len())?;
    let failure = input.failure();
    let count = count(&mut input, limits);
    count.map_err(|error| failure.take().map_or(error, DecodeError::Read))
}

fn count(input: &mut Input<'_>, limits: &Limits) -> Result<u32, DecodeError> {
    let format = format_of(input)?;
    if format != InputFormat::Tiff {
        return Ok(1);
    }
    let pages = guarded(format, || tiff_pages::pages(input, limits))?;
    Ok(u32::try_from(pages.len()).unwrap_or(u32::MAX))
}
