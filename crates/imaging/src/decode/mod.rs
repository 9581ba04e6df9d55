//! A file in, upright pixels out.
//!
//! Each format has a file with two functions. `header` reads what the file declares, refuses what
//! is not handled and allocates nothing that grows with the picture; `rows` decodes the stored
//! pixels, some rows at a time where the format allows it. What is the same for all formats is in
//! `stage` and `reader`: limits, orientation, gray, the ICC profile.

mod icc;
mod input;
mod jpeg;
mod jpeg_markers;
mod png;
mod reader;
mod rows;
mod stage;
mod tiff;
mod tiff_pages;
mod tiff_plain;
mod tiff_rows;
mod webp;

use image::metadata::Orientation;
pub use input::Source;
pub use reader::Reader;

use crate::{DecodeError, EncodeOptions, Format, Limits, Pixels};

/// What a file declares about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The format by content, whatever the file is called.
    pub format: Format,
    /// Upright width, in pixels.
    pub width: u32,
    /// Upright height, in pixels.
    pub height: u32,
    /// One channel a pixel; the result should be written gray again.
    pub gray: bool,
}

/// A decoded file.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// What the file declared.
    pub info: Info,
    /// The picture, upright.
    pub pixels: Pixels,
    /// The ICC profile that gives the samples their colour; `None` means sRGB.
    pub icc: Option<Vec<u8>>,
    /// What a careful person should know, as sentences: metadata left behind, bytes after the end.
    pub warnings: Vec<String>,
}

impl Decoded {
    /// The options that write a result like this file, in `format` or else in the same format.
    #[must_use]
    pub fn encode_like(&self, format: Option<Format>) -> EncodeOptions {
        EncodeOptions {
            gray: self.info.gray,
            icc: self.icc.clone(),
            ..EncodeOptions::new(format.unwrap_or(self.info.format))
        }
    }
}

/// What a format's `header` function found; sizes as stored.
struct Header {
    width: u32,
    height: u32,
    gray: bool,
    orientation: Orientation,
    icc: Option<Vec<u8>>,
    /// Names of metadata blocks that the result will not carry.
    left_behind: Vec<&'static str>,
    warnings: Vec<String>,
}

impl Header {
    /// Bytes in a row as stored.
    fn row_bytes(&self) -> usize {
        usize::try_from(self.width)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.channels())
    }

    /// Bytes in a pixel as stored.
    fn channels(&self) -> usize {
        if self.gray { 1 } else { 3 }
    }

    fn rows(&self) -> usize {
        usize::try_from(self.height).unwrap_or(usize::MAX)
    }
}

/// Reads the header only: format, upright size, gray or colour. Refuses what [`decode`] would
/// refuse from the header, and allocates nothing that grows with the picture.
///
/// # Errors
/// [`DecodeError`]; damage behind the header shows only in [`decode`].
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Info, DecodeError> {
    Ok(Reader::from_bytes(bytes, limits)?.info().clone())
}

/// Decodes a file into upright 8 bit RGB: a [`Reader`] read to its end.
///
/// # Errors
/// [`DecodeError`] when the file is empty, no image, cut off, damaged, larger than `limits`, or
/// holds something that would not survive.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let reader = Reader::from_bytes(bytes, limits)?;
    let info = reader.info().clone();
    let icc = reader.icc().map(<[u8]>::to_vec);
    let warnings = reader.warnings().to_vec();
    Ok(Decoded {
        info,
        pixels: reader.into_pixels()?,
        icc,
        warnings,
    })
}

fn info_of(format: Format, header: &Header) -> Info {
    let (width, height) = if swaps_sides(header.orientation) {
        (header.height, header.width)
    } else {
        (header.width, header.height)
    };
    Info {
        format,
        width,
        height,
        gray: header.gray,
    }
}

fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation as O;
    match orientation {
        O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH => true,
        O::NoTransforms | O::Rotate180 | O::FlipHorizontal | O::FlipVertical => false,
    }
}
