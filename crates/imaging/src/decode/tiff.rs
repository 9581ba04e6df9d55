//! TIFF, classic and `BigTIFF`: the `tiff` crate, one page, gray or RGB, 8 bit or 1 bit gray.

use std::io::{ErrorKind, Read, Seek};

use ::tiff::{
    ColorType, TiffError,
    decoder::{ChunkType, Decoder, Limits as DecoderLimits},
    tags::{CompressionMethod, Tag},
};
use image::metadata::Orientation;

use super::{
    Header,
    input::Input,
    rows::StoredRows,
    tiff_pages::only_page,
    tiff_plain::{PlainStrips, is_plain},
    tiff_rows::Chunks,
};
use crate::{DecodeError, Format, Limits};

pub(super) const FORMAT: Format = Format::Tiff;

/// Largest strip or tile, compressed, that is held at once, in bytes.
pub(super) const BUFFER_BYTES: usize = 256 << 20;

type Reader<'r, 'a> = Decoder<&'r mut Input<'a>>;

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    let page = only_page(input, limits)?;
    let file_bytes = input.len();
    let mut reader = open(input, page)?;
    let (width, height) = reader.dimensions().map_err(refused)?;
    limits.check_size(width, height)?;
    let color = handled_color(&mut reader)?;
    check_chunks(file_bytes, &mut reader)?;

    let orientation = reader
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .map_err(refused)?;
    let icc = match reader.find_tag(Tag::IccProfile).map_err(refused)? {
        Some(profile) => Some(profile.into_u8_vec().map_err(refused)?),
        None => None,
    };
    let mut warnings = Vec::new();
    if color == ColorType::Gray(1) {
        warnings.push("the picture has only black and white".to_owned());
    }
    Ok(Header {
        width,
        height,
        gray: matches!(color, ColorType::Gray(_)),
        orientation: orientation
            .and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms),
        icc,
        left_behind: metadata(&mut reader),
        warnings,
    })
}

/// A strip or a row of tiles at a time, or less of large strips that are not compressed.
pub(super) fn rows<'a>(
    mut input: Input<'a>,
    header: &Header,
    limits: &Limits,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let page = only_page(&mut input, limits)?;
    let mut decoder = open(input, page)?;
    if is_plain(&mut decoder, header)? {
        return Ok(Box::new(PlainStrips::new(decoder, header)?));
    }
    Ok(Box::new(Chunks::new(decoder, header)?))
}

fn open<R: Read + Seek>(mut input: R, page: usize) -> Result<Decoder<R>, DecodeError> {
    input.rewind().map_err(DecodeError::Read)?;
    let mut buffers = DecoderLimits::default();
    // What is decoded goes into buffers of ours, which `Limits` has judged.
    buffers.intermediate_buffer_size = BUFFER_BYTES;
    let mut reader = Decoder::new(input).map_err(refused)?.with_limits(buffers);
    if page > 0 {
        reader.seek_to_image(page).map_err(refused)?;
    }
    Ok(reader)
}

/// The colour type, if its samples survive the way through 8 bit RGB.
fn handled_color(reader: &mut Reader<'_, '_>) -> Result<ColorType, DecodeError> {
    let refuse = |what: String, remedy| Err(DecodeError::unsupported(FORMAT, what, remedy));
    // CIELab, ICCLab and ITULab, which the decoder knows only in part.
    let photometric = reader.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation);
    if matches!(photometric.map_err(refused)?, Some(8..=10)) {
        return refuse("Lab colour".to_owned(), "convert it to RGB");
    }
    let color = reader.colortype().map_err(refused)?;
    let formats = reader
        .find_tag_unsigned_vec::<u16>(Tag::SampleFormat)
        .map_err(refused)?;
    if formats.is_some_and(|formats| formats.iter().any(|format| *format != 1)) {
        return refuse(
            "floating point or signed samples".to_owned(),
            "save it with 8 bits",
        );
    }
    if reader
        .find_tag(Tag::ExtraSamples)
        .map_err(refused)?
        .is_some()
    {
        return refuse("transparency or extra channels".to_owned(), "flatten it");
    }
    match color {
        ColorType::Gray(1 | 8) | ColorType::RGB(8) => Ok(color),
        ColorType::YCbCr(8) if compression(reader)? == Some(CompressionMethod::ModernJPEG) => {
            Ok(color)
        }
        ColorType::Gray(bits) | ColorType::RGB(bits) => {
            refuse(format!("{bits} bits per sample"), "save it with 8 bits")
        }
        ColorType::RGBA(_) | ColorType::GrayA(_) => {
            refuse("transparency".to_owned(), "flatten it onto a background")
        }
        ColorType::CMYK(_) | ColorType::CMYKA(_) => {
            refuse("CMYK colour".to_owned(), "convert it to RGB")
        }
        ColorType::Palette(_) => refuse("a palette".to_owned(), "convert it to RGB"),
        ColorType::YCbCr(_) => refuse("uncompressed YCbCr colour".to_owned(), "convert it to RGB"),
        _ => refuse("unusual channels".to_owned(), "convert it to gray or RGB"),
    }
}

pub(super) fn compression<R: Read + Seek>(
    reader: &mut Decoder<R>,
) -> Result<Option<CompressionMethod>, DecodeError> {
    let method = reader
        .find_tag_unsigned::<u16>(Tag::Compression)
        .map_err(refused)?;
    Ok(method.map(CompressionMethod::from_u16_exhaustive))
}

/// Checks that every strip or tile lies inside the file.
fn check_chunks(file_bytes: u64, reader: &mut Reader<'_, '_>) -> Result<(), DecodeError> {
    let (offsets, sizes) = places(reader)?;
    let inside = |(offset, size): (&u64, &u64)| {
        offset
            .checked_add(*size)
            .is_some_and(|end| end <= file_bytes)
    };
    if offsets.iter().zip(&sizes).all(inside) {
        Ok(())
    } else {
        Err(DecodeError::Truncated { format: FORMAT })
    }
}

/// Offset and size of every strip or tile, in bytes.
pub(super) fn places<R: Read + Seek>(
    reader: &mut Decoder<R>,
) -> Result<(Vec<u64>, Vec<u64>), DecodeError> {
    let (offset_tag, size_tag) = match reader.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = reader.get_tag_u64_vec(offset_tag).map_err(refused)?;
    let sizes = reader.get_tag_u64_vec(size_tag).map_err(refused)?;
    Ok((offsets, sizes))
}

fn metadata(reader: &mut Reader<'_, '_>) -> Vec<&'static str> {
    let blocks = [
        (Tag::ExifDirectory, "EXIF"),
        (Tag::Unknown(700), "XMP"),
        (Tag::Unknown(33_723), "IPTC"),
        (Tag::ImageDescription, "description"),
    ];
    let ifd = reader.image_ifd();
    let found = blocks
        .into_iter()
        .filter(|(tag, _)| ifd.directory().contains(*tag));
    let mut names: Vec<&str> = found.map(|(_, name)| name).collect();
    // Unit 1 is "no unit": an aspect ratio, which every TIFF must have.
    let unit = reader
        .find_tag_unsigned::<u16>(Tag::ResolutionUnit)
        .unwrap_or(None);
    if unit != Some(1) && reader.image_ifd().directory().contains(Tag::XResolution) {
        names.push("resolution");
    }
    names
}

pub(super) fn refused(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        TiffError::UnsupportedError(error) => DecodeError::unsupported(
            FORMAT,
            format!("a rare feature ({error})"),
            "convert it to RGB",
        ),
        TiffError::LimitsExceeded => DecodeError::unsupported(
            FORMAT,
            "very large strips or tiles",
            "save it in small tiles",
        ),
        other => DecodeError::corrupt(FORMAT, other),
    }
}
