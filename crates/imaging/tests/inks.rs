//! CMYK by its profile, and never without one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::cast_possible_truncation, reason = "values are made to fit")]
#![expect(clippy::cast_sign_loss, reason = "values are made to fit")]

use std::io::Cursor;

use imaging::{Limits, Reader, decode};
use tiff::{encoder::TiffEncoder, tags::Tag};

/// A profile of inks that are as pure as light: cyan takes all red, and so on. One table with two
/// places for each ink.
fn profile() -> Vec<u8> {
    let mut table = b"mft1\0\0\0\0\x04\x03\x02\0".to_vec();
    for entry in 0..9 {
        let one = if entry % 4 == 0 { 1_u32 << 16 } else { 0 };
        table.extend(one.to_be_bytes());
    }
    let straight: Vec<u8> = (0..=255).collect();
    table.extend(straight.repeat(4));
    for corner in 0..16_u8 {
        // The first ink changes slowest.
        let ink = |place: u8| f64::from(corner >> (3 - place) & 1);
        let light = [0, 1, 2].map(|colour| (1.0 - ink(colour)) * (1.0 - ink(3)));
        table.extend(lab(light));
    }
    table.extend(straight.repeat(3));

    let mut profile = vec![0; 128];
    profile[8..12].copy_from_slice(&0x0240_0000_u32.to_be_bytes());
    profile[12..24].copy_from_slice(b"prtrCMYKLab ");
    profile[36..40].copy_from_slice(b"acsp");
    for (place, value) in [0xF6D6_u32, 0x1_0000, 0xD32D].into_iter().enumerate() {
        profile[68 + 4 * place..][..4].copy_from_slice(&value.to_be_bytes());
    }
    profile.extend(1_u32.to_be_bytes());
    profile.extend(b"A2B0");
    profile.extend(144_u32.to_be_bytes());
    profile.extend((table.len() as u32).to_be_bytes());
    profile.extend(table);
    let length = profile.len() as u32;
    profile[..4].copy_from_slice(&length.to_be_bytes());
    profile
}

/// Linear sRGB to Lab of 8 bits under D50.
fn lab(light: [f64; 3]) -> [u8; 3] {
    let to_xyz = [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ];
    let white = [0.9642, 1.0, 0.8249];
    let value = |row: usize| {
        let sum: f64 = to_xyz[row].iter().zip(light).map(|(a, b)| a * b).sum();
        let t = sum / white[row];
        if t > 0.008_856 {
            t.cbrt()
        } else {
            t * 7.787 + 16.0 / 116.0
        }
    };
    let (x, y, z) = (value(0), value(1), value(2));
    let stored = [
        (116.0 * y - 16.0) * 2.55,
        500.0 * (x - y) + 128.0,
        200.0 * (y - z) + 128.0,
    ];
    stored.map(|value| value.round().clamp(0.0, 255.0) as u8)
}

/// A row of pixels, in inks where 255 is full.
fn cmyk_tiff(pixels: &[[u8; 4]], icc: Option<&[u8]>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let width = pixels.len() as u32;
    let mut page = encoder
        .new_image::<tiff::encoder::colortype::CMYK8>(width, 1)
        .unwrap();
    if let Some(icc) = icc {
        page.encoder().write_tag(Tag::IccProfile, icc).unwrap();
    }
    page.write_data(&pixels.concat()).unwrap();
    file.into_inner()
}

/// Inks where 255 is full, and the light that they leave.
const CASES: [([u8; 4], [u8; 3]); 8] = [
    ([0, 0, 0, 0], [255, 255, 255]),
    ([0, 0, 0, 255], [0, 0, 0]),
    ([255, 0, 0, 0], [0, 255, 255]),
    ([0, 255, 0, 0], [255, 0, 255]),
    ([0, 0, 255, 0], [255, 255, 0]),
    ([0, 255, 255, 0], [255, 0, 0]),
    ([255, 0, 255, 0], [0, 255, 0]),
    ([255, 255, 0, 0], [0, 0, 255]),
];

/// That every pixel of `columns` by `rows` has the colours of the cases.
fn check(file: &[u8], tolerance: u8) {
    let found = decode(file, &Limits::default()).unwrap();
    let width = found.info.width as usize;
    let side = width / CASES.len();
    for (index, pixel) in found.pixels.rgb.chunks(3).enumerate() {
        let (inks, expected) = CASES[index % width / side];
        // Lab of 8 bits is coarse at the edges of a gamut.
        let near = pixel
            .iter()
            .zip(expected)
            .all(|(a, b)| a.abs_diff(b) <= tolerance);
        assert!(near, "{inks:?}: {pixel:?}, not {expected:?}");
    }
    assert!(found.warnings[0].contains("CMYK"), "{:?}", found.warnings);
    // The result is sRGB: it does not carry a profile for inks.
    let reader = Reader::from_bytes(file, &Limits::default()).unwrap();
    assert_eq!(reader.encode_like(None).icc, None);
}

#[test]
fn inks_become_what_their_profile_says() {
    check(
        &cmyk_tiff(&CASES.map(|(inks, _)| inks), Some(&profile())),
        24,
    );
}

/// A JPEG of four components, each case a block of 8x8 pixels that have one value.
///
/// - `adobe`: what its marker says.
fn cmyk_jpeg(blocks: &[[u8; 4]], adobe: Option<u8>, icc: Option<&[u8]>) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, payload: &[u8]| {
        let length = (payload.len() + 2) as u16;
        file.extend([0xFF, marker]);
        file.extend(length.to_be_bytes());
        file.extend(payload);
    };
    if let Some(transform) = adobe {
        segment(0xEE, &[b"Adobe\0\x64\0\0\0\0", &[transform][..]].concat());
    }
    if let Some(icc) = icc {
        segment(0xE2, &[b"ICC_PROFILE\0\x01\x01", icc].concat());
    }
    segment(0xDB, &[&[0], [1; 64].as_slice()].concat());
    let width = (8 * blocks.len() as u16).to_be_bytes();
    let mut frame = vec![8, 0, 8, width[0], width[1], 4];
    let mut scan = vec![4];
    for component in 1..=4 {
        frame.extend([component, 0x11, 0]);
        scan.extend([component, 0]);
    }
    scan.extend([0, 63, 0]);
    segment(0xC0, &frame);
    // Sizes of differences as codes of four bits; and of the other coefficients, that there are none.
    let sizes: Vec<u8> = (0..12).collect();
    segment(0xC4, &[&[0, 0, 0, 0, 12], &[0; 12][..], &sizes].concat());
    segment(0xC4, &[&[0x10, 1], &[0; 15][..], &[0]].concat());
    segment(0xDA, &scan);

    let mut bits = String::new();
    let mut before = [0_i32; 4];
    for block in blocks {
        for (component, value) in block.iter().enumerate() {
            let level = 8 * (i32::from(*value) - 128);
            let difference = level - std::mem::replace(&mut before[component], level);
            let size = (32 - difference.unsigned_abs().leading_zeros()) as usize;
            let stored = difference + if difference < 0 { (1 << size) - 1 } else { 0 };
            bits += &format!("{size:04b}");
            if size > 0 {
                bits += &format!("{stored:0size$b}");
            }
            bits.push('0');
        }
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    for byte in bits.as_bytes().chunks(8) {
        let text = std::str::from_utf8(byte).unwrap();
        let byte = u8::from_str_radix(text, 2).unwrap();
        file.push(byte);
        if byte == 0xFF {
            file.push(0);
        }
    }
    file.extend([0xFF, 0xD9]);
    file
}

/// As Adobe stores them.
fn inverted(inks: [u8; 4]) -> [u8; 4] {
    inks.map(|ink| 255 - ink)
}

/// As Adobe stores them with the first three turned into `YCbCr`.
fn ycck(inks: [u8; 4]) -> [u8; 4] {
    let [red, green, blue, black] = inks.map(f64::from);
    let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
    let stored = [
        luma,
        128.0 + (blue - luma) / 1.772,
        128.0 + (red - luma) / 1.402,
        255.0 - black,
    ];
    stored.map(|value| value.round() as u8)
}

#[test]
fn a_jpeg_in_inks_is_read_through_its_profile() {
    for (store, adobe) in [(inverted as fn([u8; 4]) -> [u8; 4], 0), (ycck, 2)] {
        let blocks = CASES.map(|(inks, _)| store(inks));
        check(&cmyk_jpeg(&blocks, Some(adobe), Some(&profile())), 26);
    }
}

#[test]
fn a_jpeg_in_inks_of_which_nobody_knows_the_colour_is_refused() {
    let profile = profile();
    for (adobe, icc, sentence) in [
        (Some(0), None, "no profile"),
        (Some(2), Some(&profile[..200]), "no profile"),
        (None, Some(&profile[..]), "no marker of Adobe"),
        (Some(1), Some(&profile[..]), "no marker of Adobe"),
    ] {
        let file = cmyk_jpeg(&[[0; 4]; 2], adobe, icc);
        let error = decode(&file, &Limits::default()).unwrap_err();
        assert_eq!(error.reason(), "unsupported");
        assert!(error.to_string().contains("CMYK"), "{error}");
        assert!(error.to_string().contains(sentence), "{error}");
    }
}

/// The mean of that photo through this profile as Pillow 13 (libjpeg, littleCMS) finds it. The table has
/// two places for each ink, between which programs go different ways; inks taken for inverted ones are
/// off by far more.
const RECORDED: [f64; 3] = [169.48, 106.49, 59.03];

#[test]
fn a_photo_in_inks_has_the_colours_that_others_find() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/edge/cmyk.jpg"
    );
    let Ok(file) = std::fs::read(path) else {
        println!("skipped: the shared test images are not there");
        return;
    };
    let payload = [b"ICC_PROFILE\0\x01\x01", profile().as_slice()].concat();
    let length = (payload.len() as u16 + 2).to_be_bytes();
    let with_profile = [&file[..2], &[0xFF, 0xE2], &length, &payload, &file[2..]].concat();
    let found = decode(&with_profile, &Limits::default()).unwrap();
    let pixels = (found.pixels.rgb.len() / 3) as f64;
    let mean = |channel: usize| {
        let values = found.pixels.rgb.iter().skip(channel).step_by(3);
        values.map(|value| f64::from(*value)).sum::<f64>() / pixels
    };
    let means = [mean(0), mean(1), mean(2)];
    for (mean, expected) in means.into_iter().zip(RECORDED) {
        assert!((mean - expected).abs() < 8.0, "{means:?}");
    }
}
#[test]
fn inks_of_which_nobody_knows_the_colour_are_refused() {
    let srgb = moxcms::ColorProfile::new_srgb().encode().unwrap();
    for icc in [None, Some(srgb.as_slice()), Some(&profile()[..200])] {
        let error = decode(&cmyk_tiff(&[[0; 4]], icc), &Limits::default()).unwrap_err();
        assert_eq!(error.reason(), "unsupported");
        assert!(error.to_string().contains("CMYK"), "{error}");
    }
}
