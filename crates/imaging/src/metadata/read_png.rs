//! The metadata chunks of PNG.

use super::{
    Metadata, Resolution, Text,
    exif::tags,
    photoshop,
    source::{Bytes, MAX_BLOCK_BYTES},
};

/// A text that is longer when inflated is left out, in bytes: it may be made to fill memory.
const MAX_TEXT_BYTES: usize = 1 << 20;
const MAX_TEXTS: usize = 200;
const MAX_ALL_TEXTS_BYTES: usize = 4 << 20;

pub(crate) const XMP_KEYWORD: &[u8] = b"XML:com.adobe.xmp";
/// What most programs use, for want of a chunk for IPTC.
pub(crate) const IPTC_KEYWORD: &[u8] = b"Raw profile type iptc";
/// Other blocks in the same form.
const RAW_PROFILE: &[u8] = b"Raw profile type ";

/// Reads the chunks of the whole file: texts may be behind the pixels.
pub(super) fn read(bytes: &mut Bytes<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    let mut exif = None;
    let mut text_bytes = 0;
    let mut at = 8;
    while let Some(head) = bytes.array::<8>(at) {
        let [l3, l2, l1, l0, chunk @ ..] = head;
        let length = u32::from_be_bytes([l3, l2, l1, l0]);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        match &chunk {
            b"eXIf" => match bytes.get(at + 8, size) {
                Some(block) => exif = exif.or(Some(block)),
                None => metadata.leave_behind("a damaged EXIF block"),
            },
            b"pHYs" => {
                if let Some(says) = bytes.array(at + 8) {
                    let found = physical(&mut metadata, says);
                    metadata.resolution = metadata.resolution.or(found);
                }
            }
            b"tEXt" | b"zTXt" | b"iTXt" if size > MAX_BLOCK_BYTES => {
                metadata.leave_behind("long texts")
            }
            b"tEXt" | b"zTXt" | b"iTXt" => {
                if let Some(data) = bytes.get(at + 8, size) {
                    text(&mut metadata, chunk, data, &mut text_bytes);
                }
            }
            b"IEND" => break,
            _ => {
                if let Some(name) = left_behind(chunk) {
                    metadata.leave_behind(name);
                }
            }
        }
        at += u64::from(length) + 12;
    }
    if let Some(block) = exif {
        // The resolution of the chunk made for it goes before that of EXIF.
        metadata.set_exif_block(&block);
    }
    metadata
}

/// Pixels a metre across and down, if the last byte says so.
fn physical(
    metadata: &mut Metadata,
    [x3, x2, x1, x0, y3, y2, y1, y0, unit]: [u8; 9],
) -> Option<Resolution> {
    let x = u32::from_be_bytes([x3, x2, x1, x0]);
    let y = u32::from_be_bytes([y3, y2, y1, y0]);
    if unit != 1 {
        metadata.note_aspect(x, y);
        return None;
    }
    Resolution::from_metres(x, y)
}

/// What a chunk holds, by name; nothing where it is about the pixels or their colour.
fn left_behind(chunk: [u8; 4]) -> Option<&'static str> {
    Some(match &chunk {
        b"IHDR" | b"PLTE" | b"IDAT" | b"tRNS" | b"gAMA" | b"cHRM" | b"sRGB" | b"iCCP" | b"cICP"
        | b"hIST" => return None,
        b"caBX" => tags::CONTENT_CREDENTIALS,
        b"tIME" => "the time of the last change",
        b"sBIT" => "the number of significant bits",
        b"bKGD" => "the background colour",
        _ => "chunks of other programs",
    })
}

fn text(metadata: &mut Metadata, chunk: [u8; 4], data: Vec<u8>, text_bytes: &mut usize) {
    let keyword = data.split(|byte| *byte == 0).next().unwrap_or_default();
    let is_xmp = chunk == *b"iTXt" && keyword == XMP_KEYWORD;
    let limit = if is_xmp {
        MAX_BLOCK_BYTES
    } else {
        MAX_TEXT_BYTES
    };
    let Some(content) = content(chunk, &data, limit) else {
        return metadata.leave_behind("long or damaged texts");
    };
    if is_xmp {
        metadata.xmp.get_or_insert(content);
    } else if keyword.eq_ignore_ascii_case(IPTC_KEYWORD) {
        match raw_profile(&content) {
            Some(block) if block.starts_with(b"8BIM") => metadata.set_photoshop(&block),
            Some(iptc) => drop(metadata.iptc.get_or_insert(iptc)),
            None => metadata.leave_behind("a damaged IPTC block"),
        }
    } else if keyword.starts_with(RAW_PROFILE) {
        metadata.leave_behind("profiles in texts");
    } else {
        *text_bytes += data.len();
        if metadata.texts.len() == MAX_TEXTS || *text_bytes > MAX_ALL_TEXTS_BYTES {
            return metadata.leave_behind("long texts");
        }
        metadata.texts.push(Text { chunk, data });
    }
}

/// What the chunk says, inflated; `None` if it is damaged or has more than `limit` bytes.
fn content(chunk: [u8; 4], data: &[u8], limit: usize) -> Option<Vec<u8>> {
    let end = data.iter().position(|byte| *byte == 0)?;
    if !(1..=79).contains(&end) {
        return None;
    }
    let rest = &data[end + 1..];
    let (packed, text) = match &chunk {
        b"tEXt" => (false, rest),
        // Compression method 0 is deflate, the only one.
        b"zTXt" => (true, rest.strip_prefix(&[0])?),
        _ => {
            let (flags, rest) = rest.split_first_chunk::<2>()?;
            // The language, and the keyword in it.
            let mut parts = rest.splitn(3, |byte| *byte == 0);
            let text = parts.nth(2)?;
            (flags[0] == 1, text)
        }
    };
    if packed {
        return fdeflate::decompress_to_vec_bounded(text, limit).ok();
    }
    (text.len() <= limit).then(|| text.to_vec())
}

/// The bytes of a block that was written in hexadecimal: a name, its length, digits.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.split_ascii_whitespace();
    let length: usize = words.nth(1)?.parse().ok()?;
    let digits: Vec<u8> = words
        .flat_map(str::chars)
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    let block: Vec<u8> = digits
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[high, low]| high << 4 | low)
        .collect();
    (block.len() == length).then_some(block)
}

/// `block` in that form.
pub(crate) fn to_raw_profile(name: &str, block: &[u8]) -> Vec<u8> {
    use std::fmt::Write as _;
    const BYTES_IN_A_LINE: usize = 36;
    let mut text = format!("\n{name}\n{:8}", block.len());
    for line in block.chunks(BYTES_IN_A_LINE) {
        text.push('\n');
        for byte in line {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text.push('\n');
    text.into_bytes()
}

/// IPTC in that form.
pub(crate) fn iptc_profile(iptc: &[u8]) -> Vec<u8> {
    to_raw_profile("iptc", &photoshop::with_iptc(iptc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_in_hexadecimal_reads_back() {
        let block: Vec<u8> = (0..=255).collect();
        assert_eq!(raw_profile(&to_raw_profile("iptc", &block)), Some(block));
        for broken in ["", "\niptc\n 4\n00", "\niptc\n 1\n0g", "iptc"] {
            assert_eq!(raw_profile(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_text_that_inflates_to_megabytes_is_not_inflated() {
        let packed = crate::writer::zlib_stream(&vec![b'a'; MAX_TEXT_BYTES + 1]);
        let chunk = [&b"Comment\0\0"[..], &packed].concat();
        assert_eq!(content(*b"zTXt", &chunk, MAX_TEXT_BYTES), None);
        let packed = crate::writer::zlib_stream(b"short");
        let chunk = [&b"Comment\0\x01\0de\0Bemerkung\0"[..], &packed].concat();
        assert_eq!(
            content(*b"iTXt", &chunk, MAX_TEXT_BYTES).as_deref(),
            Some(&b"short"[..])
        );
    }
}
