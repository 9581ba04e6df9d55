//! What the engine does not see comes back: 16 bits, transparency, wide colours, gray; wherever the work
//! is cut.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::cast_possible_truncation, reason = "samples are made to fit")]

use std::collections::HashSet;

use imaging::{Depth, EncodeOptions, Finish, Finished, Format, Limits, Reader, Writer, decode};
use moxcms::ColorProfile;

const SCALE: usize = 4;

/// An engine that does as little as one can: each pixel becomes sixteen, smoothly between their middles.
fn engine(unit: &[f32], width: usize) -> Vec<f32> {
    let height = unit.len() / 3 / width;
    let mut large = Vec::with_capacity(unit.len() * SCALE * SCALE);
    let place = |out: usize, length: usize| {
        let at = ((out as f32 + 0.5) / SCALE as f32 - 0.5).clamp(0.0, (length - 1) as f32);
        let below = (0..length - 1).rev().find(|i| *i as f32 <= at).unwrap_or(0);
        (below, (below + 1).min(length - 1), at - below as f32)
    };
    for y in 0..height * SCALE {
        let (top, bottom, down) = place(y, height);
        for x in 0..width * SCALE {
            let (left, right, across) = place(x, width);
            for channel in 0..3 {
                let at = |x: usize, y: usize| unit[(y * width + x) * 3 + channel];
                let upper = at(left, top) * (1.0 - across) + at(right, top) * across;
                let lower = at(left, bottom) * (1.0 - across) + at(right, bottom) * across;
                large.push(upper * (1.0 - down) + lower * down);
            }
        }
    }
    large
}

/// The whole way of a file, with rows cut as `cuts` says.
fn enlarge(file: &[u8], format: Option<Format>, cuts: &[usize]) -> Vec<u8> {
    let open = || Reader::from_bytes(file, &Limits::default()).unwrap();
    let mut reader = open();
    let (width, height) = (reader.info().width, reader.info().height);
    let options = reader.encode_like(format);
    let mut unit = vec![0.0; reader.row_bytes() * height as usize];
    reader.read_unit_rows(&mut unit).unwrap();
    assert!(unit.iter().all(|value| (0.0..=1.0).contains(value)));
    let large = engine(&unit, width as usize);
    let mut finish = Finish::new(open(), &options);
    let mut writer = Writer::new(&options, 4 * width, 4 * height).unwrap();
    let row_values = 3 * 4 * width as usize;
    let mut rest = large.as_slice();
    for cut in cuts.iter().cycle() {
        let (now, later) = rest.split_at((cut * row_values).min(rest.len()));
        let samples = finish.rows(writer.next_row(), now).unwrap();
        writer.push_samples(&samples).unwrap();
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let Finished { head, tail } = writer.finish().unwrap();
    [head, tail].concat()
}

fn write(options: &EncodeOptions, width: u32, height: u32, samples: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(options, width, height).unwrap();
    writer.push_samples(samples).unwrap();
    let Finished { head, tail } = writer.finish().unwrap();
    [head, tail].concat()
}

fn deep(format: Format, gray: bool) -> EncodeOptions {
    EncodeOptions {
        gray,
        depth: Depth::Sixteen,
        ..EncodeOptions::new(format)
    }
}

/// Samples of 16 bits, by another reader.
fn samples16(file: &[u8]) -> Vec<u16> {
    match image::load_from_memory(file).unwrap() {
        image::DynamicImage::ImageLuma16(picture) => picture.into_raw(),
        image::DynamicImage::ImageRgb16(picture) => picture.into_raw(),
        image::DynamicImage::ImageRgba16(picture) => picture.into_raw(),
        other => panic!("{:?}", other.color()),
    }
}

#[test]
fn a_ramp_of_16_bits_keeps_its_steps() {
    let ramp = |x: u32, y: u32| u16::try_from(x * 16 + y * 2).unwrap();
    let (width, height) = (4_000, 8);
    let samples: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| ramp(x, y).to_ne_bytes()))
        .collect();
    for format in [Format::Png, Format::Tiff] {
        let file = write(&deep(format, true), width, height, &samples);
        let result = samples16(&enlarge(&file, None, &[7]));
        let levels: HashSet<u16> = result.iter().copied().collect();
        assert!(levels.len() > 10_000, "{format}: {} levels", levels.len());
        // Smooth: no step is larger than the ramp's own.
        let row = &result[..4 * width as usize];
        let steps = row.windows(2).map(|pair| pair[1].abs_diff(pair[0]));
        assert!(
            steps.clone().all(|step| step <= 5),
            "{format}: {:?}",
            steps.max()
        );
    }
}

#[test]
fn both_formats_hold_the_same_16_bit_samples() {
    let samples: Vec<u8> = (0..37 * 11 * 3_u32)
        .flat_map(|i| ((i * 40_503 % 65_521) as u16).to_ne_bytes())
        .collect();
    let expected: Vec<u16> = samples
        .chunks_exact(2)
        .map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
        .collect();
    for format in [Format::Png, Format::Tiff] {
        let file = write(&deep(format, false), 37, 11, &samples);
        assert_eq!(samples16(&file), expected, "{format}");
        let mut reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
        let mut unit = vec![0.0; reader.row_bytes() * 11];
        reader.read_unit_rows(&mut unit).unwrap();
        let again: Vec<u16> = unit
            .iter()
            .map(|value| (value * 65_535.0).round() as u16)
            .collect();
        assert_eq!(again, expected, "{format}");
    }
}

/// A disc of one colour on magenta that nobody can see.
fn disc(format: Format) -> Vec<u8> {
    let side = 24_i32;
    let mut samples = Vec::new();
    for y in 0..side {
        for x in 0..side {
            let from_middle = (x * 2 - side).pow(2) + (y * 2 - side).pow(2);
            if from_middle < 18 * 18 {
                samples.extend([40, 90, 30, 255]);
            } else {
                samples.extend([255, 0, 255, 0]);
            }
        }
    }
    let options = EncodeOptions {
        alpha: true,
        ..EncodeOptions::new(format)
    };
    write(&options, 24, 24, &samples)
}

#[test]
fn a_hidden_colour_does_not_bleed() {
    for format in [Format::Png, Format::Tiff, Format::WebP] {
        let result = enlarge(&disc(format), None, &[5]);
        let picture = image::load_from_memory(&result).unwrap();
        assert_eq!(picture.color(), image::ColorType::Rgba8, "{format}");
        let mut edge = 0;
        for pixel in picture.into_rgba8().pixels() {
            let [red, green, blue, alpha] = pixel.0;
            if alpha > 0 {
                edge += u32::from(alpha < 255);
                let near = red.abs_diff(40) < 2 && green.abs_diff(90) < 2 && blue.abs_diff(30) < 2;
                assert!(near, "{format}: {pixel:?}");
            }
        }
        assert!(edge > 100, "{format}: the edge is soft in {edge} pixels");
    }
}

#[test]
fn gray_with_alpha_stays_so() {
    let samples: Vec<u8> = (0..20 * 9_u32)
        .flat_map(|i| [(i % 200) as u8, (i * 7 % 256) as u8])
        .collect();
    let options = EncodeOptions {
        gray: true,
        alpha: true,
        ..EncodeOptions::new(Format::Png)
    };
    let result = enlarge(&write(&options, 20, 9, &samples), None, &[3]);
    let picture = image::load_from_memory(&result).unwrap();
    assert_eq!(picture.color(), image::ColorType::La8);
    assert_eq!((picture.width(), picture.height()), (80, 36));
}

#[test]
fn transparency_is_refused_where_it_would_be_lost() {
    let file = disc(Format::Png);
    let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
    let options = reader.encode_like(Some(Format::Jpeg));
    let error = options.check(96, 96).unwrap_err().to_string();
    assert!(error.contains("no transparency"), "{error}");
    assert!(Writer::new(&options, 96, 96).is_err());
}

#[test]
fn fewer_bits_are_a_warning() {
    let file = write(&deep(Format::Png, true), 4, 4, &[9; 32]);
    let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
    assert!(reader.warnings_in(None).is_empty());
    let warnings = reader.warnings_in(Some(Format::Jpeg));
    assert!(warnings[0].contains("8 bits"), "{warnings:?}");
    let result = enlarge(&file, Some(Format::Jpeg), &[16]);
    assert!(decode(&result, &Limits::default()).unwrap().info.gray);
}

#[test]
fn gray_with_a_profile_becomes_srgb_where_no_profile_for_gray_fits() {
    // Light of 55 / 255, which is 128 on the curve of sRGB.
    for (gamma, stored) in [(1.0, 55), (1.8, 109)] {
        let icc = ColorProfile::new_gray_with_gamma(gamma).encode().unwrap();
        let options = EncodeOptions {
            gray: true,
            icc: Some(icc),
            ..EncodeOptions::new(Format::Png)
        };
        let file = write(&options, 4, 4, &[stored; 16]);
        let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
        assert!(reader.warnings_in(None).is_empty());
        let warnings = reader.warnings_in(Some(Format::WebP));
        assert!(warnings[0].contains("no profile for gray"), "{warnings:?}");

        let result = enlarge(&file, Some(Format::WebP), &[16]);
        let found = decode(&result, &Limits::default()).unwrap();
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        assert_eq!(found.icc, None);
        for sample in found.pixels.rgb {
            assert!(sample.abs_diff(128) <= 1, "{gamma}: {sample}");
        }
    }
}

#[test]
fn gray_of_srgb_leaves_its_profile_behind_where_none_for_gray_fits() {
    let mut profile = ColorProfile::new_gray_with_gamma(2.2);
    profile.gray_trc = ColorProfile::new_srgb().green_trc;
    let options = EncodeOptions {
        gray: true,
        icc: Some(profile.encode().unwrap()),
        ..EncodeOptions::new(Format::Png)
    };
    let found = decode(&write(&options, 1, 1, &[90]), &Limits::default()).unwrap();
    assert!(found.encode_like(None).icc.is_some());
    assert_eq!(found.encode_like(Some(Format::WebP)).icc, None);
}

#[test]
fn saturated_colours_of_a_wide_space_come_back() {
    let colours = [
        [0, 255, 0],
        [255, 0, 0],
        [0, 0, 255],
        [0, 255, 255],
        [17, 230, 40],
    ];
    for profile in [
        ColorProfile::new_display_p3(),
        ColorProfile::new_adobe_rgb(),
        ColorProfile::new_pro_photo_rgb(),
    ] {
        let icc = profile.encode().unwrap();
        for colour in colours {
            let options = EncodeOptions {
                icc: Some(icc.clone()),
                ..EncodeOptions::new(Format::Png)
            };
            let file = write(&options, 6, 5, &colour.repeat(30));
            let result = enlarge(&file, None, &[1, 6]);
            let found = image::load_from_memory(&result).unwrap().into_rgb8();
            let near = |pixel: &image::Rgb<u8>| {
                pixel.0.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 1)
            };
            assert!(
                found.pixels().all(near),
                "{colour:?}: {:?}",
                found.get_pixel(9, 9)
            );
            let reader = Reader::from_bytes(&result, &Limits::default()).unwrap();
            assert_eq!(reader.icc(), Some(icc.as_slice()));
        }
    }
}

#[test]
fn gray_keeps_the_curve_of_its_profile() {
    let icc = ColorProfile::new_gray_with_gamma(1.8).encode().unwrap();
    let options = EncodeOptions {
        gray: true,
        icc: Some(icc.clone()),
        ..EncodeOptions::new(Format::Tiff)
    };
    for level in [0, 3, 60, 128, 200, 255] {
        let result = enlarge(&write(&options, 5, 5, &[level; 25]), None, &[20]);
        let picture = image::load_from_memory(&result).unwrap();
        assert_eq!(picture.color(), image::ColorType::L8);
        let found = picture.into_luma8();
        assert!(
            found.pixels().all(|pixel| pixel.0[0] == level),
            "{level}: {found:?}"
        );
    }
}

/// Sources with something that the engine does not see.
fn unseen() -> Vec<(&'static str, Vec<u8>)> {
    let samples: Vec<u8> = (0..31 * 23 * 4_u32).map(|i| (i * 89 % 241) as u8).collect();
    let wide = EncodeOptions {
        alpha: true,
        icc: Some(ColorProfile::new_display_p3().encode().unwrap()),
        ..EncodeOptions::new(Format::Tiff)
    };
    vec![
        ("alpha", disc(Format::Png)),
        ("wide with alpha", write(&wide, 31, 23, &samples)),
        (
            "deep",
            write(&deep(Format::Tiff, true), 31, 23, &samples[..31 * 23 * 2]),
        ),
    ]
}

#[test]
fn cuts_do_not_show() {
    for (name, file) in unseen() {
        let whole = enlarge(&file, None, &[1_000]);
        for cuts in [&[1][..], &[3, 1, 17], &[32]] {
            assert!(enlarge(&file, None, cuts) == whole, "{name} {cuts:?}");
        }
    }
}

#[test]
fn any_row_can_be_the_first_of_a_new_process() {
    for (name, file) in unseen() {
        let open = || Reader::from_bytes(&file, &Limits::default()).unwrap();
        let options = open().encode_like(None);
        let (width, height) = (open().info().width, open().info().height);
        let row_values = 12 * width as usize;
        let large: Vec<f32> = (0..row_values * 4 * height as usize)
            .map(|i| (i * 61 % 251) as f32 / 250.0)
            .collect();
        let whole = Finish::new(open(), &options).rows(0, &large).unwrap();
        let row_bytes = whole.len() / (4 * height as usize);
        for first in [1, 2, 5, 30, 4 * height - 1] {
            let rest = &large[first as usize * row_values..];
            let found = Finish::new(open(), &options).rows(first, rest).unwrap();
            assert!(
                found == whole[first as usize * row_bytes..],
                "{name} from {first}"
            );
        }
    }
}

#[test]
fn skipped_rows_change_nothing_for_the_engine() {
    for (name, file) in unseen() {
        let open = || Reader::from_bytes(&file, &Limits::default()).unwrap();
        let mut reader = open();
        let height = reader.info().height;
        let row_values = reader.row_bytes();
        let mut whole = vec![0.0; row_values * height as usize];
        reader.read_unit_rows(&mut whole).unwrap();
        for skip in 0..height {
            let mut reader = open();
            reader.skip_rows(skip / 2).unwrap();
            reader.skip_rows(skip - skip / 2).unwrap();
            let mut row = vec![0.0; row_values];
            assert_eq!(reader.read_unit_rows(&mut row).unwrap(), 1);
            let at = skip as usize * row_values;
            assert!(row == whole[at..at + row_values], "{name} row {skip}");
        }
    }
}
