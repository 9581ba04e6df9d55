//! WebP: the `image-webp` crate, lossy and lossless, still pictures.

use std::io::{Cursor, ErrorKind};

use image::metadata::Orientation;
use image_webp::{DecodingError, WebPDecoder};

use super::{
    Header,
    input::Input,
    rows::{StoredRows, Whole},
    stored::Stored,
};
use crate::{DecodeError, InputFormat, Limits, colour::Declared, samples::Layout};

const FORMAT: InputFormat = InputFormat::WebP;

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(refused)?;
    let (width, height) = decoder.dimensions();
    limits.check_size(width, height)?;
    if decoder.is_animated() {
        let remedy = "save its frames as separate files";
        return Err(DecodeError::unsupported(FORMAT, "an animation", remedy));
    }
    check_length(bytes)?;
    check_frame(bytes, width, height)?;

    let stored = if decoder.is_lossy() {
        Stored::new(8, "ycbcr", "lossy")
    } else {
        Stored::new(8, "rgb", "lossless")
    };
    decoder.set_memory_limit(bytes.len());
    let icc = decoder.icc_profile().map_err(refused)?;
    let exif = decoder.exif_metadata().map_err(refused)?;
    Ok(Header {
        width,
        height,
        layout: Layout {
            alpha: decoder.has_alpha(),
            ..Layout::RGB8
        },
        orientation: exif
            .and_then(|exif| Orientation::from_exif_chunk(&exif))
            .unwrap_or(Orientation::NoTransforms),
        colour: icc.map_or(Declared::Srgb, Declared::Icc),
        page: None,
        held_bytes: 0,
        stored,
        warnings: Vec::new(),
    })
}

/// The decoder gives no rows before it has them all.
pub(super) fn rows<'a>(
    mut input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(refused)?;
    let size_bytes = decoder
        .output_buffer_size()
        .ok_or_else(|| DecodeError::corrupt(FORMAT, "the size cannot be addressed"))?;
    if decoder.dimensions() != (header.width, header.height) {
        return Err(DecodeError::corrupt(
            FORMAT,
            "the size disagrees with the header",
        ));
    }
    if size_bytes != header.row_bytes() * header.rows() {
        return Err(DecodeError::corrupt(
            FORMAT,
            "its transparency disagrees with the header",
        ));
    }
    let mut samples = vec![0; size_bytes];
    decoder.read_image(&mut samples).map_err(refused)?;
    Ok(Box::new(Whole(samples)))
}

/// The RIFF header declares the length: a shorter file is cut off, whatever the decoder can make
/// of it.
fn check_length(bytes: &[u8]) -> Result<(), DecodeError> {
    let declared = match *bytes {
        [_, _, _, _, b0, b1, b2, b3, ..] => u32::from_le_bytes([b0, b1, b2, b3]),
        _ => return Err(DecodeError::Truncated { format: FORMAT }),
    };
    let there = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if there < u64::from(declared) + 8 {
        return Err(DecodeError::Truncated { format: FORMAT });
    }
    Ok(())
}

/// The frame of a lossy picture declares its own size, which the decoder allocates before it
/// compares; it must be the size that was judged.
fn check_frame(bytes: &[u8], width: u32, height: u32) -> Result<(), DecodeError> {
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        // Three bytes of frame tag, three of start code, then 14 bits each of width and height.
        if head.starts_with(b"VP8 ")
            && let Some(&[w0, w1, h0, h1]) = bytes.get(at + 14..at + 18)
        {
            let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
            if (side(w0, w1), side(h0, h1)) != (width, height) {
                return Err(DecodeError::corrupt(
                    FORMAT,
                    "the size disagrees with the header",
                ));
            }
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        at = at
            .saturating_add(8)
            .saturating_add(size)
            .saturating_add(size % 2)
            .min(bytes.len());
    }
    Ok(())
}

fn refused(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        other => DecodeError::corrupt(FORMAT, other),
    }
}
