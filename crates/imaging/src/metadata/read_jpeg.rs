//! The metadata segments of JPEG.

use super::{
    Metadata, Resolution, Unit,
    exif::tags,
    source::{Bytes, MAX_BLOCK_BYTES},
};

const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP2: u8 = 0xE2;
const APP11: u8 = 0xEB;
const APP12: u8 = 0xEC;
const APP13: u8 = 0xED;
const APP14: u8 = 0xEE;
const APP15: u8 = 0xEF;
const COMMENT: u8 = 0xFE;
const SOS: u8 = 0xDA;
const EOI: u8 = 0xD9;

/// What [`XMP`](super::xmp) has before it, and what is a packet's continuation.
pub(crate) const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const XMP_EXTENSION: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
pub(crate) const EXIF_PREFIX: &[u8] = b"Exif\0\0";
pub(crate) const PHOTOSHOP_PREFIX: &[u8] = b"Photoshop 3.0\0";

/// Reads the segments before the first scan.
pub(super) fn read(bytes: &mut Bytes<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    let mut density = None;
    let mut photoshop = Vec::new();
    let mut at = 2;
    while let Some([fill, marker]) = bytes.array::<2>(at) {
        if fill != 0xFF || matches!(marker, SOS | EOI) {
            break;
        }
        // Padding, and markers that stand alone.
        if matches!(marker, 0xFF) {
            at += 1;
            continue;
        }
        if matches!(marker, 0x01 | 0xD0..=0xD8) {
            at += 2;
            continue;
        }
        let Some(length) = bytes.array(at + 2).map(u16::from_be_bytes) else {
            break;
        };
        if matches!(marker, APP0..=APP15 | COMMENT) && length >= 2 {
            let Some(payload) = bytes.get(at + 4, usize::from(length) - 2) else {
                break;
            };
            match marker {
                APP0 => density = density.or_else(|| jfif_density(&mut metadata, &payload)),
                APP1 => app1(&mut metadata, &payload),
                APP13 if payload.starts_with(PHOTOSHOP_PREFIX) => {
                    photoshop_piece(&mut photoshop, &payload);
                }
                COMMENT if payload.is_empty() => {}
                COMMENT if metadata.comment.is_none() => metadata.comment = Some(payload),
                COMMENT => metadata.leave_behind("further comments"),
                _ => {
                    if let Some(name) = left_behind(marker, &payload) {
                        metadata.leave_behind(name);
                    }
                }
            }
        }
        at += 2 + u64::from(length.max(2));
    }
    if !photoshop.is_empty() {
        metadata.set_photoshop(&photoshop);
    }
    metadata.resolution = resolution(density, metadata.resolution);
    metadata
}

/// What a segment of an application holds, by name; nothing where it is about the coding of the pixels, or the
/// profile, which has its own way.
fn left_behind(marker: u8, payload: &[u8]) -> Option<&'static str> {
    Some(match (marker, payload) {
        (APP2, [b'I', b'C', b'C', b'_', ..]) | (APP14, [b'A', b'd', b'o', b'b', b'e', ..]) => {
            return None;
        }
        // What the program that saved it was told of its quality.
        (APP12, [b'D', b'u', b'c', b'k', b'y', ..]) => return None,
        (APP2, [b'M', b'P', b'F', 0, ..]) => "further pictures (MPF)",
        (APP2, [b'F', b'P', b'X', b'R', ..]) => "FlashPix",
        (APP11, [b'J', b'P', ..]) => tags::CONTENT_CREDENTIALS,
        _ => "blocks of other programs",
    })
}

fn app1(metadata: &mut Metadata, payload: &[u8]) {
    if let Some(block) = payload.strip_prefix(EXIF_PREFIX) {
        if metadata.exif.is_none() {
            metadata.set_exif_block(block);
        } else {
            metadata.leave_behind("further EXIF");
        }
    } else if let Some(packet) = payload.strip_prefix(XMP_PREFIX) {
        metadata.xmp.get_or_insert_with(|| packet.to_vec());
    } else if payload.starts_with(XMP_EXTENSION) {
        metadata.leave_behind("the extension of XMP");
    } else {
        metadata.leave_behind("blocks of other programs");
    }
}

/// A list of resources may go on in the next segment.
fn photoshop_piece(list: &mut Vec<u8>, payload: &[u8]) {
    if let Some(piece) = payload.strip_prefix(PHOTOSHOP_PREFIX)
        && list.len() + piece.len() <= MAX_BLOCK_BYTES
    {
        list.extend_from_slice(piece);
    }
}

/// What JFIF says: pixels across and down an inch or a centimetre.
fn jfif_density(metadata: &mut Metadata, payload: &[u8]) -> Option<Resolution> {
    let rest = payload.strip_prefix(b"JFIF\0")?;
    let [_, _, unit, x1, x0, y1, y0, ..] = *rest else {
        return None;
    };
    let side = |high, low| (u32::from(u16::from_be_bytes([high, low])), 1);
    let unit = match unit {
        1 => Unit::Inch,
        2 => Unit::Centimetre,
        _ => {
            metadata.note_aspect(side(x1, x0).0, side(y1, y0).0);
            return None;
        }
    };
    Resolution::new(side(x1, x0), side(y1, y0), unit)
}

/// JFIF and EXIF may disagree: 72 dpi is what programs write when they know nothing.
fn resolution(jfif: Option<Resolution>, exif: Option<Resolution>) -> Option<Resolution> {
    let nothing = Resolution::new((72, 1), (72, 1), Unit::Inch);
    match (jfif, exif) {
        (Some(_), Some(exif)) if jfif == nothing => Some(exif),
        // The same, but exactly.
        (Some(jfif), Some(exif)) if exif.unit == jfif.unit && exif.density() == jfif.density() => {
            Some(exif)
        }
        (jfif, exif) => jfif.or(exif),
    }
}
