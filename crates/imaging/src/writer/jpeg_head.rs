//! The metadata segments of a JPEG file.

use crate::metadata::{EXIF_PREFIX, Metadata, PHOTOSHOP_PREFIX, XMP_PREFIX, with_iptc};

const APP1: u8 = 0xE1;
const APP13: u8 = 0xED;
const COMMENT: u8 = 0xFE;

/// Where the density is in the segment that comes first, and where that segment ends, in bytes: marker,
/// length, `JFIF`, version, then unit and density, then the size of a thumbnail.
const DENSITY_AT: usize = 13;
pub(super) const JFIF_END: usize = 20;

/// Whether a file begins with such a segment.
pub(super) fn is_jfif(file: &[u8]) -> bool {
    file.starts_with(b"\xFF\xD8\xFF\xE0\x00\x10JFIF\0") && file.len() > JFIF_END
}

/// Appends the first segment of `file` with the density of the metadata, and their other segments.
///
/// - `file`: one that [`is_jfif`].
pub(super) fn append(file: &[u8], metadata: &Metadata, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&file[..JFIF_END]);
    let resolution = metadata.resolution;
    if let Some((unit, (x, y))) = resolution.and_then(|found| Some((found.unit, found.density()?)))
    {
        // 1 is the inch in JFIF, where it is 2 in EXIF.
        let mut density = vec![unit.tag().to_le_bytes()[0] - 1];
        density.extend(x.to_be_bytes());
        density.extend(y.to_be_bytes());
        out[start + DENSITY_AT..start + DENSITY_AT + density.len()].copy_from_slice(&density);
    }
    if let Some(exif) = &metadata.exif {
        append_segment(APP1, EXIF_PREFIX, &exif.to_block(resolution), out);
    }
    if let Some(xmp) = &metadata.xmp {
        append_segment(APP1, XMP_PREFIX, xmp, out);
    }
    if let Some(iptc) = &metadata.iptc {
        append_segment(APP13, PHOTOSHOP_PREFIX, &with_iptc(iptc), out);
    }
    if let Some(comment) = &metadata.comment {
        append_segment(COMMENT, &[], comment, out);
    }
}

fn append_segment(marker: u8, prefix: &[u8], block: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(2 + prefix.len() + block.len())
        .expect("longer blocks are left out by `Metadata::for_result`");
    out.extend([0xFF, marker]);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(prefix);
    out.extend_from_slice(block);
}
