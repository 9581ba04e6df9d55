//! JPEG 2000, made by openjpeg (`make_files.py`). With the feature it is read, without it is refused by
//! name.

#![cfg_attr(
    feature = "jpeg2000",
    expect(clippy::unwrap_used, reason = "a test fails by panicking")
)]

use imaging::{Limits, probe};

const RGB: &[u8] = include_bytes!("rgb.jp2");

#[test]
#[cfg(not(feature = "jpeg2000"))]
fn a_build_that_cannot_read_it_says_what_it_lacks() {
    let error = probe(RGB, &Limits::default()).unwrap_err();
    assert_eq!(error.reason(), "unsupported");
    assert!(error.to_string().contains("cargo feature `jpeg2000`"));
}

#[cfg(feature = "jpeg2000")]
mod with_the_feature {
    use imaging::{Depth, Format, InputFormat, Reader, decode};

    use super::*;

    const RGBA: &[u8] = include_bytes!("rgba.jp2");
    const GRAY: &[u8] = include_bytes!("gray.j2k");
    const GRAY16: &[u8] = include_bytes!("gray16.jp2");

    /// As the script makes it.
    fn value(x: u32, y: u32, channel: u32, most: u32) -> u32 {
        ((x * 37 + y * 101 + channel * 53) * (most / 255) + x * y) % (most + 1)
    }

    fn unit(file: &[u8]) -> Vec<f32> {
        let mut reader = Reader::from_bytes(file, &Limits::default()).unwrap();
        let mut unit = vec![0.0; reader.row_bytes() * 11];
        assert_eq!(reader.read_unit_rows(&mut unit).unwrap(), 11);
        unit
    }

    #[test]
    fn every_sample_is_what_was_written() {
        for (file, gray, most) in [(RGB, false, 255), (GRAY, true, 255), (GRAY16, true, 65_535)] {
            let info = probe(file, &Limits::default()).unwrap();
            assert_eq!(info.format, InputFormat::Jpeg2000);
            assert_eq!((info.width, info.height), (13, 11));
            assert_eq!((info.gray, info.alpha), (gray, false));
            assert_eq!(info.depth == Depth::Sixteen, most > 255);
            let found = unit(file);
            for (index, found) in (0_u32..).zip(found) {
                let (pixel, channel) = (index / 3, if gray { 0 } else { index % 3 });
                let expected = value(pixel % 13, pixel / 13, channel, most) as f32 / most as f32;
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{index}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn transparency_is_known_and_a_result_is_tiff() {
        let reader = Reader::from_bytes(RGBA, &Limits::default()).unwrap();
        assert!(reader.info().alpha && !reader.info().gray);
        assert_eq!(reader.encode_like(None).format, Format::Tiff);
        reader.verify().unwrap();
    }

    /// The box of the colour space, replaced by one with a profile.
    fn with_profile(icc: &[u8]) -> Vec<u8> {
        let at = RGB.windows(4).position(|kind| kind == b"colr").unwrap() - 4;
        let old = usize::from(RGB[at + 3]);
        let mut file = RGB.to_vec();
        let mut colour = u32::try_from(icc.len() + 11)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        colour.extend(b"colr\x02\0\0");
        colour.extend(icc);
        let longer = colour.len() - old;
        file.splice(at..at + old, colour);
        let header = file.windows(4).position(|kind| kind == b"jp2h").unwrap() - 4;
        let length = u32::from_be_bytes(file[header..header + 4].try_into().unwrap());
        let length = length + u32::try_from(longer).unwrap();
        file[header..header + 4].copy_from_slice(&length.to_be_bytes());
        file
    }

    #[test]
    fn a_profile_is_kept_and_one_for_inks_is_refused() {
        let icc = moxcms::ColorProfile::new_display_p3().encode().unwrap();
        let file = with_profile(&icc);
        let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
        assert_eq!(reader.icc(), Some(icc.as_slice()));
        assert!(
            unit(&file) != unit(RGB),
            "the colours are those of the profile"
        );
        let mut inks = icc;
        inks[16..20].copy_from_slice(b"CMYK");
        let error = probe(&with_profile(&inks), &Limits::default()).unwrap_err();
        assert_eq!(error.reason(), "unsupported", "{error}");
    }

    #[test]
    fn a_cut_or_changed_file_is_answered_and_limits_hold() {
        for file in [RGB, RGBA, GRAY, GRAY16] {
            for length in 12..file.len() {
                assert!(
                    decode(&file[..length], &Limits::default()).is_err(),
                    "{length}"
                );
            }
            for at in 0..file.len() {
                for bit in [0, 3, 7] {
                    let mut changed = file.to_vec();
                    changed[at] ^= 1 << bit;
                    let limits = Limits {
                        max_pixels: 100_000,
                        ..Limits::DEFAULT
                    };
                    if let Ok(decoded) = decode(&changed, &limits) {
                        let pixels = decoded.info.width * decoded.info.height;
                        assert_eq!(decoded.pixels.rgb.len(), 3 * pixels as usize);
                    }
                }
            }
        }
        let few = Limits {
            max_pixels: 142,
            ..Limits::DEFAULT
        };
        assert_eq!(probe(RGB, &few).unwrap_err().reason(), "too_large");
    }
}
