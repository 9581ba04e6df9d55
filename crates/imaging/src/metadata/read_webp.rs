//! The metadata chunks of WebP.

use super::{Metadata, exif::tags, source::Bytes};

pub(super) fn read(bytes: &mut Bytes<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    let mut at = 12;
    while let Some([c0, c1, c2, c3, l0, l1, l2, l3]) = bytes.array::<8>(at) {
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        match &[c0, c1, c2, c3] {
            b"EXIF" if metadata.exif.is_none() => match bytes.get(at + 8, size) {
                Some(block) => metadata.set_exif_block(&block),
                None => metadata.leave_behind("a damaged EXIF block"),
            },
            b"XMP " if metadata.xmp.is_none() => {
                metadata.xmp = bytes.get(at + 8, size);
            }
            b"VP8 " | b"VP8L" | b"VP8X" | b"ALPH" | b"ICCP" => {}
            b"EXIF" | b"XMP " => metadata.leave_behind("further EXIF or XMP"),
            b"C2PA" => metadata.leave_behind(tags::CONTENT_CREDENTIALS),
            _ => metadata.leave_behind("chunks of other programs"),
        }
        at += 8 + u64::from(length) + u64::from(length % 2);
    }
    metadata
}
