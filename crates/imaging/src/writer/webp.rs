//! WebP, which cannot be written in bands: the whole picture is one, bounded by 16,383 px a side.

use image_webp::{ColorType, WebPEncoder};

use super::Shape;
use crate::{EncodeError, EncodeOptions, Format};

/// Appends the file.
///
/// # Errors
/// [`EncodeError::Encoder`] if the encoder refuses.
pub(super) fn append_file(
    shape: &Shape,
    samples: &[u8],
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut encoder = WebPEncoder::new(out);
    if let Some(icc) = &options.icc {
        encoder.set_icc_profile(icc.clone());
    }
    let metadata = &options.metadata;
    if let Some(exif) = &metadata.exif {
        encoder.set_exif_metadata(exif.to_block(metadata.resolution));
    }
    if let Some(xmp) = &metadata.xmp {
        encoder.set_xmp_metadata(xmp.clone());
    }
    let color = match (shape.layout.gray, shape.layout.alpha) {
        (true, false) => ColorType::L8,
        (true, true) => ColorType::La8,
        (false, false) => ColorType::Rgb8,
        (false, true) => ColorType::Rgba8,
    };
    encoder
        .encode(samples, shape.width, shape.height, color)
        .map_err(|error| EncodeError::encoder(Format::WebP, error))
}
