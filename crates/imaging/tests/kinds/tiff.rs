//! TIFF: all that its directory can say about samples.

use std::io::Cursor;

use ::tiff::{encoder::TiffEncoder, tags::Tag};
use imaging::{Depth, Limits, decode};

use super::{assert_near, gray, seen};

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

/// Strips of this size are read in pieces, not by the decoder.
#[test]
fn a_large_strip_of_16_bits_is_read_in_either_order() {
    let (width, height) = (1_500_u32, 900_u32);
    let samples: Vec<u16> = (0..width * height)
        .map(|i| u16::try_from(i % 65_521).unwrap())
        .collect();
    for (mark, photometric, bytes) in [
        (b"II*\0", 1_u16, u16::to_le_bytes as fn(u16) -> [u8; 2]),
        (b"MM\0*", 0, u16::to_be_bytes),
    ] {
        let little = mark[0] == b'I';
        let long = |number: u32| {
            if little {
                number.to_le_bytes()
            } else {
                number.to_be_bytes()
            }
        };
        let mut file = mark.to_vec();
        file.extend(long(8));
        let values = [
            (256, width),
            (257, height),
            (258, 16),
            (259, 1),
            (262, u32::from(photometric)),
            (273, 8 + 2 + 9 * 12 + 4),
            (277, 1),
            (278, height),
            (279, 2 * width * height),
        ];
        file.extend(bytes(9));
        for (tag, value) in values {
            // Photometric as a short, which stands at the beginning of its field.
            let short = tag == 262;
            file.extend(bytes(tag));
            file.extend(bytes(if short { 3 } else { 4 }));
            file.extend(long(1));
            if short {
                file.extend(bytes(photometric));
                file.extend([0, 0]);
            } else {
                file.extend(long(value));
            }
        }
        file.extend(long(0));
        file.extend(samples.iter().flat_map(|sample| bytes(*sample)));
        let (unit, result) = seen(&file);
        assert_eq!(result, (true, false, Depth::Sixteen));
        for (pixel, sample) in unit.chunks(3).zip(&samples) {
            let expected = f32::from(*sample) / 65_535.0;
            let expected = if photometric == 0 {
                1.0 - expected
            } else {
                expected
            };
            assert!((pixel[0] - expected).abs() < 1e-6, "{pixel:?} {sample}");
        }
    }
}

#[test]
fn planes_of_16_bits_are_put_together() {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut directory = encoder.image_directory().unwrap();
    let planes: [[u16; 2]; 4] = [[1, 2], [300, 400], [50_000, 60_000], [65_535, 65_535]];
    let offsets =
        planes.map(|plane| u32::try_from(directory.write_data(&plane[..]).unwrap()).unwrap());
    directory.write_tag(Tag::ImageWidth, 2_u32).unwrap();
    directory.write_tag(Tag::ImageLength, 1_u32).unwrap();
    directory
        .write_tag(Tag::BitsPerSample, &[16_u16; 4][..])
        .unwrap();
    directory
        .write_tag(Tag::PhotometricInterpretation, 2_u16)
        .unwrap();
    directory
        .write_tag(Tag::StripOffsets, &offsets[..])
        .unwrap();
    directory.write_tag(Tag::SamplesPerPixel, 4_u16).unwrap();
    directory.write_tag(Tag::RowsPerStrip, 1_u32).unwrap();
    directory
        .write_tag(Tag::StripByteCounts, &[4_u32; 4][..])
        .unwrap();
    directory
        .write_tag(Tag::PlanarConfiguration, 2_u16)
        .unwrap();
    directory.write_tag(Tag::ExtraSamples, 2_u16).unwrap();
    directory.finish().unwrap();
    let (unit, result) = seen(file.get_ref());
    assert_eq!(result, (false, true, Depth::Sixteen));
    let expected = [1.0, 300.0, 50_000.0, 2.0, 400.0, 60_000.0];
    assert_near(&unit, &expected.map(|value: f32| value / 65_535.0));
}
