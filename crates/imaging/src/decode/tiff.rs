//! TIFF, classic and `BigTIFF`: the `tiff` crate, one page, gray or RGB, 8 bit or 1 bit gray.

use std::io::{Cursor, ErrorKind};

use ::tiff::{
    ColorType, TiffError,
    decoder::{ChunkType, Decoder, DecodingResult, Limits as DecoderLimits},
    tags::{CompressionMethod, Tag},
};
use image::metadata::Orientation;

use super::{Header, jpeg_markers::walk, tiff_pages::only_page};
use crate::{DecodeError, Format, Limits};

pub(super) const FORMAT: Format = Format::Tiff;

/// Largest strip or tile and largest tag value that is held at once, in bytes.
const BUFFER_BYTES: usize = 256 << 20;

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn header(bytes: &[u8], limits: &Limits) -> Result<Header, DecodeError> {
    let page = only_page(bytes, limits)?;
    let mut reader = open(bytes, page)?;
    let (width, height) = reader.dimensions().map_err(refused)?;
    limits.check_size(width, height)?;
    let color = handled_color(&mut reader)?;
    check_chunks(bytes, &mut reader, color)?;

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

/// `width * height` gray or `width * height * 3` RGB samples, as stored.
pub(super) fn samples(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
) -> Result<Vec<u8>, DecodeError> {
    let page = only_page(bytes, limits)?;
    let mut reader = open(bytes, page)?;
    let color = reader.colortype().map_err(refused)?;
    let mut buffers = DecoderLimits::default();
    // The whole picture was judged by `limits` already.
    buffers.decoding_buffer_size = usize::MAX;
    buffers.intermediate_buffer_size = BUFFER_BYTES;
    buffers.ifd_value_size = BUFFER_BYTES;
    reader = reader.with_limits(buffers);

    let mut result = DecodingResult::U8(Vec::new());
    let layout = reader.read_image_to_buffer(&mut result).map_err(refused)?;
    let DecodingResult::U8(stored) = result else {
        return Err(DecodeError::corrupt(FORMAT, "the samples are not 8 bit"));
    };
    Ok(match color {
        ColorType::Gray(1) => expand_bits(&stored, header),
        ColorType::YCbCr(_) => ycbcr_to_rgb(stored),
        _ if layout.planes > 1 => interleave(&stored, header),
        _ => stored,
    })
}

fn open(bytes: &[u8], page: usize) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Decoder::new(Cursor::new(bytes)).map_err(refused)?;
    if page > 0 {
        reader.seek_to_image(page).map_err(refused)?;
    }
    Ok(reader)
}

/// The colour type, if its samples survive the way through 8 bit RGB.
fn handled_color(reader: &mut Reader<'_>) -> Result<ColorType, DecodeError> {
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

fn compression(reader: &mut Reader<'_>) -> Result<Option<CompressionMethod>, DecodeError> {
    let method = reader
        .find_tag_unsigned::<u16>(Tag::Compression)
        .map_err(refused)?;
    Ok(method.map(CompressionMethod::from_u16_exhaustive))
}

/// Checks that every strip or tile lies inside the file, and that one compressed as JPEG is
/// complete and has the size the directory promises: the decoder would trust it.
fn check_chunks(
    bytes: &[u8],
    reader: &mut Reader<'_>,
    color: ColorType,
) -> Result<(), DecodeError> {
    let (offset_tag, size_tag) = match reader.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = reader.get_tag_u64_vec(offset_tag).map_err(refused)?;
    let sizes = reader.get_tag_u64_vec(size_tag).map_err(refused)?;
    let jpeg = compression(reader)? == Some(CompressionMethod::ModernJPEG);
    let (chunk_width, chunk_height) = reader.chunk_dimensions();
    // A planar file has one component in each chunk.
    let planar = reader
        .find_tag_unsigned::<u16>(Tag::PlanarConfiguration)
        .map_err(refused)?
        == Some(2);
    let components = if planar { 1 } else { color.num_samples() };

    for (index, (offset, size)) in offsets.iter().zip(&sizes).enumerate() {
        let chunk = usize::try_from(*offset)
            .ok()
            .zip(usize::try_from(*size).ok())
            .and_then(|(offset, size)| bytes.get(offset..offset.checked_add(size)?))
            .ok_or(DecodeError::Truncated { format: FORMAT })?;
        if !jpeg {
            continue;
        }
        let markers = walk(chunk);
        let rows = reader
            .chunk_data_dimensions(u32::try_from(index).unwrap_or(u32::MAX))
            .1;
        let fits = markers.frame.is_some_and(|frame| {
            frame.width == chunk_width
                && (rows..=chunk_height).contains(&frame.height)
                && u16::from(frame.components) == components
        });
        if markers.end.is_none() || markers.several_frames || !fits {
            return Err(DecodeError::corrupt(
                FORMAT,
                "a JPEG strip or tile is not what it should be",
            ));
        }
    }
    Ok(())
}

fn metadata(reader: &mut Reader<'_>) -> Vec<&'static str> {
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

/// One bit a sample, rows padded to whole bytes, becomes 0 or 255.
fn expand_bits(stored: &[u8], header: &Header) -> Vec<u8> {
    let width = usize::try_from(header.width).unwrap_or(usize::MAX);
    let mut samples = Vec::with_capacity(stored.len() * 8);
    for row in stored.chunks_exact(width.div_ceil(8)) {
        let bits = row
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
        samples.extend(bits.take(width).map(|bit| bit * u8::MAX));
    }
    samples
}

/// Three planes become interleaved samples.
fn interleave(stored: &[u8], header: &Header) -> Vec<u8> {
    let plane = stored.len() / 3;
    if header.gray || plane == 0 {
        return stored.to_vec();
    }
    let (red, rest) = stored.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    let mut samples = Vec::with_capacity(stored.len());
    for ((red, green), blue) in red.iter().zip(green).zip(blue) {
        samples.extend_from_slice(&[*red, *green, *blue]);
    }
    samples
}

/// ITU-R BT.601 full range, as JFIF and the TIFF defaults have it, in place.
fn ycbcr_to_rgb(mut stored: Vec<u8>) -> Vec<u8> {
    for pixel in stored.as_chunks_mut::<3>().0 {
        let [y, cb, cr] = pixel.map(|sample| i32::from(sample) << 16);
        let (cb, cr) = ((cb >> 16) - 128, (cr >> 16) - 128);
        // The coefficients 1.402, 0.344136, 0.714136 and 1.772 in 1/65,536, rounded.
        *pixel = [
            y + 91_881 * cr,
            y - 22_554 * cb - 46_802 * cr,
            y + 116_130 * cb,
        ]
        .map(|sum| u8::try_from(((sum + 32_768) >> 16).clamp(0, 255)).unwrap_or(u8::MAX));
    }
    stored
}

fn refused(error: TiffError) -> DecodeError {
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
