//! The pixels of a file as they are stored, some rows at a time.

use image::{DynamicImage, GrayImage, RgbImage};

use super::Header;
use crate::DecodeError;

/// Decodes rows from the top downwards: gray or RGB samples, as stored.
pub(super) trait StoredRows: Send {
    /// Replaces the content of `samples` by the rows that follow, one or more.
    ///
    /// # Errors
    /// [`DecodeError`] for damage in these rows.
    fn next(&mut self, samples: &mut Vec<u8>) -> Result<(), DecodeError>;

    /// Leaves out as many rows as can be left out without decoding them, at most `rows`, and
    /// returns how many.
    ///
    /// # Errors
    /// [`DecodeError`], if the decoder looks at them all the same.
    fn skip(&mut self, _rows: u32) -> Result<u32, DecodeError> {
        Ok(0)
    }

    /// Checks what is behind the last row.
    ///
    /// # Errors
    /// [`DecodeError`] if the end of the file is missing or damaged.
    fn finish(&mut self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// All rows at once.
pub(super) struct Whole(pub Vec<u8>);

impl StoredRows for Whole {
    fn next(&mut self, samples: &mut Vec<u8>) -> Result<(), DecodeError> {
        *samples = std::mem::take(&mut self.0);
        Ok(())
    }
}

/// Decodes all rows and turns them upright; `None` if their number is wrong.
pub(super) fn upright(
    rows: &mut dyn StoredRows,
    header: &Header,
) -> Result<Option<Whole>, DecodeError> {
    let total = header.row_bytes().saturating_mul(header.rows());
    let mut samples = Vec::new();
    rows.next(&mut samples)?;
    let mut band = Vec::new();
    samples.reserve_exact(total.saturating_sub(samples.len()));
    while samples.len() < total {
        rows.next(&mut band)?;
        if band.is_empty() {
            break;
        }
        samples.append(&mut band);
    }
    rows.finish()?;
    Ok(turned(samples, header).map(Whole))
}

fn turned(samples: Vec<u8>, header: &Header) -> Option<Vec<u8>> {
    let (width, height) = (header.width, header.height);
    let mut picture = if header.gray {
        DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, samples)?)
    } else {
        DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, samples)?)
    };
    picture.apply_orientation(header.orientation);
    Some(picture.into_bytes())
}
