//! What survives the way through a file, format by format.

use imaging::{
    EncodeError, EncodeOptions, Format, Limits, Pixels, check_output, decode, encode, probe,
};

/// A picture with edges, a gradient and some noise; odd sides on purpose.
fn picture(width: u32, height: u32) -> Pixels {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let grain = (x * 7919 + y * 104_729) % 13;
            for value in [
                x * 255 / width,
                y * 255 / height,
                ((x / 8 + y / 8) % 2) * 200,
            ] {
                rgb.push(u8::try_from((value + grain).min(255)).expect("at most 255"));
            }
        }
    }
    Pixels { width, height, rgb }
}

/// sRGB by its profile: colours stay what they are.
fn srgb() -> Vec<u8> {
    moxcms::ColorProfile::new_srgb()
        .encode()
        .expect("a profile")
}

#[test]
fn lossless_formats_give_the_same_pixels_back() {
    let pixels = picture(61, 37);
    for format in [Format::Png, Format::Tiff, Format::WebP] {
        let file = encode(&pixels, &EncodeOptions::new(format)).unwrap();
        let decoded = decode(&file, &Limits::default()).unwrap();
        assert_eq!(decoded.info.format, format.into());
        assert!(!decoded.info.gray);
        assert_eq!(decoded.pixels, pixels, "{format}");
        assert_eq!(probe(&file, &Limits::default()).unwrap(), decoded.info);
    }
}

#[test]
fn jpeg_stays_close_and_keeps_full_chroma() {
    let pixels = picture(61, 37);
    let file = encode(&pixels, &EncodeOptions::new(Format::Jpeg)).unwrap();
    let decoded = decode(&file, &Limits::default()).unwrap();
    let error: u32 = pixels
        .rgb
        .iter()
        .zip(&decoded.pixels.rgb)
        .map(|(before, after)| u32::from(before.abs_diff(*after)))
        .sum();
    let mean = f64::from(error) / f64::from(61 * 37 * 3);
    assert!(mean < 4.0, "mean error {mean} levels");
    // SOF0, its three components each sampled 1x1.
    let frame = file
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    for component in 0..3 {
        assert_eq!(file[frame + 11 + component * 3], 0x11);
    }
}

#[test]
fn gray_stays_one_channel() {
    let samples: Vec<u8> = (0..=255).cycle().take(40 * 30).collect();
    let pixels = Pixels::gray(40, 30, &samples);
    for format in [Format::Jpeg, Format::Png, Format::Tiff] {
        let options = EncodeOptions {
            gray: true,
            ..EncodeOptions::new(format)
        };
        let decoded = decode(&encode(&pixels, &options).unwrap(), &Limits::default()).unwrap();
        assert!(decoded.info.gray, "{format}");
        assert!(decoded.encode_like(None).gray);
        assert_eq!(decoded.pixels.rgb.len(), 40 * 30 * 3);
        if format != Format::Jpeg {
            assert_eq!(decoded.pixels, pixels, "{format}");
        }
    }
}

#[test]
fn the_icc_profile_is_embedded_again() {
    let pixels = picture(16, 16);
    for format in Format::ALL {
        let options = EncodeOptions {
            icc: Some(srgb()),
            ..EncodeOptions::new(format)
        };
        let decoded = decode(&encode(&pixels, &options).unwrap(), &Limits::default()).unwrap();
        assert_eq!(decoded.icc, options.icc, "{format}");
        assert_eq!(decoded.encode_like(None), options, "{format}");
        assert_eq!(decoded.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_profile_of_another_colour_space_is_dropped_with_a_warning() {
    let mut cmyk = srgb();
    cmyk[16..20].copy_from_slice(b"CMYK");
    let options = EncodeOptions {
        icc: Some(cmyk),
        ..EncodeOptions::new(Format::Tiff)
    };
    let file = encode(&picture(8, 8), &options).unwrap();
    let decoded = decode(&file, &Limits::default()).unwrap();
    assert_eq!(decoded.icc, None);
    assert!(
        decoded.warnings[0].contains("icc profile"),
        "{:?}",
        decoded.warnings
    );
}

#[test]
fn the_same_pixels_give_the_same_bytes() {
    let pixels = picture(33, 9);
    for format in Format::ALL {
        let options = EncodeOptions::new(format);
        assert_eq!(
            encode(&pixels, &options).unwrap(),
            encode(&pixels, &options).unwrap()
        );
    }
}

#[test]
fn exif_orientation_is_applied_once() {
    // 2x1 picture, dark then bright; the JPEG is given an EXIF block with each orientation.
    let stored = Pixels::gray(16, 8, &[[20; 8], [230; 8]].concat().repeat(8));
    let options = EncodeOptions {
        gray: true,
        ..EncodeOptions::new(Format::Jpeg)
    };
    let plain = encode(&stored, &options).unwrap();
    // (orientation, sideways, bright first)
    let cases = [
        (1, false, false),
        (2, false, true),
        (3, false, true),
        (6, true, false),
        (8, true, true),
    ];
    for (orientation, sideways, bright_first) in cases {
        let file = with_exif(&plain, orientation);
        let decoded = decode(&file, &Limits::default()).unwrap();
        let info = probe(&file, &Limits::default()).unwrap();
        assert_eq!(
            (info.width, info.height),
            (decoded.pixels.width, decoded.pixels.height)
        );
        assert_eq!(
            decoded.pixels.width < decoded.pixels.height,
            sideways,
            "{orientation}"
        );
        assert_eq!(decoded.pixels.rgb[0] > 128, bright_first, "{orientation}");
        let again = encode(&decoded.pixels, &decoded.encode_like(None)).unwrap();
        let again = decode(&again, &Limits::default()).unwrap();
        assert_eq!(
            (again.info.width, again.info.height),
            (info.width, info.height)
        );
    }
}

fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2)
        .expect("a short block")
        .to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn a_size_the_format_cannot_hold_is_known_before_computing() {
    assert!(check_output(Format::Jpeg, 65_535, 1).is_ok());
    assert!(matches!(
        check_output(Format::Jpeg, 65_536, 1),
        Err(EncodeError::SideTooLong { limit: 65_535, .. })
    ));
    assert!(check_output(Format::WebP, 16_384, 1).is_err());
    assert!(check_output(Format::Png, 200_000, 1).is_ok());
    let error = check_output(Format::WebP, 20_000, 4)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("16383") && error.contains("png or tiff"),
        "{error}"
    );
}

#[test]
fn a_buffer_of_the_wrong_length_is_refused() {
    let pixels = Pixels {
        width: 4,
        height: 4,
        rgb: vec![0; 47],
    };
    let error = encode(&pixels, &EncodeOptions::new(Format::Png)).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::WrongLength {
            expected: 48,
            found: 47,
            ..
        }
    ));
}
