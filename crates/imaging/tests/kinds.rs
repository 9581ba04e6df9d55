//! Every kind of sample that is read: what it becomes for the engine, and what the result is to be.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{Depth, Limits, Reader, decode};
use tiff::{encoder::TiffEncoder, tags::Tag};

/// One strip, not compressed; tags as given, in rising order.
struct Page<'a> {
    width: u32,
    height: u32,
    bits: &'a [u16],
    photometric: u16,
    extra: Option<u16>,
    map: Option<&'a [u16]>,
    data: &'a [u8],
}

fn tiff_of(page: &Page<'_>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut directory = encoder.image_directory().unwrap();
    let offset = u32::try_from(directory.write_data(page.data).unwrap()).unwrap();
    directory.write_tag(Tag::ImageWidth, page.width).unwrap();
    directory.write_tag(Tag::ImageLength, page.height).unwrap();
    directory.write_tag(Tag::BitsPerSample, page.bits).unwrap();
    directory.write_tag(Tag::Compression, 1_u16).unwrap();
    directory
        .write_tag(Tag::PhotometricInterpretation, page.photometric)
        .unwrap();
    directory.write_tag(Tag::StripOffsets, offset).unwrap();
    let samples = u16::try_from(page.bits.len()).unwrap();
    directory.write_tag(Tag::SamplesPerPixel, samples).unwrap();
    directory.write_tag(Tag::RowsPerStrip, page.height).unwrap();
    let bytes = u32::try_from(page.data.len()).unwrap();
    directory.write_tag(Tag::StripByteCounts, bytes).unwrap();
    if let Some(map) = page.map {
        directory.write_tag(Tag::ColorMap, map).unwrap();
    }
    if let Some(extra) = page.extra {
        directory.write_tag(Tag::ExtraSamples, extra).unwrap();
    }
    directory.finish().unwrap();
    file.into_inner()
}

fn png_of(info: png::Info<'_>, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = png::Encoder::with_info(&mut file, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(samples).unwrap();
    writer.finish().unwrap();
    file
}

/// What the engine sees, and (gray, alpha, depth) of the result.
fn seen(file: &[u8]) -> (Vec<f32>, (bool, bool, Depth)) {
    let mut reader = Reader::from_bytes(file, &Limits::default()).unwrap();
    let info = reader.info().clone();
    let mut unit = vec![0.0; reader.row_bytes() * info.height as usize];
    assert_eq!(reader.read_unit_rows(&mut unit).unwrap(), info.height);
    let options = reader.encode_like(None);
    let result = (options.gray, options.alpha, options.depth);
    assert_eq!(result, (info.gray, info.alpha, info.depth));
    (unit, result)
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{found:?}, not {expected:?}");
    }
}

/// Each value three times.
fn gray(values: &[f32]) -> Vec<f32> {
    values.iter().flat_map(|value| [*value; 3]).collect()
}

#[test]
fn gray_tiffs_of_every_depth() {
    let cases: [(u16, &[u8], [f32; 2]); 5] = [
        (1, &[0b0100_0000], [0.0, 1.0]),
        (2, &[0b0110_0000], [1.0 / 3.0, 2.0 / 3.0]),
        (4, &[0x3C], [0.2, 0.8]),
        (8, &[51, 204], [0.2, 0.8]),
        (16, &[0x34, 0x12, 0xFF, 0xFF], [4660.0 / 65_535.0, 1.0]),
    ];
    for (bits, data, values) in cases {
        for (photometric, inverted) in [(1, false), (0, true)] {
            let file = tiff_of(&Page {
                width: 2,
                height: 1,
                bits: &[bits],
                photometric,
                extra: None,
                map: None,
                data,
            });
            let (unit, result) = seen(&file);
            let values = values.map(|value| if inverted { 1.0 - value } else { value });
            assert_near(&unit, &gray(&values));
            let depth = if bits == 16 {
                Depth::Sixteen
            } else {
                Depth::Eight
            };
            assert_eq!(result, (true, false, depth), "{bits} bits");
        }
    }
}

#[test]
fn palette_tiffs_become_rgb() {
    let map: Vec<u16> = (0..48).map(|i| i * 257 * 5).collect();
    let file = tiff_of(&Page {
        width: 3,
        height: 1,
        bits: &[4],
        photometric: 3,
        extra: None,
        map: Some(&map),
        data: &[0x1F, 0x00],
    });
    let found = decode(&file, &Limits::default()).unwrap();
    assert_eq!(found.pixels.rgb, [5, 85, 165, 75, 155, 235, 0, 80, 160]);
    assert!(!found.info.gray);
}

#[test]
fn lab_tiffs_become_srgb_and_say_so() {
    let file = tiff_of(&Page {
        width: 2,
        height: 1,
        bits: &[8, 8, 8],
        photometric: 8,
        extra: None,
        map: None,
        data: &[255, 0, 0, 138, 81, 70],
    });
    let found = decode(&file, &Limits::default()).unwrap();
    assert_eq!(found.pixels.rgb[..3], [255, 255, 255]);
    let red = &found.pixels.rgb[3..];
    assert!(red[0] > 250 && red[1] < 6 && red[2] < 6, "{red:?}");
    assert!(found.warnings[0].contains("Lab"), "{:?}", found.warnings);
}

#[test]
fn alpha_of_a_tiff_is_kept_and_taken_out_of_the_colours() {
    // Half transparent, then opaque.
    let page = |extra, data| {
        tiff_of(&Page {
            width: 2,
            height: 1,
            bits: &[8, 8, 8, 8],
            photometric: 2,
            extra: Some(extra),
            map: None,
            data,
        })
    };
    let (unit, result) = seen(&page(2, &[100, 50, 0, 51, 10, 20, 30, 255]));
    assert_eq!(result, (false, true, Depth::Eight));
    let expected = [100.0, 50.0, 0.0, 10.0, 20.0, 30.0].map(|value| value / 255.0);
    assert_near(&unit, &expected);
    let (unit, _) = seen(&page(1, &[20, 10, 0, 51, 10, 20, 30, 255]));
    assert_near(&unit, &expected);
}

#[test]
fn gray_with_alpha_and_white_at_zero_is_turned_around_without_its_alpha() {
    let file = tiff_of(&Page {
        width: 2,
        height: 1,
        bits: &[8, 8],
        photometric: 0,
        extra: Some(2),
        map: None,
        data: &[51, 200, 255, 255],
    });
    let (unit, result) = seen(&file);
    assert_eq!(result, (true, true, Depth::Eight));
    assert_near(&unit, &gray(&[0.8, 0.0]));
}

#[test]
fn channels_without_a_meaning_are_refused() {
    let file = tiff_of(&Page {
        width: 1,
        height: 1,
        bits: &[8, 8, 8, 8],
        photometric: 2,
        extra: Some(0),
        map: None,
        data: &[1, 2, 3, 4],
    });
    let error = decode(&file, &Limits::default()).unwrap_err();
    assert_eq!(error.reason(), "unsupported");
    assert!(error.to_string().contains("extra channels"), "{error}");
}

fn assert_png(color: png::ColorType, depth: png::BitDepth, data: &[u8], expected: &[f32]) {
    use png::{BitDepth as B, ColorType as C};
    let mut info = png::Info::with_size(2, 1);
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
    use png::{BitDepth as B, ColorType as C};
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
    use png::{BitDepth as B, ColorType as C};
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
    let mut palette = png::Info::with_size(2, 1);
    palette.color_type = png::ColorType::Indexed;
    palette.palette = Some(vec![255, 0, 0, 0, 0, 255].into());
    palette.trns = Some(vec![128, 255].into());
    let (unit, result) = seen(&png_of(palette, &[0, 1]));
    assert_eq!(result, (false, true, Depth::Eight));
    assert_near(&unit, &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);

    let mut key = png::Info::with_size(2, 1);
    key.trns = Some(vec![0, 9].into());
    let (unit, result) = seen(&png_of(key, &[9, 51]));
    assert_eq!(result, (true, true, Depth::Eight));
    // What is transparent has the colour of what is beside it.
    assert_near(&unit, &gray(&[0.2, 0.2]));
}

#[test]
fn a_linear_png_becomes_srgb_and_says_so() {
    let mut info = png::Info::with_size(2, 1);
    info.source_gamma = Some(png::ScaledFloat::new(1.0));
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
    let mut info = png::Info::with_size(1, 1);
    info.color_type = png::ColorType::Rgb;
    // Display P3.
    info.source_chromaticities = Some(png::SourceChromaticities::new(
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

#[test]
fn transparent_webp_keeps_its_alpha() {
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    let samples = [51, 0, 255, 128, 0, 51, 0, 255];
    encoder
        .encode(&samples, 2, 1, image_webp::ColorType::Rgba8)
        .unwrap();
    let (unit, result) = seen(&file);
    assert_eq!(result, (false, true, Depth::Eight));
    assert_near(&unit, &[0.2, 0.0, 1.0, 0.0, 0.2, 0.0]);
}
