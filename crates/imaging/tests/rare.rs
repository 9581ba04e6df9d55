//! What few programs write: bits in reverse order, EXIF in unusual places, previews before the picture.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{DecodeError, Limits, decode};
use tiff::{encoder::TiffEncoder, tags::Tag};

/// Made by `tiffcp -f lsb2msb` of `plain.tif`: the lowest bit of a byte is the first.
#[test]
fn bits_in_reverse_order_are_read_in_theirs() {
    let limits = Limits::default();
    let plain = decode(include_bytes!("fill_order/plain.tif"), &limits).unwrap();
    let files: [(&str, &[u8]); 4] = [
        ("none", include_bytes!("fill_order/lowest_first_none.tif")),
        ("g4", include_bytes!("fill_order/lowest_first_g4.tif")),
        (
            "packbits",
            include_bytes!("fill_order/lowest_first_packbits.tif"),
        ),
        ("lzw", include_bytes!("fill_order/lowest_first_lzw.tif")),
    ];
    for (name, file) in files {
        let found = decode(file, &limits).unwrap();
        assert_eq!(found.pixels.rgb, plain.pixels.rgb, "{name}");
    }
}

/// EXIF with nothing but an orientation, as a type 3 (SHORT) or 4 (LONG).
fn exif(orientation: u8, kind: u8) -> Vec<u8> {
    let mut block = b"II*\0\x08\0\0\0\x01\0\x12\x01".to_vec();
    block.extend([kind, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
    block
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    let content = [kind, data].concat();
    chunk.extend(&content);
    chunk.extend(crc32fast::hash(&content).to_be_bytes());
    chunk
}

#[test]
fn the_orientation_is_found_wherever_png_may_have_it() {
    let mut png = Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7]));
    pixels.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    const END_BYTES: usize = 12;
    const HEAD_BYTES: usize = 33;
    let prefixed = [b"Exif\0\0".as_slice(), &exif(6, 3)].concat();
    let cases = [
        ("before the pixels", HEAD_BYTES, exif(6, 3)),
        ("behind the pixels", png.len() - END_BYTES, exif(6, 3)),
        ("with JPEG's prefix", HEAD_BYTES, prefixed),
        ("as a long number", HEAD_BYTES, exif(6, 4)),
    ];
    for (name, at, block) in cases {
        let file = [&png[..at], &chunk(b"eXIf", &block), &png[at..]].concat();
        let info = decode(&file, &Limits::default()).unwrap().info;
        assert_eq!((info.width, info.height), (2, 3), "{name}");
    }
}

#[test]
fn a_damaged_profile_is_not_passed_over_in_silence() {
    let mut png = Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7]));
    pixels.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let rubbish = chunk(b"iCCP", b"name\0\0no deflate stream");
    let file = [&png[..33], &rubbish, &png[33..]].concat();
    let found = decode(&file, &Limits::default()).unwrap();
    assert!(
        found.warnings[0].contains("profile"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn a_preview_is_not_taken_for_the_picture() {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut directory = encoder.image_directory().unwrap();
    let offset = u32::try_from(directory.write_data(&[7_u8][..]).unwrap()).unwrap();
    directory.write_tag(Tag::NewSubfileType, 1_u32).unwrap();
    directory.write_tag(Tag::ImageWidth, 1_u32).unwrap();
    directory.write_tag(Tag::ImageLength, 1_u32).unwrap();
    directory.write_tag(Tag::BitsPerSample, 8_u16).unwrap();
    directory
        .write_tag(Tag::PhotometricInterpretation, 1_u16)
        .unwrap();
    directory.write_tag(Tag::StripOffsets, offset).unwrap();
    directory.write_tag(Tag::StripByteCounts, 1_u32).unwrap();
    directory.write_tag(Tag::Unknown(330), 8_u32).unwrap();
    directory.finish().unwrap();
    let error = decode(&file.into_inner(), &Limits::default()).unwrap_err();
    assert!(matches!(error, DecodeError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("preview"), "{error}");
}
