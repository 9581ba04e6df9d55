//! Files that are broken, too large or meant to harm: each is refused with its reason, and none
//! ends the process. All inputs are made here.

use std::io::Cursor;

use imaging::{
    DecodeError, EncodeOptions, Format, InputFormat, Limits, Pixels, decode, encode, probe,
};
use tiff::{
    encoder::{TiffEncoder, colortype},
    tags::Tag,
};

fn small(format: Format) -> Vec<u8> {
    let rgb = (0..24 * 18 * 3)
        .map(|i: u32| (i * 37 % 251).to_le_bytes()[0])
        .collect();
    let pixels = Pixels {
        width: 24,
        height: 18,
        rgb,
    };
    encode(&pixels, &EncodeOptions::new(format)).expect("a small picture is written")
}

/// Both doors must refuse, or only `decode` where the header is fine.
fn refusal(bytes: &[u8]) -> DecodeError {
    let limits = Limits::default();
    let error = decode(bytes, &limits)
        .map(|decoded| decoded.info)
        .expect_err("accepted");
    if let Err(early) = probe(bytes, &limits) {
        assert_eq!(early.to_string(), error.to_string());
    }
    error
}

fn assert_refused(bytes: &[u8], reason: &str, word: &str) {
    let error = refusal(bytes);
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

/// A still of 24x18 px with eight colours.
fn gif() -> Vec<u8> {
    let colours: Vec<u8> = (0..24).map(|i| i * 9).collect();
    let mut file = Vec::new();
    let mut encoder = gif::Encoder::new(&mut file, 24, 18, &colours).expect("a header");
    let pixels: Vec<u8> = (0..24 * 18_u32)
        .map(|i| (i * 37 % 8).to_le_bytes()[0])
        .collect();
    let frame = gif::Frame::from_indexed_pixels(24, 18, pixels, None);
    encoder.write_frame(&frame).expect("a frame");
    drop(encoder);
    file
}

/// 24x18 px of 24 bits.
fn bmp() -> Vec<u8> {
    let mut file = Vec::new();
    let rgb: Vec<u8> = (0..24 * 18 * 3_u32)
        .map(|i| (i * 37 % 251).to_le_bytes()[0])
        .collect();
    image::codecs::bmp::BmpEncoder::new(&mut file)
        .encode(&rgb, 24, 18, image::ExtendedColorType::Rgb8)
        .expect("a small picture is written");
    file
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let mut files: Vec<_> = Format::ALL
        .map(|format| (format.name(), small(format)))
        .into();
    files.push(("gif", gif()));
    files.push(("bmp", bmp()));
    for (format, file) in files {
        assert!(decode(&file, &Limits::default()).is_ok(), "{format}");
        for length in 0..file.len() {
            assert_eq!(
                refusal(&file[..length]).reason(),
                "unreadable",
                "{format} at {length}"
            );
        }
    }
}

#[test]
fn stills_of_other_formats_are_read() {
    let found = decode(&gif(), &Limits::default()).unwrap();
    assert_eq!(
        (found.info.format, found.info.alpha),
        (InputFormat::Gif, false)
    );
    assert_eq!(found.pixels.rgb[..6], [0, 9, 18, 135, 144, 153]);
    let found = decode(&bmp(), &Limits::default()).unwrap();
    assert_eq!(found.info.format, InputFormat::Bmp);
    assert_eq!(found.pixels.rgb[..4], [0, 37, 74, 111]);
    assert_eq!(found.encode_like(None).format, Format::Png);
}

#[test]
fn what_moves_is_refused() {
    let still = gif();
    // The frame once more, in front of the end.
    let header = 13 + 24;
    let frame = &still[header..still.len() - 1];
    let moving = [&still[..still.len() - 1], frame, &[0x3B]].concat();
    assert_refused(&moving, "unsupported", "animation");
}

#[test]
fn a_jpeg_whose_data_end_too_early_is_cut_off_although_it_has_an_end() {
    let rgb = (0..200 * 160 * 3)
        .map(|i: u32| (i * 37 % 251).to_le_bytes()[0])
        .collect();
    let pixels = Pixels {
        width: 200,
        height: 160,
        rgb,
    };
    let file = encode(&pixels, &EncodeOptions::new(Format::Jpeg)).unwrap();
    let header = file
        .windows(2)
        .position(|pair| pair == [0xFF, 0xDA])
        .unwrap()
        + 14;
    for percent in [1, 10, 50, 80] {
        let kept = header + (file.len() - header) * percent / 100;
        assert_refused(
            &[&file[..kept], &[0xFF, 0xD9]].concat(),
            "unreadable",
            "cut off",
        );
    }
    assert!(decode(&file, &Limits::default()).is_ok());
}

#[test]
fn a_declared_size_is_judged_from_the_header() {
    let huge = [0x7F, 0xFF, 0xFF, 0xFF];
    let mut png = small(Format::Png);
    png[16..20].copy_from_slice(&huge);
    mend_crc(&mut png, 12, 17);
    assert_refused(&png, "too_large", "pixels");

    let mut jpeg = small(Format::Jpeg);
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
    assert_refused(&jpeg, "too_large", "65500x65500");

    let tiff = tiff_of(|encoder| {
        let mut page = encoder.new_image::<colortype::Gray8>(8, 8).unwrap();
        page.encoder()
            .write_tag(Tag::ImageWidth, 2_000_000_000_u32)
            .unwrap();
        page.write_data(&[0; 64]).unwrap();
    });
    assert_refused(&tiff, "too_large", "2000000000");

    let mut webp = small(Format::WebP);
    // VP8L: 14 bits of width and 14 of height, each less one, after the signature byte.
    webp[21..25].copy_from_slice(&0x0FFF_BFFE_u32.to_le_bytes());
    assert_refused(&webp, "too_large", "16383x16383");
}

#[test]
fn a_png_with_a_wrong_checksum_is_damaged() {
    let mut png = small(Format::Png);
    let data = png.windows(4).position(|name| name == b"IDAT").unwrap();
    png[data + 30] ^= 1;
    assert_refused(&png, "unreadable", "damaged");
}

#[test]
fn an_animated_png_is_refused() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[1; 6]).unwrap();
    writer.write_image_data(&[2; 6]).unwrap();
    writer.finish().unwrap();
    assert_refused(&file, "unsupported", "animation");
}

#[test]
fn simple_png_kinds_become_rgb_or_gray() {
    let mut palette = png::Info::with_size(2, 1);
    palette.color_type = png::ColorType::Indexed;
    palette.palette = Some(vec![1, 2, 3, 4, 5, 6].into());
    let decoded = decode(&png_of(palette, &[1, 0]), &Limits::default()).unwrap();
    assert_eq!(
        (decoded.pixels.rgb.as_slice(), decoded.info.gray),
        (&[4, 5, 6, 1, 2, 3][..], false)
    );

    let mut bits = png::Info::with_size(3, 1);
    bits.bit_depth = png::BitDepth::One;
    let decoded = decode(&png_of(bits, &[0b0100_0000]), &Limits::default()).unwrap();
    assert_eq!(decoded.pixels, Pixels::gray(3, 1, &[0, 255, 0]));
    assert!(decoded.info.gray && decoded.warnings[0].contains("black and white"));
}

#[test]
fn a_tiff_is_never_reduced_to_its_first_page() {
    let pages = |second_kind: Option<u32>| {
        tiff_of(|encoder| {
            encoder
                .write_image::<colortype::Gray8>(4, 4, &[9; 16])
                .unwrap();
            let mut page = encoder.new_image::<colortype::Gray8>(2, 2).unwrap();
            if let Some(kind) = second_kind {
                page.encoder().write_tag(Tag::NewSubfileType, kind).unwrap();
            }
            page.write_data(&[5; 4]).unwrap();
        })
    };
    assert_refused(&pages(None), "unsupported", "2 pages, where one was wanted");
    assert_refused(&pages(Some(4)), "unsupported", "mask");
    // A reduced copy is not a page.
    let decoded = decode(&pages(Some(1)), &Limits::default()).unwrap();
    assert_eq!(decoded.pixels, Pixels::gray(4, 4, &[9; 16]));
}

#[test]
fn the_full_resolution_is_found_behind_a_thumbnail() {
    let file = tiff_of(|encoder| {
        let mut page = encoder.new_image::<colortype::Gray8>(2, 2).unwrap();
        page.encoder()
            .write_tag(Tag::NewSubfileType, 1_u32)
            .unwrap();
        page.write_data(&[5; 4]).unwrap();
        encoder
            .write_image::<colortype::RGB8>(2, 1, &[1, 2, 3, 4, 5, 6])
            .unwrap();
    });
    let decoded = decode(&file, &Limits::default()).unwrap();
    assert_eq!(decoded.pixels.rgb, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_loop_of_tiff_directories_ends() {
    let mut file = tiff_of(|encoder| {
        encoder
            .write_image::<colortype::Gray8>(4, 4, &[9; 16])
            .unwrap();
    });
    let first = u32::from_le_bytes([file[4], file[5], file[6], file[7]]);
    let start = usize::try_from(first).unwrap();
    let entries = usize::from(u16::from_le_bytes([file[start], file[start + 1]]));
    file[start + 2 + entries * 12..][..4].copy_from_slice(&first.to_le_bytes());
    assert_refused(&file, "unreadable", "damaged");
}

#[test]
fn tiff_kinds_that_would_be_damaged_are_refused() {
    let float = tiff_of(|e| {
        e.write_image::<colortype::Gray32Float>(2, 2, &[0.5; 4])
            .unwrap();
    });
    assert_refused(&float, "unsupported", "floating point");
    let cmyk = tiff_of(|e| e.write_image::<colortype::CMYK8>(2, 2, &[1; 16]).unwrap());
    assert_refused(&cmyk, "unsupported", "CMYK");
}

#[test]
fn a_bigtiff_is_read_like_any_other() {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new_big(&mut file).unwrap();
    encoder
        .write_image::<colortype::RGB8>(2, 1, &[1, 2, 3, 4, 5, 6])
        .unwrap();
    let decoded = decode(file.get_ref(), &Limits::default()).unwrap();
    assert_eq!(decoded.pixels.rgb, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_tiff_strip_of_jpeg_reads_like_the_jpeg() {
    let jpeg = small(Format::Jpeg);
    let plain = decode(&jpeg, &Limits::default()).unwrap();
    let tiff = decode(&jpeg_in_tiff(&jpeg, 24, 18), &Limits::default()).unwrap();
    let pairs = plain.pixels.rgb.iter().zip(&tiff.pixels.rgb);
    // Both convert from YCbCr themselves and round differently.
    assert!(
        pairs.clone().all(|(a, b)| a.abs_diff(*b) <= 1),
        "{:?}",
        pairs.max()
    );
}

#[test]
fn a_tiff_strip_of_jpeg_must_be_whole_and_of_the_promised_size() {
    let jpeg = small(Format::Jpeg);
    let mut huge = jpeg.clone();
    let frame = huge
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0x3F, 0xFF, 0x3F, 0xFF]);
    assert_refused(&jpeg_in_tiff(&huge, 24, 18), "unreadable", "damaged");
    assert_refused(
        &jpeg_in_tiff(&jpeg[..jpeg.len() / 2], 24, 18),
        "unreadable",
        "damaged",
    );
    assert_refused(&jpeg_in_tiff(&jpeg, 32, 18), "unreadable", "damaged");
}

#[test]
fn bytes_after_a_jpeg_are_a_warning() {
    let file = [small(Format::Jpeg), vec![0x42; 100]].concat();
    let decoded = decode(&file, &Limits::default()).unwrap();
    assert!(
        decoded.warnings[0].starts_with("100 bytes after the end"),
        "{:?}",
        decoded.warnings
    );
}

fn tiff_of(write: impl FnOnce(&mut TiffEncoder<&mut Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    write(&mut TiffEncoder::new(&mut file).expect("an empty file takes a header"));
    file.into_inner()
}

/// One strip, YCbCr, compressed as JPEG.
fn jpeg_in_tiff(jpeg: &[u8], width: u32, height: u32) -> Vec<u8> {
    let write = |encoder: &mut TiffEncoder<&mut Cursor<Vec<u8>>>| -> tiff::TiffResult<()> {
        let mut page = encoder.image_directory()?;
        let offset = u32::try_from(page.write_data(jpeg)?)?;
        page.write_tag(Tag::ImageWidth, width)?;
        page.write_tag(Tag::ImageLength, height)?;
        page.write_tag(Tag::BitsPerSample, &[8_u16; 3][..])?;
        page.write_tag(Tag::Compression, 7_u16)?;
        page.write_tag(Tag::PhotometricInterpretation, 6_u16)?;
        page.write_tag(Tag::StripOffsets, offset)?;
        page.write_tag(Tag::SamplesPerPixel, 3_u16)?;
        page.write_tag(Tag::RowsPerStrip, height)?;
        page.write_tag(Tag::StripByteCounts, u32::try_from(jpeg.len())?)?;
        page.finish()
    };
    tiff_of(|encoder| write(encoder).expect("a directory in memory"))
}

fn png_of(info: png::Info<'_>, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = png::Encoder::with_info(&mut file, info).expect("a consistent header");
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(samples).expect("samples that fit");
    writer.finish().expect("an end");
    file
}

/// Writes the CRC-32 of `length` bytes from `at` behind them.
fn mend_crc(png: &mut [u8], at: usize, length: usize) {
    let mut crc = u32::MAX;
    for byte in &png[at..at + length] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
        }
    }
    png[at + length..at + length + 4].copy_from_slice(&(!crc).to_be_bytes());
}
