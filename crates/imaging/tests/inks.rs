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

#[test]
fn inks_become_what_their_profile_says() {
    let cases = [
        ([0, 0, 0, 0], [255, 255, 255]),
        ([0, 0, 0, 255], [0, 0, 0]),
        ([255, 0, 0, 0], [0, 255, 255]),
        ([0, 255, 0, 0], [255, 0, 255]),
        ([0, 0, 255, 0], [255, 255, 0]),
        ([0, 255, 255, 0], [255, 0, 0]),
        ([255, 0, 255, 0], [0, 255, 0]),
        ([255, 255, 0, 0], [0, 0, 255]),
    ];
    let file = cmyk_tiff(&cases.map(|(inks, _)| inks), Some(&profile()));
    let found = decode(&file, &Limits::default()).unwrap();
    for (pixel, (inks, expected)) in found.pixels.rgb.chunks(3).zip(cases) {
        // Lab of 8 bits is coarse at the edges of a gamut.
        let near = pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 24);
        assert!(near, "{inks:?}: {pixel:?}, not {expected:?}");
    }
    assert!(found.warnings[0].contains("CMYK"), "{:?}", found.warnings);
    // The result is sRGB: it does not carry a profile for inks.
    let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
    assert_eq!(reader.encode_like(None).icc, None);
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
