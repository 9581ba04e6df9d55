//! JPEG in bands: each is a restart interval, in which nothing refers to the one before.
//!
//! The encoder of the `image` crate writes whole files, always with the same tables and with three
//! full-size components, so the coded rows of a band are what it writes for the band alone. The
//! file is the head of the first one, with its own height and the length of the intervals, and the
//! coded rows of all with restart markers between them.

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

use super::{
    Shape,
    jpeg_head::{self, JFIF_END, is_jfif},
};
use crate::{EncodeError, EncodeOptions, Format};

/// Rows of the blocks that are coded together.
pub(super) const BLOCK_ROWS: u32 = 8;

/// The most blocks that a restart interval can have.
const INTERVAL_MAX: u32 = 65_535;

const SOF0: u8 = 0xC0;
const SOS: u8 = 0xDA;
const END: [u8; 2] = [0xFF, 0xD9];

/// The most rows a band can have: as many as fit a restart interval.
pub(super) fn max_band_rows(width: u32) -> u32 {
    INTERVAL_MAX / width.div_ceil(BLOCK_ROWS) * BLOCK_ROWS
}

/// Appends a band of `rows` rows.
///
/// - `index`: which band it is, from 0.
///
/// # Errors
/// [`EncodeError::Encoder`] if the encoder refuses.
pub(super) fn append_band(
    shape: &Shape,
    samples: &[u8],
    index: u32,
    options: &EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let rows = u32::try_from(samples.len() / shape.row_bytes()).unwrap_or(u32::MAX);
    let icc = options.icc.as_deref().filter(|_| index == 0);
    let file = alone(shape, samples, rows, options.jpeg_quality, icc)?;
    let unexpected = || EncodeError::encoder(Format::Jpeg, "the encoder wrote another layout");
    let Places {
        height,
        scan,
        rows: coded,
    } = places(&file)
        .filter(|_| is_jfif(&file))
        .ok_or_else(unexpected)?;

    if index == 0 {
        let side = |pixels| u16::try_from(pixels).unwrap_or(u16::MAX);
        jpeg_head::append(&file, &options.metadata, out);
        out.extend_from_slice(&file[JFIF_END..height]);
        out.extend(side(shape.height).to_be_bytes());
        out.extend_from_slice(&file[height + 2..scan]);
        if shape.height > shape.band_rows {
            let interval = shape.width.div_ceil(BLOCK_ROWS) * (shape.band_rows / BLOCK_ROWS);
            // Define the restart interval.
            out.extend([0xFF, 0xDD, 0, 4]);
            out.extend(side(interval).to_be_bytes());
        }
        out.extend_from_slice(&file[scan..coded]);
    } else {
        out.extend([0xFF, 0xD0 + u8::try_from((index - 1) % 8).unwrap_or(0)]);
    }
    out.extend_from_slice(&file[coded..file.len() - END.len()]);
    let last = (index + 1).saturating_mul(shape.band_rows) >= shape.height;
    if last {
        out.extend(END);
    }
    Ok(())
}

/// The band as a file of its own.
fn alone(
    shape: &Shape,
    samples: &[u8],
    rows: u32,
    quality: u8,
    icc: Option<&[u8]>,
) -> Result<Vec<u8>, EncodeError> {
    let mut file = Vec::with_capacity(samples.len() / 4);
    let mut encoder = JpegEncoder::new_with_quality(&mut file, quality.clamp(1, 100));
    if let Some(icc) = icc {
        encoder
            .set_icc_profile(icc.to_vec())
            .map_err(|error| EncodeError::encoder(Format::Jpeg, error))?;
    }
    let color = if shape.gray() {
        ExtendedColorType::L8
    } else {
        ExtendedColorType::Rgb8
    };
    encoder
        .encode(samples, shape.width, rows, color)
        .map_err(|error| EncodeError::encoder(Format::Jpeg, error))?;
    Ok(file)
}

/// Offsets in a file of the encoder.
struct Places {
    /// Of the two bytes of the height.
    height: usize,
    /// Of the scan header.
    scan: usize,
    /// Of the coded rows.
    rows: usize,
}

fn places(file: &[u8]) -> Option<Places> {
    let mut height = None;
    let mut at = 2;
    loop {
        let [0xFF, marker, l1, l0] = *file.get(at..at + 4)?.first_chunk()? else {
            return None;
        };
        let next = at + 2 + usize::from(u16::from_be_bytes([l1, l0]));
        match marker {
            // Behind marker, length and precision.
            SOF0 => height = Some(at + 5),
            SOS => {
                let (height, scan, rows) = (height?, at, next);
                return file
                    .ends_with(&END)
                    .then_some(Places { height, scan, rows });
            }
            _ => {}
        }
        at = next;
    }
}
