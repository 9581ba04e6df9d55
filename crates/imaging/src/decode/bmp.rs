//! Windows bitmaps: the decoder of the `image` crate.

use std::io::{Cursor, ErrorKind};

use image::{ColorType, ImageDecoder, ImageError, codecs::bmp::BmpDecoder, metadata::Orientation};

use super::{
    Header,
    input::Input,
    rows::{StoredRows, Whole},
    stored::Stored,
};
use crate::{
    DecodeError, InputFormat, Limits,
    colour::Declared,
    samples::{Depth, Layout},
};

const FORMAT: InputFormat = InputFormat::Bmp;

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    check_complete(bytes)?;
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(refused)?;
    let (width, height) = decoder.dimensions();
    limits.check_size(width, height)?;
    if width == 0 || height == 0 {
        return Err(DecodeError::corrupt(FORMAT, "the picture has no pixels"));
    }
    let icc = decoder.icc_profile().map_err(refused)?;
    // Fields of the header: bits of a pixel, and how they are packed. Some of the oldest have no second.
    let field = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let compression = match field(30) {
        1 | 2 => "rle",
        _ => "none",
    };
    let stored = match field(28) {
        bits @ 0..=8 => Stored::new(bits, "palette", compression),
        16 => Stored::new(5, "rgb", compression),
        _ => Stored::new(8, "rgb", compression),
    };
    Ok(Header {
        width,
        height,
        layout: Layout {
            gray: false,
            alpha: decoder.color_type() == ColorType::Rgba8,
            depth: Depth::Eight,
        },
        orientation: Orientation::NoTransforms,
        colour: icc.map_or(Declared::Srgb, Declared::Icc),
        page: None,
        held_bytes: 0,
        stored,
        warnings: Vec::new(),
    })
}

/// Stored from the bottom upwards as a rule, so it is read whole.
pub(super) fn rows<'a>(
    mut input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(refused)?;
    let mut samples = vec![0; header.row_bytes() * header.rows()];
    if decoder.total_bytes() != samples.len() as u64 {
        return Err(DecodeError::corrupt(
            FORMAT,
            "the size disagrees with the header",
        ));
    }
    decoder.read_image(&mut samples).map_err(refused)?;
    Ok(Box::new(Whole(samples)))
}

/// The header says how long the file is; 0 or nonsense is common, a file that is shorter is cut off.
fn check_complete(bytes: &[u8]) -> Result<(), DecodeError> {
    let number = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u32::from_le_bytes)
    };
    let cut_off = || DecodeError::Truncated { format: FORMAT };
    let (declared, pixels) = number(2).zip(number(10)).ok_or_else(cut_off)?;
    let there = bytes.len() as u64;
    if there < u64::from(declared) || there <= u64::from(pixels) {
        return Err(cut_off());
    }
    Ok(())
}

fn refused(error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        ImageError::Unsupported(error) => DecodeError::unsupported(
            FORMAT,
            format!("a rare feature ({error})"),
            "save it as png or tiff",
        ),
        other => DecodeError::corrupt(FORMAT, other),
    }
}
