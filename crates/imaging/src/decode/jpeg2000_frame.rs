//! What a JPEG 2000 file says of its size and its colours, before a decoder looks at it; and whether the
//! codestream has its end.

use super::jpeg2000::FORMAT;
use crate::DecodeError;

/// The size marker (SIZ).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    pub components: u16,
    /// Of every sample; `None` for signed ones, or where components differ.
    pub bits: Option<u8>,
    /// Components have different sizes.
    pub subsampled: bool,
}

/// SOC, SIZ.
const START: &[u8] = b"\xFF\x4F\xFF\x51";
const END: &[u8] = b"\xFF\xD9";

/// # Errors
/// [`DecodeError::Truncated`] without its end, [`DecodeError::Corrupt`] for a size that cannot be.
pub(super) fn frame(file: &[u8]) -> Result<Frame, DecodeError> {
    let cut_off = || DecodeError::Truncated { format: FORMAT };
    let stream = codestream(file).ok_or_else(cut_off)?;
    if !stream.ends_with(END) {
        return Err(cut_off());
    }
    size(stream).ok_or_else(|| DecodeError::corrupt(FORMAT, "its size cannot be"))
}

/// The codestream of a JP2 file, or all of a bare one; `None` if it is cut off.
fn codestream(file: &[u8]) -> Option<&[u8]> {
    if file.starts_with(START) {
        return Some(file);
    }
    find(file, b"jp2c")
}

/// Whether the file says that its colours are gray or RGB, by number or by profile; a bare codestream says
/// nothing. The decoder takes what contradicts the number of channels for RGB.
pub(super) fn says_gray_or_rgb(file: &[u8]) -> bool {
    let Some(colour) = find(file, b"jp2h").and_then(|header| find(header, b"colr")) else {
        return true;
    };
    match colour {
        // sRGB, gray, sYCC, ROMM RGB.
        [1, _, _, number @ ..] => matches!(number, [0, 0, 0, 16..=18 | 21, ..]),
        [2 | 3, _, _, profile @ ..] => matches!(profile.get(16..20), Some(b"GRAY" | b"RGB ")),
        _ => false,
    }
}

/// The content of the first box of a kind; `None` without one, or where the file ends before it does.
fn find<'a>(boxes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = boxes;
    loop {
        let (head, kind) = (rest.get(..4)?, rest.get(4..8)?);
        let short = u32::from_be_bytes(head.try_into().ok()?);
        let (from, to) = match short {
            // To the end of the file.
            0 => (8, rest.len()),
            1 => {
                let long = u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?);
                (16, usize::try_from(long).ok()?)
            }
            short => (8, usize::try_from(short).ok()?),
        };
        let content = rest.get(from..to)?;
        if kind == wanted {
            return Some(content);
        }
        rest = &rest[to..];
    }
}

fn size(stream: &[u8]) -> Option<Frame> {
    let long = |at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(stream.get(at..at + 4)?.try_into().ok()?))
    };
    // Behind the two markers, the length and the capabilities: the far corner, then the near one.
    let side =
        |far: usize, near: usize| long(far)?.checked_sub(long(near)?).filter(|side| *side > 0);
    let (width, height) = (side(8, 16)?, side(12, 20)?);
    let components = u16::from_be_bytes(stream.get(40..42)?.try_into().ok()?);
    let each = stream.get(42..42 + 3 * usize::from(components))?;
    let mut each = each.as_chunks::<3>().0.iter();
    let [first, ..] = *each.clone().next()?;
    let same = each.clone().all(|[depth, ..]| *depth == first);
    Some(Frame {
        width,
        height,
        components,
        // The highest bit is for signed samples; one bit is stored as zero.
        bits: (same && first < 0x80).then_some(first.wrapping_add(1)),
        subsampled: each.any(|[_, across, down]| (*across, *down) != (1, 1)),
    })
}
