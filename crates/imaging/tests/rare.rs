//! What few programs write: bits in reverse order, EXIF in unusual places, previews before the picture.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{Change, DecodeError, Format, Limits, Pixels, decode};
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

/// Four rows in CCITT group 4, eight white pixels and then black ones.
fn group_4(width: u32, rows_per_strip: u32) -> Vec<u8> {
    // No white and eight black of CCITT, the rest white, three times the row above, the end; black is one.
    let strip = [0b0010_0110_u8, 0b1010_0010, 0xFF, 0b1110_0000, 2, 0, 32];
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut page = encoder.image_directory().unwrap();
    let offset = u32::try_from(page.write_data(&strip[..]).unwrap()).unwrap();
    page.write_tag(Tag::ImageWidth, width).unwrap();
    page.write_tag(Tag::ImageLength, 4_u32).unwrap();
    page.write_tag(Tag::BitsPerSample, 1_u16).unwrap();
    page.write_tag(Tag::Compression, 4_u16).unwrap();
    page.write_tag(Tag::PhotometricInterpretation, 1_u16)
        .unwrap();
    page.write_tag(Tag::StripOffsets, offset).unwrap();
    page.write_tag(Tag::SamplesPerPixel, 1_u16).unwrap();
    page.write_tag(Tag::RowsPerStrip, rows_per_strip).unwrap();
    page.write_tag(Tag::StripByteCounts, 7_u32).unwrap();
    page.finish().unwrap();
    file.into_inner()
}

#[test]
fn a_strip_of_group_4_may_say_that_it_has_all_rows_there_are() {
    let row = [[255; 8], [0; 8]].concat();
    for rows in [4, 5, 70_000, u32::MAX] {
        let found = decode(&group_4(16, rows), &Limits::default()).unwrap();
        assert_eq!(found.pixels, Pixels::gray(16, 4, &row.repeat(4)), "{rows}");
    }
}

#[test]
fn a_strip_of_group_4_too_wide_for_its_decoder_is_not_called_damaged() {
    let limits = Limits {
        max_aspect: 20_000,
        ..Limits::default()
    };
    let found = decode(&group_4(70_000, 4), &limits).map(|decoded| decoded.info);
    let error = found.unwrap_err();
    assert_eq!(error.reason(), "unsupported", "{error}");
    assert!(error.to_string().contains("too wide or too high"));
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

/// What is said about the result of a file, in the same format.
fn warnings_of_result(file: &[u8]) -> Vec<String> {
    let found = decode(file, &Limits::default()).unwrap();
    let format = found.encode_like(None).format;
    found.metadata.for_result(&change(format)).warnings
}

fn change(format: Format) -> Change<'static> {
    Change {
        format,
        width: 8,
        height: 4,
        scale: 4,
        strip_gps: false,
        provenance: None,
    }
}

fn jpeg() -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_pixel(9, 7, image::Rgb([9, 8, 7]));
    pixels
        .write_to(&mut file, image::ImageFormat::Jpeg)
        .unwrap();
    file.into_inner()
}

fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, marker], &length[..], payload].concat()
}

#[test]
fn no_block_is_lost_in_silence() {
    let with = |marker, payload: &[u8]| {
        let file = jpeg();
        [&file[..2], &segment(marker, payload), &file[2..]].concat()
    };
    let mut png = Cursor::new(Vec::new());
    let pixels = image::RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7]));
    pixels.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let png_with = |kind, data: &[u8]| [&png[..33], &chunk(kind, data), &png[33..]].concat();
    let comments = [segment(0xFE, b"one"), segment(0xFE, b"two")].concat();
    let file = jpeg();
    let two_comments = [&file[..2], &comments, &file[2..]].concat();
    for (file, what) in [
        (with(0xE2, b"MPF\0rest"), "MPF"),
        (with(0xE2, b"FPXR\0rest"), "FlashPix"),
        (with(0xEB, b"JP\0\x01rest"), "C2PA"),
        (with(0xE5, b"whatever"), "other programs"),
        (two_comments, "further comments"),
        (png_with(b"caBX", b"jumb"), "C2PA"),
        (png_with(b"tIME", &[7, 0xE8, 1, 1, 0, 0, 0]), "last change"),
        (png_with(b"sBIT", &[5, 6, 5]), "significant bits"),
        (png_with(b"bKGD", &[0; 6]), "background"),
        (png_with(b"vpAg", &[0; 9]), "other programs"),
        (
            png_with(b"pHYs", &[0, 0, 0, 1, 0, 0, 0, 2, 0]),
            "not square",
        ),
    ] {
        let warnings = warnings_of_result(&file).concat();
        assert!(warnings.contains(what), "{what}: {warnings}");
    }
    assert!(warnings_of_result(&jpeg()).is_empty());
    assert!(warnings_of_result(&png).is_empty());
}

#[test]
fn a_tiff_tells_of_layers_credentials_and_a_resolution_without_a_unit() {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder
        .new_image::<tiff::encoder::colortype::Gray8>(2, 2)
        .unwrap();
    let directory = image.encoder();
    // More than is read of a block: it is named all the same.
    let layers = vec![0_u8; 17 << 20];
    directory
        .write_tag(Tag::Unknown(37_724), &layers[..])
        .unwrap();
    directory
        .write_tag(Tag::Unknown(52_545), &b"jumb"[..])
        .unwrap();
    image.resolution(
        tiff::tags::ResolutionUnit::None,
        tiff::encoder::Rational { n: 4, d: 3 },
    );
    image.write_data(&[1, 2, 3, 4]).unwrap();
    let warnings = warnings_of_result(&file.into_inner()).concat();
    for what in ["Photoshop layers", "C2PA", "no unit"] {
        assert!(warnings.contains(what), "{what}: {warnings}");
    }
    assert!(!warnings.contains("damaged"), "{warnings}");
}

#[test]
fn the_comment_of_a_gif_is_carried_to_a_jpeg() {
    let mut file = Vec::new();
    let mut encoder = gif::Encoder::new(&mut file, 2, 1, &[0, 0, 0, 255, 255, 255]).unwrap();
    encoder
        .write_raw_extension(gif::AnyExtension(0xFE), &[b"made by hand"])
        .unwrap();
    let frame = gif::Frame::from_indexed_pixels(2, 1, [0, 1], None);
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    assert!(warnings_of_result(&file).concat().contains("the comment"));
    let found = decode(&file, &Limits::default()).unwrap();
    let carried = found.metadata.for_result(&change(Format::Jpeg));
    assert_eq!(carried.metadata.blocks(), ["comment"]);
}
