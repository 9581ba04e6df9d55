//! PNG: every colour type and depth, keys, gamma and primaries.

use ::png::{BitDepth as B, ColorType as C};
use imaging::{Depth, Limits, Reader};

use super::{assert_near, gray, seen};

fn png_of(info: ::png::Info<'_>, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = ::png::Encoder::with_info(&mut file, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(samples).unwrap();
    writer.finish().unwrap();
    file
}

fn assert_png(color: ::png::ColorType, depth: ::png::BitDepth, data: &[u8], expected: &[f32]) {
    let mut info = ::png::Info::with_size(2, 1);
    (info.color_type, info.bit_depth) = (color, depth);
    let (unit, found) = seen(&png_of(info, data));
    assert_near(&unit, expected);
    let is_gray = matches!(color, C::Grayscale | C::GrayscaleAlpha);
    let has_alpha = matches!(color, C::GrayscaleAlpha | C::Rgba);
    let result_depth = if depth == B::Sixteen {
        Depth::Sixteen
    } else {
        Depth::Eight
    };
    assert_eq!(
        found,
        (is_gray, has_alpha, result_depth),
        "{color:?} {depth:?}"
    );
}

#[test]
fn gray_pngs_of_every_depth() {
    assert_png(C::Grayscale, B::One, &[0x40], &gray(&[0.0, 1.0]));
    let thirds = gray(&[1.0 / 3.0, 2.0 / 3.0]);
    assert_png(C::Grayscale, B::Two, &[0x60], &thirds);
    assert_png(C::Grayscale, B::Four, &[0x3C], &gray(&[0.2, 0.8]));
    let deep = gray(&[4660.0 / 65_535.0, 1.0]);
    assert_png(C::Grayscale, B::Sixteen, &[0x12, 0x34, 0xFF, 0xFF], &deep);
    let with_alpha = [51, 9, 204, 255];
    assert_png(C::GrayscaleAlpha, B::Eight, &with_alpha, &gray(&[0.2, 0.8]));
}

#[test]
fn colour_pngs_of_every_depth() {
    let deep = [0, 0, 0xFF, 0xFF, 0x12, 0x34, 0, 1, 0, 2, 0, 3];
    let expected = [0.0, 65_535.0, 4660.0, 1.0, 2.0, 3.0].map(|value| value / 65_535.0);
    assert_png(C::Rgb, B::Sixteen, &deep, &expected);
    let with_alpha = [51, 0, 255, 7, 0, 255, 51, 255];
    let expected = [0.2, 0.0, 1.0, 0.0, 1.0, 0.2];
    assert_png(C::Rgba, B::Eight, &with_alpha, &expected);
    let [full, none] = [[0xFF, 0xFF], [0, 0]];
    let both = [none, full, none, full, full, none, none, [0, 1]].concat();
    assert_png(C::Rgba, B::Sixteen, &both, &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_transparent_colour_of_a_png_becomes_alpha() {
    let mut palette = ::png::Info::with_size(2, 1);
    palette.color_type = ::png::ColorType::Indexed;
    palette.palette = Some(vec![255, 0, 0, 0, 0, 255].into());
    palette.trns = Some(vec![128, 255].into());
    let (unit, result) = seen(&png_of(palette, &[0, 1]));
    assert_eq!(result, (false, true, Depth::Eight));
    assert_near(&unit, &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);

    let mut key = ::png::Info::with_size(2, 1);
    key.trns = Some(vec![0, 9].into());
    let (unit, result) = seen(&png_of(key, &[9, 51]));
    assert_eq!(result, (true, true, Depth::Eight));
    // What is transparent has the colour of what is beside it.
    assert_near(&unit, &gray(&[0.2, 0.2]));
}

#[test]
fn a_linear_png_becomes_srgb_and_says_so() {
    let mut info = ::png::Info::with_size(2, 1);
    info.source_gamma = Some(::png::ScaledFloat::new(1.0));
    let file = png_of(info, &[0, 55]);
    let (unit, _) = seen(&file);
    // A fifth of the light is half the sRGB scale.
    let srgb = 1.055 * (55.0_f32 / 255.0).powf(1.0 / 2.4) - 0.055;
    assert_near(&unit, &gray(&[0.0, srgb]));
    let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
    assert!(
        reader.warnings()[0].contains("gamma"),
        "{:?}",
        reader.warnings()
    );
    assert_eq!(reader.icc(), None);
}

#[test]
fn a_wide_png_by_its_primaries_becomes_srgb() {
    let mut info = ::png::Info::with_size(1, 1);
    info.color_type = ::png::ColorType::Rgb;
    // Display P3.
    info.source_chromaticities = Some(::png::SourceChromaticities::new(
        (0.3127, 0.3290),
        (0.680, 0.320),
        (0.265, 0.690),
        (0.150, 0.060),
    ));
    let (unit, _) = seen(&png_of(info, &[128, 100, 100]));
    // By the CSS Color 4 conversion.
    for (found, expected) in unit.iter().zip([0.5228, 0.3867, 0.3896]) {
        assert!((found - expected).abs() < 1e-3, "{unit:?}");
    }
}
