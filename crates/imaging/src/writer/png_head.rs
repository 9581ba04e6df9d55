//! What is in front of the pixels of a PNG file.

use super::{Shape, deflate, png::append_chunk};
use crate::{
    EncodeOptions, Metadata,
    metadata::{IPTC_KEYWORD, XMP_KEYWORD, iptc_profile},
};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// Appends signature, size, ICC profile and metadata.
pub(super) fn append(shape: &Shape, options: &EncodeOptions, out: &mut Vec<u8>) {
    out.extend(SIGNATURE);
    let mut header = Vec::with_capacity(13);
    header.extend(shape.width.to_be_bytes());
    header.extend(shape.height.to_be_bytes());
    // Bits a sample; colour type 0 is gray and 2 RGB, with 4 more for alpha; deflate, adaptive filters,
    // no interlace.
    let color = if shape.gray() { 0 } else { 2 } + if shape.layout.alpha { 4 } else { 0 };
    header.extend([shape.layout.depth.bits(), color, 0, 0, 0]);
    append_chunk(*b"IHDR", &header, out);
    if let Some(icc) = &options.icc {
        // A name, its end, and compression method 0.
        let mut profile = b"ICC profile\0\0".to_vec();
        profile.extend(deflate::zlib_stream(icc));
        append_chunk(*b"iCCP", &profile, out);
    }
    append_metadata(&options.metadata, out);
}

fn append_metadata(metadata: &Metadata, out: &mut Vec<u8>) {
    if let Some(resolution) = metadata.resolution {
        let (x, y) = resolution.per_metre();
        let mut physical = [x.to_be_bytes(), y.to_be_bytes()].concat();
        // Pixels a metre.
        physical.push(1);
        append_chunk(*b"pHYs", &physical, out);
    }
    if let Some(exif) = &metadata.exif {
        append_chunk(*b"eXIf", &exif.to_block(metadata.resolution), out);
    }
    if let Some(xmp) = &metadata.xmp {
        // Not compressed, no language, no translated keyword: as readers of XMP expect it.
        let text = [XMP_KEYWORD, &[0; 5], xmp].concat();
        append_chunk(*b"iTXt", &text, out);
    }
    if let Some(iptc) = &metadata.iptc {
        let profile = deflate::zlib_stream(&iptc_profile(iptc));
        append_chunk(*b"zTXt", &[IPTC_KEYWORD, &[0; 2], &profile].concat(), out);
    }
    for text in &metadata.texts {
        append_chunk(text.chunk, &text.data, out);
    }
}
