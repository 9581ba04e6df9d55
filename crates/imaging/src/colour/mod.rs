//! What the samples of a file look like: from its colour space to sRGB, which the engine knows, and
//! back.
//!
//! A profile made of curves and a matrix (all that archives recommend for masters) works both ways: the
//! result stays in the space of its source, whose profile it carries. Colours outside sRGB are kept
//! too: sRGB values may lie outside `[0, 1]` here ("extended"). Others work one way, and the
//! result is sRGB.

mod curve;
mod inks;
mod matrix;
mod profile;

pub(crate) use curve::{srgb_decode, srgb_encode};
pub(crate) use inks::Inks;
pub(crate) use matrix::{SRGB_FROM_PCS, multiply};
pub(crate) use profile::{Declared, Gamma, Managed, manage, profile_name};

use std::{fmt, sync::Arc};

use curve::Curve;
use matrix::Matrix;
use moxcms::TransformF32Executor;

/// Rec. 709 luminance of linear sRGB.
const LUMINANCE: [f32; 3] = [0.212_6, 0.715_2, 0.072_2];

/// A colour space.
#[derive(Clone)]
pub(crate) enum Colour {
    /// sRGB; gray on its curve.
    Srgb,
    /// Gray on another curve.
    Gray(Curve),
    /// RGB by curves and a matrix.
    Rgb(Box<RgbSpace>),
    /// RGB by tables; one way.
    Tables(Arc<TransformF32Executor>),
}

/// Curves, and the way of their light to linear sRGB and back.
#[derive(Debug, Clone)]
pub(crate) struct RgbSpace {
    curves: [Curve; 3],
    to_srgb: Matrix,
    from_srgb: Matrix,
}

impl fmt::Debug for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Srgb => "Srgb",
            Self::Gray(_) => "Gray",
            Self::Rgb(_) => "Rgb",
            Self::Tables(_) => "Tables",
        })
    }
}

impl Colour {
    pub(crate) fn is_srgb(&self) -> bool {
        matches!(self, Self::Srgb)
    }

    /// Whether it may have colours that sRGB has not.
    pub(crate) fn is_wide(&self) -> bool {
        matches!(self, Self::Rgb(_))
    }

    /// Turns pixels of three samples each in `[0, 1]` into extended sRGB; gray comes repeated.
    pub(crate) fn to_srgb(&self, row: &mut [f32]) {
        let pixels = row.as_chunks_mut::<3>().0.iter_mut();
        match self {
            Self::Srgb => {}
            Self::Gray(curve) => {
                pixels.for_each(|pixel| *pixel = [srgb_encode(curve.decode(pixel[0])); 3]);
            }
            Self::Rgb(space) => pixels.for_each(|pixel| *pixel = space.to_srgb(*pixel)),
            Self::Tables(transform) => {
                let source = row.to_vec();
                // It fails only for lengths that do not match.
                if transform.transform(&source, row).is_err() {
                    row.copy_from_slice(&source);
                }
            }
        }
    }

    /// The RGB samples for a colour in extended sRGB; those of tables stay sRGB.
    pub(crate) fn rgb_of(&self, srgb: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Rgb(space) => space.of_srgb(srgb),
            Self::Srgb | Self::Gray(_) | Self::Tables(_) => srgb,
        }
    }

    /// The gray sample for a colour in extended sRGB: that of its luminance.
    pub(crate) fn gray_of(&self, [red, green, blue]: [f32; 3]) -> f32 {
        // Gray as it came in stays what it is, without rounding.
        let neutral = red == green && green == blue;
        if neutral && !matches!(self, Self::Gray(_)) {
            return red;
        }
        let light = [red, green, blue].map(srgb_decode);
        let luminance = light.iter().zip(LUMINANCE).map(|(a, b)| a * b).sum();
        match self {
            Self::Gray(curve) => curve.encode(luminance),
            Self::Srgb | Self::Rgb(_) | Self::Tables(_) => srgb_encode(luminance),
        }
    }
}

impl RgbSpace {
    fn to_srgb(&self, samples: [f32; 3]) -> [f32; 3] {
        let [red, green, blue] = &self.curves;
        let light = [
            red.decode(samples[0]),
            green.decode(samples[1]),
            blue.decode(samples[2]),
        ];
        multiply(&self.to_srgb, light).map(srgb_encode)
    }

    fn of_srgb(&self, srgb: [f32; 3]) -> [f32; 3] {
        let light = multiply(&self.from_srgb, srgb.map(srgb_decode));
        let [red, green, blue] = &self.curves;
        [
            red.encode(light[0]),
            green.encode(light[1]),
            blue.encode(light[2]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use moxcms::ColorProfile;

    use super::*;

    fn managed(profile: &ColorProfile, gray: bool) -> Managed {
        manage(Declared::Icc(profile.encode().unwrap()), gray)
    }

    #[test]
    fn every_colour_of_a_wide_space_comes_back() {
        for profile in [
            ColorProfile::new_display_p3(),
            ColorProfile::new_adobe_rgb(),
            ColorProfile::new_pro_photo_rgb(),
            ColorProfile::new_bt2020(),
        ] {
            let managed = managed(&profile, false);
            assert!(managed.returns && managed.source.is_wide(), "{managed:?}");
            for step in 0..1000_u16 {
                let sample = |by: u16| f32::from(step / by % 10) / 9.0;
                let found = [sample(1), sample(10), sample(100)];
                let mut row = found;
                managed.source.to_srgb(&mut row);
                let again = managed.source.rgb_of(row);
                for (a, b) in found.iter().zip(again) {
                    assert!((a - b).abs() < 1e-3, "{found:?} {row:?} {again:?}");
                }
            }
        }
    }

    #[test]
    fn known_colours_of_wide_spaces_are_these_in_srgb() {
        // Full red of Display P3 in extended sRGB, as CSS Color 4 gives it.
        let mut row = [1.0, 0.0, 0.0];
        managed(&ColorProfile::new_display_p3(), false)
            .source
            .to_srgb(&mut row);
        for (found, expected) in row.iter().zip([1.093, -0.227, -0.150]) {
            assert!((found - expected).abs() < 4e-3, "{row:?}");
        }
    }

    #[test]
    fn gray_keeps_its_curve() {
        let managed = managed(&ColorProfile::new_gray_with_gamma(2.2), true);
        assert!(matches!(managed.source, Colour::Gray(_)) && managed.returns);
        for step in 1..=255_u8 {
            let sample = f32::from(step) / 255.0;
            let mut row = [sample; 3];
            managed.source.to_srgb(&mut row);
            let again = managed.source.gray_of(row);
            assert!((again - sample).abs() < 5e-4, "{sample} {again}");
        }
        assert!((Colour::Srgb.gray_of([0.2, 0.2, 0.2]) - 0.2).abs() < f32::EPSILON);
    }
}
