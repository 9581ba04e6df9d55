//! TIFF, classic and `BigTIFF`: the `tiff` crate, a page at a time.

use std::io::{ErrorKind, Read, Seek};

use ::tiff::{
    TiffError, TiffUnsupportedError,
    decoder::{ChunkType, Decoder, Limits as DecoderLimits},
    tags::{CompressionMethod, Tag},
};
use image::metadata::Orientation;

use super::{
    Header, Wanted,
    input::Input,
    patched::{Patch, Patched},
    rows::StoredRows,
    stage::DISAGREES,
    tiff_jpeg,
    tiff_kind::Kind,
    tiff_pages::{Page, wanted_page},
    tiff_places::{BUFFER_BYTES, Places},
    tiff_plain::{PlainStrips, is_plain},
    tiff_rows::Chunks,
    tiff_ycbcr::SharedChroma,
};
use crate::{DecodeError, InputFormat, Limits, colour::Declared};

pub(super) const FORMAT: InputFormat = InputFormat::Tiff;

/// Largest value of a tag, in bytes: a profile, or the places of a million strips in `BigTIFF`.
const VALUE_BYTES: usize = 16 << 20;

type Reader<'r, 'a> = Decoder<Patched<&'r mut Input<'a>>>;

pub(super) fn header(input: &mut Input<'_>, wanted: &Wanted) -> Result<Header, DecodeError> {
    let page = wanted_page(input, wanted)?;
    let file_bytes = input.len();
    let mut reader = open(input, page)?;
    let (width, height) = reader.dimensions().map_err(refused)?;
    wanted.limits.check_size(width, height)?;
    let icc = icc(&mut reader)?;
    let kind = Kind::read(&mut reader, page.photometric.value, icc.as_deref())?;
    // The decoder's own check of the combination.
    reader.colortype().map_err(refused)?;
    check_chunks(file_bytes, &mut reader)?;
    check_tile(&mut reader, &wanted.limits)?;

    let orientation = reader
        .find_tag_unsigned::<u8>(Tag::Orientation)
        .map_err(refused)?;
    let mut warnings = Vec::new();
    if kind.is_bilevel() {
        warnings.push("the picture has only black and white".to_owned());
    }
    warnings.extend(kind.warning().map(str::to_owned));
    let mut header = Header {
        width,
        height,
        layout: kind.layout,
        orientation: orientation
            .and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms),
        colour: icc
            .filter(|_| kind.keeps_profile())
            .map_or(Declared::Srgb, Declared::Icc),
        page: Some(page),
        held_bytes: 0,
        stored: kind.stored(compression_name(&mut reader)?),
        warnings,
    };
    if !is_plain(&mut reader, &kind, &header)? {
        header.held_bytes = held_bytes(&mut reader, &header, &kind)?;
    }
    Ok(header)
}

/// What the reader of a row of strips or tiles holds: the largest as it is stored, what unpacking it takes, its
/// samples as they come from the decoder and as they are given out, and the whole row of tiles.
fn held_bytes(
    reader: &mut Reader<'_, '_>,
    header: &Header,
    kind: &Kind,
) -> Result<u64, DecodeError> {
    let places = Places::read(reader)?;
    let stored = places.iter().map(|(_, size)| size).max().unwrap_or(0);
    let (width, height) = reader.chunk_dimensions();
    let rows = u64::from(height.min(header.height));
    let samples = (header.layout.row_bytes(width) as u64).saturating_mul(rows);
    let row_of_tiles = (header.row_bytes() as u64).saturating_mul(rows);
    let rows = whole_rows(reader, header.height);
    let unpacking = match compression(reader)? {
        Some(CompressionMethod::ModernJPEG) => tiff_jpeg::held_bytes(width, rows, kind.samples()),
        Some(CompressionMethod::Deflate | CompressionMethod::OldDeflate) => {
            let row_bytes = kind.stored_bytes(width as usize, kind.samples());
            (row_bytes as u64).saturating_mul(rows.into())
        }
        _ => 0,
    };
    Ok(stored
        .saturating_add(unpacking)
        .saturating_add(samples.saturating_mul(2))
        .saturating_add(row_of_tiles))
}

fn icc<R: Read + Seek>(reader: &mut Decoder<R>) -> Result<Option<Vec<u8>>, DecodeError> {
    Ok(match reader.find_tag(Tag::IccProfile).map_err(refused)? {
        Some(profile) => Some(profile.into_u8_vec().map_err(refused)?),
        None => None,
    })
}

/// A strip or a row of tiles at a time, or less of large strips that are not compressed.
pub(super) fn rows<'a>(
    input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let page = header
        .page
        .ok_or_else(|| DecodeError::corrupt(FORMAT, DISAGREES))?;
    let mut decoder = open(input, page)?;
    let icc = icc(&mut decoder)?;
    let kind = Kind::read(&mut decoder, page.photometric.value, icc.as_deref())?;
    if let Some((colours, sharing)) = kind.shared_chroma() {
        return Ok(Box::new(SharedChroma::new(
            decoder, colours, sharing, header,
        )?));
    }
    if is_plain(&mut decoder, &kind, header)? {
        return Ok(Box::new(PlainStrips::new(decoder, kind, header)?));
    }
    Ok(Box::new(Chunks::new(decoder, kind, header)?))
}

fn open<R: Read + Seek>(mut input: R, page: Page) -> Result<Decoder<Patched<R>>, DecodeError> {
    input.rewind().map_err(DecodeError::Read)?;
    let input = Patched::new(input, patches(page));
    let mut buffers = DecoderLimits::default();
    // What is decoded goes into buffers of ours, which `Limits` has judged.
    buffers.intermediate_buffer_size = BUFFER_BYTES;
    buffers.ifd_value_size = VALUE_BYTES;
    let mut reader = Decoder::new(input).map_err(refused)?.with_limits(buffers);
    // 2: the lowest bit of a byte comes first, which the decoder does not look at.
    let order = reader.find_tag_unsigned::<u16>(Tag::FillOrder);
    if order.map_err(refused)? == Some(2)
        && compression(&mut reader)? != Some(CompressionMethod::ModernJPEG)
    {
        let places = Places::read(&mut reader)?;
        reader.inner().reverse_bits(places.iter());
    }
    Ok(reader)
}

/// The page comes first, so that the decoder does not walk through those before it. White-is-zero, palette and CIELab
/// are read as if they were gray; `Kind` knows better. A strip is no higher than the page: many say 2³²-1 rows, which
/// is the standard's own default, and the decoder of CCITT takes 16 bits.
fn patches(page: Page) -> Vec<Patch> {
    let Page {
        first,
        at,
        photometric,
        strip_rows,
        height,
    } = page;
    let gray = matches!(photometric.value, 0 | 3 | 8).then(|| photometric.patch(1));
    let low = (strip_rows.value > height).then(|| strip_rows.patch(height));
    let found = [Some(first.patch(at)), gray, low];
    let found = found.into_iter().flatten();
    found.filter(|patch| patch.at > 0).collect()
}

pub(super) fn compression<R: Read + Seek>(
    reader: &mut Decoder<R>,
) -> Result<Option<CompressionMethod>, DecodeError> {
    let method = reader
        .find_tag_unsigned::<u16>(Tag::Compression)
        .map_err(refused)?;
    Ok(method.map(CompressionMethod::from_u16_exhaustive))
}

fn compression_name<R: Read + Seek>(reader: &mut Decoder<R>) -> Result<&'static str, DecodeError> {
    Ok(match compression(reader)? {
        None | Some(CompressionMethod::None) => "none",
        Some(CompressionMethod::LZW) => "lzw",
        Some(CompressionMethod::Deflate | CompressionMethod::OldDeflate) => "deflate",
        Some(CompressionMethod::PackBits) => "packbits",
        Some(CompressionMethod::ModernJPEG) => "jpeg",
        Some(CompressionMethod::Fax4) => "ccitt group 4",
        Some(_) => "another",
    })
}

/// Checks that every strip or tile lies inside the file.
fn check_chunks(file_bytes: u64, reader: &mut Reader<'_, '_>) -> Result<(), DecodeError> {
    let inside = |(offset, size): (u64, u64)| {
        offset
            .checked_add(size)
            .is_some_and(|end| end <= file_bytes)
    };
    if Places::read(reader)?.iter().all(inside) {
        Ok(())
    } else {
        Err(DecodeError::Truncated { format: FORMAT })
    }
}

/// Rows of a strip or tile. A tile is whole at the picture's lower end, a strip ends with it at the latest.
///
/// - `height`: of the page.
pub(super) fn whole_rows<R: Read + Seek>(reader: &mut Decoder<R>, height: u32) -> u32 {
    let (_, rows) = reader.chunk_dimensions();
    match reader.get_chunk_type() {
        ChunkType::Strip => rows.min(height),
        ChunkType::Tile => rows,
    }
}

/// Holds a tile against the limits if it is unpacked whole, however small the page.
fn check_tile(reader: &mut Reader<'_, '_>, limits: &Limits) -> Result<(), DecodeError> {
    use CompressionMethod as C;
    let is_whole = matches!(
        compression(reader)?,
        Some(C::ModernJPEG | C::Deflate | C::OldDeflate)
    );
    let (width, height) = reader.chunk_dimensions();
    if reader.get_chunk_type() == ChunkType::Strip || !is_whole {
        return Ok(());
    }
    limits
        .check_size(width, height)
        .map_err(|_| refused(TiffError::LimitsExceeded))
}

pub(super) fn refused(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(_)) => {
            let remedy = "save it with Deflate or LZW, black and white with CCITT group 4";
            DecodeError::unsupported(FORMAT, "its compression", remedy)
        }
        TiffError::UnsupportedError(error) => DecodeError::unsupported(
            FORMAT,
            format!("a rare feature ({error})"),
            "convert it to RGB",
        ),
        TiffError::IntSizeError => DecodeError::unsupported(
            FORMAT,
            "strips or tiles too wide or too high for its compression",
            "save it in small strips or tiles, or with Deflate or LZW",
        ),
        TiffError::LimitsExceeded => DecodeError::unsupported(
            FORMAT,
            "very large strips or tiles",
            "save it in small tiles",
        ),
        other => DecodeError::corrupt(FORMAT, other),
    }
}
