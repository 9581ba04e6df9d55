//! CIELab as TIFF stores it (8 bit, white of D50) to sRGB.

use crate::{
    colour::{SRGB_FROM_PCS, multiply, srgb_encode},
    samples::{Depth, push_unit},
};

/// The white of the profile connection space.
const D50: [f32; 3] = [0.964_2, 1.0, 0.824_9];

/// Replaces each L*, a*, b* at the beginning of a pixel by red, green, blue. What sRGB cannot show is
/// clipped.
///
/// - `samples`: bytes a pixel, 3 or more; a* and b* are signed.
pub(super) fn to_srgb(stored: &mut [u8], samples: usize) {
    let mut rgb = Vec::with_capacity(3);
    for pixel in stored.chunks_exact_mut(samples) {
        let lightness = f32::from(pixel[0]) * 100.0 / 255.0;
        let (a, b) = (
            f32::from(pixel[1].cast_signed()),
            f32::from(pixel[2].cast_signed()),
        );
        let linear = multiply(&SRGB_FROM_PCS, xyz(lightness, a, b));
        rgb.clear();
        for value in linear {
            push_unit(srgb_encode(value), Depth::Eight, &mut rgb);
        }
        pixel[..3].copy_from_slice(&rgb);
    }
}

/// The inverse of CIE 15's definition of L*a*b*.
fn xyz(lightness: f32, a: f32, b: f32) -> [f32; 3] {
    let y = (lightness + 16.0) / 116.0;
    let value = |f: f32| {
        if f > 6.0 / 29.0 {
            f * f * f
        } else {
            (f - 4.0 / 29.0) * 108.0 / 841.0
        }
    };
    [
        D50[0] * value(y + a / 500.0),
        D50[1] * value(y),
        D50[2] * value(y - b / 200.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sRGB's grays and primaries under D50.
    #[test]
    fn known_colours_come_out() {
        let signed = |value: i8| value.cast_unsigned();
        let cases = [
            ([255, 0, 0], [255, 255, 255]),
            ([0, 0, 0], [0, 0, 0]),
            ([137, 0, 0], [128, 128, 128]),
            // L* 54.29, a* 80.81, b* 69.89: red.
            ([138, 81, 70], [255, 0, 0]),
            // L* 29.57, a* 68.30, b* -112.03: blue.
            ([75, 68, signed(-112)], [0, 0, 255]),
        ];
        for (lab, rgb) in cases {
            let mut pixel = lab;
            to_srgb(&mut pixel, 3);
            let near = pixel.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= 3);
            assert!(near, "{lab:?}: {pixel:?}, not {rgb:?}");
        }
    }
}
