//! The metadata boxes of a JP2 file.

use std::ops::Range;

use super::{
    Metadata, Resolution, Unit,
    source::{Bytes, MAX_BLOCK_BYTES},
};

const XMP: [u8; 16] = *b"\xBE\x7A\xCF\xCB\x97\xA9\x42\xE8\x9C\x71\x99\x94\x91\xE3\xAF\xAC";
const EXIF: [u8; 16] = *b"JpgTiffExif->JP2";
/// More than any program writes.
const MAX_BOXES: usize = 1_000;
/// Boxes in boxes: the header's in the file, the resolutions' in the header's.
const MAX_DEPTH: u8 = 2;

/// A bare codestream has none.
pub(super) fn read(bytes: &mut Bytes<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    let is_file = bytes
        .array::<8>(0)
        .is_some_and(|head| head[4..] == *b"jP  ");
    if is_file {
        boxes(bytes, 0..u64::MAX, 0, &mut metadata);
    }
    metadata
}

/// Reads the boxes in a range of bytes.
fn boxes(bytes: &mut Bytes<'_>, range: Range<u64>, depth: u8, metadata: &mut Metadata) {
    let (mut at, end) = (range.start, range.end);
    for _ in 0..MAX_BOXES {
        let Some((kind, from, to)) = one(bytes, at).filter(|(.., to)| at < end && *to > at) else {
            return;
        };
        match &kind {
            b"jp2h" | b"res " if depth < MAX_DEPTH => {
                boxes(bytes, from..to.min(end), depth + 1, metadata);
            }
            // Of the capture before that for showing.
            b"resc" => metadata.resolution = resolution(bytes, from).or(metadata.resolution),
            b"resd" => metadata.resolution = metadata.resolution.or(resolution(bytes, from)),
            b"uuid" => block(bytes, from, to, metadata),
            _ => {}
        }
        at = to;
    }
}

/// Its kind, and where its content begins and ends.
fn one(bytes: &mut Bytes<'_>, at: u64) -> Option<([u8; 4], u64, u64)> {
    let [l3, l2, l1, l0, kind @ ..] = bytes.array::<8>(at)?;
    match u32::from_be_bytes([l3, l2, l1, l0]) {
        // To the end of the file.
        0 => Some((kind, at + 8, u64::MAX)),
        1 => {
            let long = u64::from_be_bytes(bytes.array(at + 8)?);
            Some((kind, at + 16, at.checked_add(long)?))
        }
        short => Some((kind, at + 8, at + u64::from(short))),
    }
}

fn block(bytes: &mut Bytes<'_>, from: u64, to: u64, metadata: &mut Metadata) {
    let Some(name) = bytes.array::<16>(from) else {
        return;
    };
    let length = to
        .checked_sub(from + 16)
        .and_then(|length| usize::try_from(length).ok());
    let content = length.filter(|length| *length <= MAX_BLOCK_BYTES);
    let content = content.and_then(|length| bytes.get(from + 16, length));
    match (name, content) {
        (XMP, Some(content)) => metadata.xmp = metadata.xmp.take().or(Some(content)),
        (EXIF, Some(content)) => metadata.set_exif_block(&content),
        (XMP | EXIF, None) => metadata.leave_behind("a damaged block"),
        _ => {}
    }
}

/// Down, then across: numerator and denominator in pixels to a metre, and how many zeros follow.
fn resolution(bytes: &mut Bytes<'_>, at: u64) -> Option<Resolution> {
    let [yn1, yn0, yd1, yd0, xn1, xn0, xd1, xd0, y_zeros, x_zeros] = bytes.array::<10>(at)?;
    let ratio = |numerator: [u8; 2], denominator: [u8; 2], zeros: u8| {
        let mut numerator = u32::from(u16::from_be_bytes(numerator));
        // A metre has a hundred centimetres.
        let mut denominator = u32::from(u16::from_be_bytes(denominator)).checked_mul(100)?;
        let zeros = i8::from_be_bytes([zeros]);
        let scale = 10_u32.checked_pow(u32::from(zeros.unsigned_abs()))?;
        if zeros < 0 {
            denominator = denominator.checked_mul(scale)?;
        } else {
            numerator = numerator.checked_mul(scale)?;
        }
        Some((numerator, denominator))
    };
    let x = ratio([xn1, xn0], [xd1, xd0], x_zeros)?;
    let y = ratio([yn1, yn0], [yd1, yd0], y_zeros)?;
    Resolution::new(x, y, Unit::Centimetre)
}
