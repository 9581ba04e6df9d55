//! Tells a file's format from its first bytes; names and extensions are never believed.

use crate::{DecodeError, InputFormat};

/// Of its file, and of a bare codestream.
const JPEG_2000: [&[u8]; 2] = [b"\0\0\0\x0CjP  \r\n\x87\n", b"\xFF\x4F\xFF\x51"];

/// What is said of it by a build that cannot read it.
pub(crate) const NO_JPEG_2000: &str = "JPEG 2000 in a build without the cargo feature `jpeg2000`";

/// Finds the format of a file from its first bytes (512 are enough); nothing else is checked.
///
/// # Errors
/// [`DecodeError::Empty`], [`DecodeError::UnsupportedFormat`] for a known format that is not read,
/// [`DecodeError::NotAnImage`] with a guess for anything else.
pub fn sniff(bytes: &[u8]) -> Result<InputFormat, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if let Some(format) = known(bytes) {
        return Ok(format);
    }
    if let Some(name) = foreign(bytes) {
        return Err(DecodeError::UnsupportedFormat(name));
    }
    Err(DecodeError::NotAnImage(guess(bytes)))
}

fn known(bytes: &[u8]) -> Option<InputFormat> {
    if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        return Some(InputFormat::Jpeg);
    }
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(InputFormat::Png);
    }
    // 42 is classic TIFF, 43 BigTIFF.
    if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
        .iter()
        .any(|magic| bytes.starts_with(*magic))
    {
        return Some(InputFormat::Tiff);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(InputFormat::WebP);
    }
    if cfg!(feature = "jpeg2000") && JPEG_2000.iter().any(|magic| bytes.starts_with(magic)) {
        return Some(InputFormat::Jpeg2000);
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some(InputFormat::Gif);
    }
    // Two letters are too few to believe: the four bytes behind the size are reserved and zero.
    if bytes.starts_with(b"BM") && bytes.get(6..10) == Some(&[0; 4]) {
        return Some(InputFormat::Bmp);
    }
    None
}

fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 11] = [
        (b"%PDF-", "PDF"),
        (b"%!PS", "PostScript"),
        (JPEG_2000[0], NO_JPEG_2000),
        (JPEG_2000[1], NO_JPEG_2000),
        (b"\0\0\0\x0CJXL \r\n\x87\n", "JPEG XL"),
        (b"\xFF\x0A", "JPEG XL"),
        (b"8BPS", "Photoshop PSD"),
        (b"\x76\x2F\x31\x01", "OpenEXR"),
        (b"AT&TFORM", "DjVu"),
        (b"qoif", "QOI"),
        (b"\0\0\x01\0", "ICO"),
    ];
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(name);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some(match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "AVIF",
            Some(b"heic" | b"heix" | b"mif1" | b"hevc") => "HEIC",
            _ => "MP4 or another video",
        });
    }
    if as_text(bytes).is_some_and(|text| text.contains("<svg")) {
        return Some("SVG");
    }
    None
}

fn guess(bytes: &[u8]) -> &'static str {
    const PNG_AS_TEXT: &[u8] = b"\x89PNG";
    if let Some(text) = as_text(bytes) {
        let text = text.trim_start();
        if text.starts_with("<!doctype html") || text.starts_with("<html") {
            return "it is a web page, perhaps the error page of a failed download";
        }
        if text.starts_with("<?xml") || text.starts_with('<') {
            return "it is an XML text";
        }
        if text.starts_with('{') || text.starts_with('[') {
            return "it is a JSON text";
        }
        return "it is plain text";
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return "it is a ZIP archive or an office document";
    }
    if bytes.starts_with(&[0x1F, 0x8B]) {
        return "it is gzip-compressed";
    }
    if bytes.starts_with(PNG_AS_TEXT) || bytes.starts_with(&[0xFF, 0xD8]) {
        return "its first bytes are damaged";
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return "it holds only zeros";
    }
    "its first bytes belong to no known image format"
}

/// The start of the file in lower case, when it is text.
fn as_text(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(512)];
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    // The cut at 512 bytes may split a character; only a replacement at the very end is text then.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printable = text.chars().all(|c| !c.is_control() || c.is_whitespace());
    (printable && !text.is_empty()).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_named() {
        let cases: [(&[u8], &str, &str); 7] = [
            (b"", "unreadable", "empty"),
            (
                b"<!DOCTYPE html><title>404</title>",
                "unreadable",
                "web page",
            ),
            ("not an image, süß".as_bytes(), "unreadable", "plain text"),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", "unreadable", "zeros"),
            (b"%PDF-1.7", "unsupported", "PDF"),
            (
                b"<?xml version='1.0'?>\n<svg xmlns=''/>",
                "unsupported",
                "SVG",
            ),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "unsupported", "AVIF"),
        ];
        for (bytes, reason, word) in cases {
            let error = sniff(bytes).unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
