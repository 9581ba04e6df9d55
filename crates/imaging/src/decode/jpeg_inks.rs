//! JPEG in four inks, CMYK or YCCK. Adobe's marker says which, and that the values are inverted; files
//! without it are read either way by other programs, and are refused.

use super::{jpeg::FORMAT, jpeg_markers::Markers};
use crate::{DecodeError, colour::Inks};

/// [`Markers::adobe`] of pictures whose first three inks are stored like `YCbCr`.
pub(super) const YCCK: u8 = 2;

/// Pixels that are converted together.
const PIXELS: usize = 1 << 14;

/// Whether the colours are known.
///
/// # Errors
/// [`DecodeError::Unsupported`] where they would be a guess.
pub(super) fn check(markers: &Markers, icc: Option<&[u8]>) -> Result<(), DecodeError> {
    match markers.adobe {
        Some(0 | YCCK) => inks(icc).map(|_| ()),
        _ => {
            let what = "CMYK colour and no marker of Adobe that says how it is stored";
            Err(DecodeError::unsupported(FORMAT, what, "convert it to RGB"))
        }
    }
}

/// RGB of four samples a pixel as they are stored.
///
/// # Errors
/// As [`check`].
pub(super) fn to_srgb(
    mut samples: Vec<u8>,
    markers: &Markers,
    icc: Option<&[u8]>,
) -> Result<Vec<u8>, DecodeError> {
    let inks = inks(icc)?;
    let turn = if markers.adobe == Some(YCCK) {
        of_ycck
    } else {
        of_inverted
    };
    // Three samples take the place of four, from the beginning on: the picture lies in memory once.
    let (mut from, mut to) = (0, 0);
    while from < samples.len() {
        let end = samples.len().min(from + 4 * PIXELS);
        for pixel in samples[from..end].as_chunks_mut::<4>().0 {
            *pixel = turn(*pixel);
        }
        let rgb = inks.to_srgb(&samples[from..end], 4);
        samples[to..to + rgb.len()].copy_from_slice(&rgb);
        (from, to) = (end, to + rgb.len());
    }
    samples.truncate(to);
    Ok(samples)
}

fn inks(icc: Option<&[u8]>) -> Result<Inks, DecodeError> {
    Inks::of(icc).ok_or_else(|| {
        let what = "CMYK colour and no profile that says what it looks like";
        DecodeError::unsupported(FORMAT, what, "convert it to RGB")
    })
}

fn of_inverted(stored: [u8; 4]) -> [u8; 4] {
    stored.map(|value| u8::MAX - value)
}

/// Red, green and blue of the stored `YCbCr` are the inks themselves, as what was stored there was
/// inverted twice; the fourth ink was once.
fn of_ycck([luma, blue, red, black]: [u8; 4]) -> [u8; 4] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    // The factors of JFIF, with 16 bits behind the point, rounded.
    let scaled = |sum: i32| (sum + (1 << 15)) >> 16;
    let ink = |value: i32| u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX);
    [
        ink(luma + scaled(91_881 * red)),
        ink(luma - scaled(22_554 * blue + 46_802 * red)),
        ink(luma + scaled(116_130 * blue)),
        u8::MAX - black,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inks_are_turned_the_right_way() {
        assert_eq!(of_inverted([255, 0, 200, 255]), [0, 255, 55, 0]);
        assert_eq!(of_ycck([0, 128, 128, 255]), [0; 4], "paper");
        assert_eq!(of_ycck([255, 128, 128, 0]), [255; 4]);
        // Pure red light in JFIF stands for pure cyan.
        assert_eq!(of_ycck([76, 85, 255, 255]), [254, 0, 0, 0]);
    }
}
