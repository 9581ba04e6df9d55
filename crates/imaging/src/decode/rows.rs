//! The pixels of a file as they are stored, some rows at a time.

use image::metadata::Orientation;

use super::{Header, swaps_sides};
use crate::DecodeError;

/// Decodes rows from the top downwards: samples as the header's layout says.
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
    let whole = samples.len() == total;
    Ok(whole.then(|| Whole(turned(&samples, header))))
}

fn turned(samples: &[u8], header: &Header) -> Vec<u8> {
    use Orientation as O;
    let (width, height) = (
        header.row_bytes() / header.layout.pixel_bytes(),
        header.rows(),
    );
    let (right, bottom) = (width - 1, height - 1);
    let (across, down) = if swaps_sides(header.orientation) {
        (height, width)
    } else {
        (width, height)
    };
    // Where the pixel at column x and row y comes from.
    let from = |x: usize, y: usize| match header.orientation {
        O::NoTransforms => (x, y),
        O::FlipHorizontal => (right - x, y),
        O::Rotate180 => (right - x, bottom - y),
        O::FlipVertical => (x, bottom - y),
        O::Rotate90 => (y, bottom - x),
        O::Rotate270 => (right - y, x),
        O::Rotate90FlipH => (y, x),
        O::Rotate270FlipH => (right - y, bottom - x),
    };
    let pixel_bytes = header.layout.pixel_bytes();
    let mut turned = Vec::with_capacity(samples.len());
    for y in 0..down {
        for x in 0..across {
            let (x, y) = from(x, y);
            let at = (y * width + x) * pixel_bytes;
            turned.extend_from_slice(&samples[at..at + pixel_bytes]);
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::stored::Stored;
    use crate::{colour::Declared, samples::Layout};

    /// By the definition of the EXIF tag: what the top row and the left column of the stored picture
    /// are in the upright one.
    #[test]
    fn every_orientation_turns_as_defined() {
        let cases = [
            (1, "abc def"),
            (2, "cba fed"),
            (3, "fed cba"),
            (4, "def abc"),
            (5, "ad be cf"),
            (6, "da eb fc"),
            (7, "fc eb da"),
            (8, "cf be ad"),
        ];
        for (tag, expected) in cases {
            let header = Header {
                page: None,
                held_bytes: 0,
                stored: Stored::new(8, "gray", "none"),
                width: 3,
                height: 2,
                layout: Layout::GRAY8,
                orientation: Orientation::from_exif(tag).unwrap(),
                colour: Declared::Srgb,
                warnings: Vec::new(),
            };
            let found = upright(&mut Whole(b"abcdef".to_vec()), &header)
                .unwrap()
                .unwrap();
            assert_eq!(found.0, expected.replace(' ', "").into_bytes(), "{tag}");
        }
    }
}
