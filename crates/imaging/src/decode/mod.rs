//! Bytes in, upright pixels out.
//!
//! Each format has a file with two functions. `header` reads what the file declares, refuses what
//! is not handled and allocates nothing that grows with the picture; `samples` decodes the stored
//! pixels. What is the same for all formats is here: limits, orientation, gray, the ICC profile.

mod icc;
mod jpeg;
mod jpeg_markers;
mod png;
mod tiff;
mod tiff_pages;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};

use crate::{DecodeError, EncodeOptions, Format, Limits, Pixels, sniff};

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

/// Reads the header only: format, upright size, gray or colour. Refuses what [`decode`] would
/// refuse from the header, and allocates nothing that grows with the picture.
///
/// # Errors
/// [`DecodeError`]; damage behind the header shows only in [`decode`].
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Info, DecodeError> {
    let (format, header) = guarded_header(bytes, limits)?;
    Ok(info_of(format, &header))
}

/// Decodes a file into upright 8 bit RGB.
///
/// # Errors
/// [`DecodeError`] when the file is empty, no image, cut off, damaged, larger than `limits`, or
/// holds something that would not survive.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let (format, header) = guarded_header(bytes, limits)?;
    let samples = guarded(format, || match format {
        Format::Jpeg => jpeg::samples(bytes, &header),
        Format::Png => png::samples(bytes),
        Format::Tiff => tiff::samples(bytes, &header, limits),
        Format::WebP => webp::samples(bytes, &header),
    })?;
    let info = info_of(format, &header);
    let pixels = upright(samples, &header)
        .ok_or_else(|| DecodeError::corrupt(format, "the size disagrees with the header"))?;

    let mut warnings = header.warnings;
    let (icc, dropped) = icc::usable(header.icc);
    warnings.extend(dropped);
    if !header.left_behind.is_empty() {
        warnings.push(format!(
            "not carried to the result: {}",
            header.left_behind.join(", ")
        ));
    }
    Ok(Decoded {
        info,
        pixels,
        icc,
        warnings,
    })
}

fn guarded_header(bytes: &[u8], limits: &Limits) -> Result<(Format, Header), DecodeError> {
    limits.check_bytes(bytes)?;
    let format = sniff(bytes)?;
    let header = guarded(format, || match format {
        Format::Jpeg => jpeg::header(bytes, limits),
        Format::Png => png::header(bytes, limits),
        Format::Tiff => tiff::header(bytes, limits),
        Format::WebP => webp::header(bytes, limits),
    })?;
    Ok((format, header))
}

/// Turns a decoder's panic into a damaged file: a hostile input must not end the process.
fn guarded<T>(
    format: Format,
    work: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(DecodeError::corrupt(format, "the decoder gave up")))
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

/// Turns the stored samples upright and gray into three channels; `None` if their number is wrong.
fn upright(samples: Vec<u8>, header: &Header) -> Option<Pixels> {
    let (width, height) = (header.width, header.height);
    let mut picture = if header.gray {
        DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, samples)?)
    } else {
        DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, samples)?)
    };
    picture.apply_orientation(header.orientation);
    let (width, height) = (picture.width(), picture.height());
    Some(match picture {
        DynamicImage::ImageLuma8(gray) => Pixels::gray(width, height, gray.as_raw()),
        other => Pixels {
            width,
            height,
            rgb: other.into_bytes(),
        },
    })
}
