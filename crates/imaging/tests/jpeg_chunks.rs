//! Strips and tiles of TIFF that are JPEG streams, of sizes that are not those of their page.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{DecodeError, EncodeOptions, Format, Limits, Pixels, Reader, decode, encode};
use tiff::{encoder::TiffEncoder, tags::Tag};

/// How a page is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// Rows per strip.
    Strip(u32),
    /// Side of a tile.
    Tile(u32),
}

/// A page of one strip or tile.
fn page(stream: &[u8], (width, height): (u32, u32), cut: Cut, samples: u16) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut page = encoder.image_directory().unwrap();
    let offset = u32::try_from(page.write_data(stream).unwrap()).unwrap();
    let size = u32::try_from(stream.len()).unwrap();
    let bits = vec![8_u16; samples.into()];
    page.write_tag(Tag::ImageWidth, width).unwrap();
    page.write_tag(Tag::ImageLength, height).unwrap();
    page.write_tag(Tag::BitsPerSample, &bits[..]).unwrap();
    page.write_tag(Tag::Compression, 7_u16).unwrap();
    page.write_tag(Tag::PhotometricInterpretation, 1_u16)
        .unwrap();
    page.write_tag(Tag::SamplesPerPixel, samples).unwrap();
    if samples == 2 {
        page.write_tag(Tag::ExtraSamples, 2_u16).unwrap();
    }
    match cut {
        Cut::Strip(rows) => {
            page.write_tag(Tag::RowsPerStrip, rows).unwrap();
            page.write_tag(Tag::StripOffsets, offset).unwrap();
            page.write_tag(Tag::StripByteCounts, size).unwrap();
        }
        Cut::Tile(side) => {
            page.write_tag(Tag::TileWidth, side).unwrap();
            page.write_tag(Tag::TileLength, side).unwrap();
            page.write_tag(Tag::TileOffsets, offset).unwrap();
            page.write_tag(Tag::TileByteCounts, size).unwrap();
        }
    }
    page.finish().unwrap();
    file.into_inner()
}

/// A gray picture that grows lighter to the right.
fn stream(width: u32, height: u32) -> Vec<u8> {
    let row = (0..width).map(|x| (x * 200 / width).to_le_bytes()[0]);
    let samples: Vec<u8> = row.cycle().take((width * height) as usize).collect();
    let options = EncodeOptions {
        gray: true,
        ..EncodeOptions::new(Format::Jpeg)
    };
    encode(&Pixels::gray(width, height, &samples), &options).unwrap()
}

#[test]
fn a_tile_larger_than_the_limits_is_refused_however_small_its_page() {
    let file = page(&stream(64, 64), (16, 16), Cut::Tile(64), 1);
    assert!(decode(&file, &Limits::default()).is_ok());
    let limits = Limits {
        max_pixels: 1_000,
        ..Limits::default()
    };
    let error = imaging::probe(&file, &limits).unwrap_err();
    assert!(error.to_string().contains("large strips or tiles"));
}

#[test]
fn what_a_tile_takes_counts_into_the_memory_that_a_file_takes() {
    const SIDE: u32 = 512;
    let file = page(&stream(SIDE, SIDE), (16, 16), Cut::Tile(SIDE), 1);
    let reader = Reader::open(Box::new(Cursor::new(&file)), &Limits::default()).unwrap();
    let held = reader.held_bytes(&EncodeOptions::new(Format::Png));
    // Samples, and the coefficients if it were progressive.
    assert!(held > u64::from(3 * SIDE * SIDE), "{held}");
    assert!(held < u64::from(5 * SIDE * SIDE), "{held}");
}

#[test]
fn a_strip_is_no_higher_than_its_page_but_for_the_last_unit() {
    for rows in [16, 20, u32::MAX] {
        let of_height = |height| {
            let file = page(&stream(16, height), (16, 16), Cut::Strip(rows), 1);
            decode(&file, &Limits::default()).map(|decoded| decoded.pixels)
        };
        assert_eq!(of_height(16).unwrap(), of_height(24).unwrap(), "{rows}");
        for height in [8, 15, 400] {
            let error = of_height(height).unwrap_err();
            let damaged = matches!(error, DecodeError::Corrupt { .. });
            assert!(damaged, "{rows} {height}: {error}");
        }
    }
}

#[test]
fn a_strip_wider_than_16384_px_reads_like_the_jpeg() {
    const WIDTH: u32 = 17_000;
    let stream = stream(WIDTH, 16);
    let limits = Limits::default();
    let plain = decode(&stream, &limits).unwrap();
    for rows in [16, u32::MAX] {
        let file = page(&stream, (WIDTH, 16), Cut::Strip(rows), 1);
        assert_eq!(decode(&file, &limits).unwrap().pixels, plain.pixels);
    }
}

#[test]
fn other_than_8_bits_are_refused() {
    let mut file = page(&stream(16, 16), (16, 16), Cut::Strip(16), 1);
    let entry = [2, 1, 3, 0, 1, 0, 0, 0, 8];
    let at = file.windows(9).position(|bytes| bytes == entry).unwrap();
    for bits in [1, 16] {
        file[at + 8] = bits;
        let error = imaging::probe(&file, &Limits::default()).unwrap_err();
        assert_eq!(error.reason(), "unsupported", "{error}");
        assert!(error.to_string().contains("bits per sample in JPEG"));
    }
}

#[test]
fn gray_with_transparency_is_read() {
    let segment = |marker: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
        [&[0xFF, marker], &length[..], payload].concat()
    };
    // Of both kinds one code: a difference of zero, and no more coefficients.
    let one_code = |kind: u8| [&[kind, 1][..], &[0; 16]].concat();
    let stream = [
        vec![0xFF, 0xD8],
        segment(0xDB, &[&[0][..], &[1; 64]].concat()),
        segment(0xC0, &[8, 0, 8, 0, 8, 2, 1, 0x11, 0, 2, 0x11, 0]),
        segment(0xC4, &one_code(0x00)),
        segment(0xC4, &one_code(0x10)),
        segment(0xDA, &[2, 1, 0, 2, 0, 0, 63, 0]),
        vec![0b0000_1111, 0xFF, 0xD9],
    ]
    .concat();
    let file = page(&stream, (8, 8), Cut::Strip(8), 2);
    let decoded = decode(&file, &Limits::default()).unwrap();
    assert!(decoded.info.gray && decoded.info.alpha);
    assert_eq!(decoded.pixels, Pixels::gray(8, 8, &[128; 64]));
}
