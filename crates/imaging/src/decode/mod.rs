//! A file in, upright pixels out.
//!
//! Each format has a file with two functions. `header` reads what the file declares, refuses what
//! is not handled and allocates nothing that grows with the picture; `rows` decodes the stored
//! pixels, some rows at a time where the format allows it. What is the same for all formats is in
//! `stage`, `native` and `reader`: limits, orientation, gray, colour, transparency.

mod bmp;
mod fill;
mod gif;
mod input;
mod jpeg;
#[cfg(feature = "jpeg2000")]
mod jpeg2000;
#[cfg(feature = "jpeg2000")]
mod jpeg2000_frame;
mod jpeg_huffman;
mod jpeg_inks;
mod jpeg_markers;
mod jpeg_scans;
mod jpeg_tables;
mod lab;
mod native;
mod pages;
mod patched;
mod png;
mod reader;
mod rows;
mod stage;
mod stored;
mod tiff;
mod tiff_jpeg;
mod tiff_kind;
mod tiff_packed;
mod tiff_pages;
mod tiff_places;
mod tiff_plain;
mod tiff_rows;
mod tiff_ycbcr;
mod webp;

use image::metadata::Orientation;
pub use input::Source;
pub(crate) use native::Native;
pub use pages::page_count;
pub use reader::Reader;
pub(crate) use reader::{alphas, colours};
pub use stored::Stored;
use tiff_pages::Page;

use crate::{
    DecodeError, Depth, EncodeOptions, Format, InputFormat, Limits, Metadata, Pixels,
    colour::Declared, metadata::Turned, samples::Layout,
};

/// A warning: what is there of a profile cannot be read.
const PROFILE_IS_DAMAGED: &str =
    "the colour profile is damaged and left out: the colours are taken for sRGB";

/// What a file declares about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The format by content, whatever the file is called.
    pub format: InputFormat,
    /// Upright width, in pixels.
    pub width: u32,
    /// Upright height, in pixels.
    pub height: u32,
    /// One channel a pixel; the result should be written gray again.
    pub gray: bool,
    /// There is transparency; the result should have it too.
    pub alpha: bool,
    /// Bits in a sample; [`Depth::Eight`] also for those with less.
    pub depth: Depth,
}

/// A decoded file.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// What the file declared.
    pub info: Info,
    /// The picture, upright, in sRGB; without transparency and finer steps than 8 bits.
    pub pixels: Pixels,
    /// The file's ICC profile, if it is one of sRGB; others were applied.
    pub icc: Option<Vec<u8>>,
    /// What the file says beside its pixels; as it was read, so to be mended for a result.
    pub metadata: Metadata,
    /// What a careful person should know, as sentences: a profile left behind, bytes after the end.
    pub warnings: Vec<String>,
}

impl Decoded {
    /// The options that write these pixels, in `format` or else in the file's own. What they do not
    /// have any more (16 bits, transparency, another colour space) is not written: for that take a
    /// [`Reader`] and [`Finish`](crate::Finish). Nor are the metadata, which are not those of a result:
    /// see [`Metadata::for_result`].
    #[must_use]
    pub fn encode_like(&self, format: Option<Format>) -> EncodeOptions {
        let format = format.unwrap_or(self.info.format.kept());
        let gray = self.info.gray;
        EncodeOptions {
            gray,
            icc: self.icc.clone().filter(|_| format.holds_profile(gray)),
            ..EncodeOptions::new(format)
        }
    }
}

/// What is wanted of a file.
#[derive(Clone, Copy)]
struct Wanted {
    limits: Limits,
    /// From 0; `None` for the only one.
    page: Option<u32>,
}

/// What a format's `header` function found; sizes as stored.
struct Header {
    width: u32,
    height: u32,
    /// Of the rows that the format's `rows` gives.
    layout: Layout,
    orientation: Orientation,
    colour: Declared,
    /// Of TIFF.
    page: Option<Page>,
    /// Bytes that lie in memory at once beside the rows that are given: compressed strips and tiles, and what
    /// they hold. Of formats that know rows.
    held_bytes: u64,
    stored: Stored,
    warnings: Vec<String>,
}

impl Header {
    /// Bytes in a row as stored.
    fn row_bytes(&self) -> usize {
        self.layout.row_bytes(self.width)
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

/// Decodes a file into upright 8 bit sRGB: a [`Reader`] read to its end.
///
/// # Errors
/// [`DecodeError`] when the file is empty, no image, cut off, damaged, larger than `limits`, or
/// holds something that would not survive.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let reader = Reader::from_bytes(bytes, limits)?;
    let info = reader.info().clone();
    let icc = reader.icc().filter(|_| reader.managed().source.is_srgb());
    let icc = icc.map(<[u8]>::to_vec);
    let metadata = reader.metadata().clone();
    let warnings = reader.warnings().to_vec();
    Ok(Decoded {
        info,
        pixels: reader.into_pixels()?,
        icc,
        metadata,
        warnings,
    })
}

fn info_of(format: InputFormat, header: &Header) -> Info {
    let (width, height) = if swaps_sides(header.orientation) {
        (header.height, header.width)
    } else {
        (header.width, header.height)
    };
    Info {
        format,
        width,
        height,
        gray: header.layout.gray,
        alpha: header.layout.alpha,
        depth: header.layout.depth,
    }
}

fn turned(orientation: Orientation) -> Turned {
    Turned {
        at_all: orientation != Orientation::NoTransforms,
        sideways: swaps_sides(orientation),
    }
}

fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation as O;
    match orientation {
        O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH => true,
        O::NoTransforms | O::Rotate180 | O::FlipHorizontal | O::FlipVertical => false,
    }
}
