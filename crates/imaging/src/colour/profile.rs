//! From what a file declares about its colours to a colour space.

use moxcms::{
    Chromaticity, ColorPrimaries, ColorProfile, DataColorSpace, Layout, Matrix3d, ProfileText,
    ToneReprCurve, TransformOptions, XyY,
};

use super::{
    Colour, RgbSpace,
    curve::Curve,
    matrix::{Matrix, SRGB_FROM_PCS, inverse, narrow, product},
};

/// Nearer than this to sRGB's colorants are sRGB's colorants.
const SRGB_TOLERANCE: f32 = 2e-3;

/// What a file says about its colours.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Declared {
    /// Nothing, or sRGB.
    #[default]
    Srgb,
    /// An ICC profile.
    Icc(Vec<u8>),
    /// PNG's `gAMA` and `cHRM`.
    Gamma(Gamma),
}

/// A power curve, and perhaps primaries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gamma {
    /// Light is the sample to this power; sRGB's curve if missing.
    pub exponent: Option<f32>,
    /// x and y of white, red, green, blue; sRGB's if missing.
    pub primaries: Option<[(f32, f32); 4]>,
}

/// A file's colour space, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Managed {
    pub source: Colour,
    /// The result is in the same space; otherwise it is sRGB.
    pub returns: bool,
    /// To be embedded in the result.
    pub icc: Option<Vec<u8>>,
    pub warning: Option<String>,
}

impl Managed {
    /// The space of the result.
    pub(crate) fn result(&self) -> Colour {
        if self.returns {
            self.source.clone()
        } else {
            Colour::Srgb
        }
    }
}

/// What a profile calls itself.
pub(crate) fn profile_name(icc: &[u8]) -> Option<String> {
    let name = match ColorProfile::new_from_slice(icc).ok()?.description? {
        ProfileText::PlainString(name) => name,
        ProfileText::Description(name) => name.ascii_string,
        ProfileText::Localizable(names) => {
            let english = names.iter().position(|name| name.language == "en");
            names.into_iter().nth(english.unwrap_or(0))?.value
        }
    };
    let name = name.trim_matches(|c: char| c.is_control() || c.is_whitespace());
    (!name.is_empty()).then(|| name.chars().filter(|c| !c.is_control()).collect())
}

/// Finds out what the samples look like.
pub(crate) fn manage(declared: Declared, gray: bool) -> Managed {
    match declared {
        Declared::Srgb => stays(None, None),
        Declared::Gamma(gamma) => Managed {
            source: of_gamma(gamma, gray),
            returns: false,
            icc: None,
            warning: Some("the colours were converted from the file's gamma to sRGB".to_owned()),
        },
        Declared::Icc(icc) => of_icc(icc, gray),
    }
}

fn stays(icc: Option<Vec<u8>>, warning: Option<&str>) -> Managed {
    Managed {
        source: Colour::Srgb,
        returns: true,
        icc,
        warning: warning.map(str::to_owned),
    }
}

fn of_icc(icc: Vec<u8>, gray: bool) -> Managed {
    // ICC.1: the colour space of the data is at byte 16, the signature `acsp` at byte 36.
    let signed = icc.get(36..40) == Some(b"acsp");
    let space = icc
        .get(16..20)
        .and_then(<[u8]>::first_chunk::<4>)
        .filter(|_| signed);
    let space = space.copied();
    let fits = match space {
        Some([b'R', b'G', b'B', b' ']) => true,
        Some([b'G', b'R', b'A', b'Y']) => gray,
        _ => false,
    };
    if !fits || icc.len() < 128 {
        let warning = "the icc profile does not fit the picture and was dropped";
        return stays(None, Some(warning));
    }
    // It may be hostile, and its reader may panic.
    let read = std::panic::catch_unwind(|| space_of(&icc, gray));
    let Ok(Some(source)) = read else {
        let warning =
            "the icc profile cannot be read: it is kept, and the colours are taken for sRGB";
        return stays(Some(icc), Some(warning));
    };
    if gray && space == Some(*b"RGB ") {
        // It gives the curve, but a gray file may not carry it.
        let changes = !source.is_srgb();
        let warning =
            "the icc profile is for RGB, the picture is gray: converted to the curve of sRGB";
        return Managed {
            source,
            returns: false,
            icc: None,
            warning: changes.then(|| warning.to_owned()),
        };
    }
    let one_way = matches!(source, Colour::Tables(_));
    let warning = "the icc profile works one way only: the colours were converted to sRGB";
    Managed {
        source,
        returns: !one_way,
        icc: (!one_way).then_some(icc),
        warning: one_way.then(|| warning.to_owned()),
    }
}

fn space_of(icc: &[u8], gray: bool) -> Option<Colour> {
    let profile = ColorProfile::new_from_slice(icc).ok()?;
    if gray {
        let curve = match profile.color_space {
            DataColorSpace::Gray => profile.gray_trc.as_ref(),
            // Gray in a space of RGB is the same in all three.
            _ => profile.green_trc.as_ref(),
        };
        let curve = Curve::of(curve?)?;
        return Some(match curve {
            Curve::Srgb => Colour::Srgb,
            curve => Colour::Gray(curve),
        });
    }
    of_matrix(&profile).or_else(|| of_tables(&profile))
}

/// By the profile's curves and colorants.
fn of_matrix(profile: &ColorProfile) -> Option<Colour> {
    let curve = |curve: &Option<ToneReprCurve>| Curve::of(curve.as_ref()?);
    let curves = [
        curve(&profile.red_trc)?,
        curve(&profile.green_trc)?,
        curve(&profile.blue_trc)?,
    ];
    let to_pcs = profile.colorant_matrix().v.map(|row| row.map(narrow));
    rgb_space(curves, &to_pcs)
}

/// - `to_pcs`: from linear light to XYZ of D50.
fn rgb_space(curves: [Curve; 3], to_pcs: &Matrix) -> Option<Colour> {
    let to_srgb = product(&SRGB_FROM_PCS, to_pcs);
    let same = |row: usize, column: usize| {
        let expected = f32::from(u8::from(row == column));
        (to_srgb[row][column] - expected).abs() < SRGB_TOLERANCE
    };
    let srgb_primaries = (0..3).all(|row| (0..3).all(|column| same(row, column)));
    if srgb_primaries && curves.iter().all(Curve::is_srgb) {
        return Some(Colour::Srgb);
    }
    Some(Colour::Rgb(Box::new(RgbSpace {
        curves,
        from_srgb: inverse(&to_srgb)?,
        to_srgb,
    })))
}

fn of_tables(profile: &ColorProfile) -> Option<Colour> {
    let srgb = ColorProfile::new_srgb();
    let options = TransformOptions::default();
    let transform = profile.create_transform_f32(Layout::Rgb, &srgb, Layout::Rgb, options);
    transform.ok().map(Colour::Tables)
}

fn of_gamma(gamma: Gamma, gray: bool) -> Colour {
    let curve = gamma.exponent.map_or(Curve::Srgb, Curve::Gamma);
    if gray {
        return Colour::Gray(curve);
    }
    let srgb = || ColorProfile::new_srgb().colorant_matrix();
    let to_pcs = gamma
        .primaries
        .map_or_else(srgb, |[white, red, green, blue]| {
            let at = |(x, y)| Chromaticity { x, y };
            let white = XyY {
                x: f64::from(white.0),
                y: f64::from(white.1),
                yb: 1.0,
            };
            let primaries = ColorPrimaries {
                red: at(red),
                green: at(green),
                blue: at(blue),
            };
            ColorProfile::colorants_matrix(white, primaries)
        });
    let space = |to_pcs: Matrix3d| {
        let curves = [curve.clone(), curve.clone(), curve.clone()];
        rgb_space(curves, &to_pcs.v.map(|row| row.map(narrow)))
    };
    // Primaries on a line make no space.
    space(to_pcs)
        .or_else(|| space(srgb()))
        .unwrap_or(Colour::Srgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal(space: &[u8; 4]) -> Vec<u8> {
        let mut profile = vec![0; 128];
        profile[16..20].copy_from_slice(space);
        profile[36..40].copy_from_slice(b"acsp");
        profile
    }

    #[test]
    fn a_profile_for_something_else_is_dropped() {
        for (profile, gray) in [
            (minimal(b"CMYK"), false),
            (minimal(b"GRAY"), false),
            (vec![1, 2, 3], true),
        ] {
            let managed = manage(Declared::Icc(profile), gray);
            assert!(managed.icc.is_none() && managed.source.is_srgb());
            assert!(managed.warning.unwrap().contains("dropped"));
        }
    }

    #[test]
    fn a_profile_that_cannot_be_read_is_kept() {
        let managed = manage(Declared::Icc(minimal(b"RGB ")), false);
        assert_eq!(managed.icc, Some(minimal(b"RGB ")));
        assert!(managed.warning.unwrap().contains("cannot be read"));
    }

    #[test]
    fn gray_takes_the_curve_of_a_profile_for_rgb_and_leaves_the_profile() {
        let adobe = ColorProfile::new_adobe_rgb().encode().unwrap();
        let managed = manage(Declared::Icc(adobe), true);
        assert!(matches!(managed.source, Colour::Gray(_)) && !managed.returns);
        assert!(managed.icc.is_none() && managed.warning.is_some());
        let srgb = ColorProfile::new_srgb().encode().unwrap();
        let managed = manage(Declared::Icc(srgb), true);
        assert!(managed.source.is_srgb() && managed.icc.is_none() && managed.warning.is_none());
    }

    #[test]
    fn srgb_by_its_profile_is_srgb() {
        let icc = ColorProfile::new_srgb().encode().unwrap();
        let managed = manage(Declared::Icc(icc.clone()), false);
        assert!(managed.source.is_srgb() && managed.returns);
        assert_eq!((managed.icc, managed.warning), (Some(icc), None));
    }
}
