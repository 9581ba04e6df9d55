//! Small TIFF files whose JPEG strips and tiles ask for gigabytes. The one test of its binary, because the peak is
//! the process's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{error::Error, io::Cursor};

use imaging::{EncodeOptions, Format, Limits, Pixels, decode, encode};
use tiff::{encoder::TiffEncoder, tags::Tag};

/// Far below what the files ask for, which is 512 MiB.
const GROWTH_LIMIT_KIB: u64 = 128 * 1024;

/// Pixels of the side of what they ask for.
const SIDE: u16 = 65_528;

/// The most memory this process ever had resident, in KiB; `None` where the system does not tell.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, marker], &length[..], payload].concat()
}

/// Tables, and behind them a progressive picture of `SIDE`: a coefficient in each 512th block.
fn tables_with_a_picture() -> Vec<u8> {
    let mut lengths = [0; 16];
    lengths[..2].copy_from_slice(&[1, 1]);
    // Code 0 is a coefficient of one bit, code 10 the end of 512 bands and more by nine bits.
    let codes = [&[0x10], &lengths[..], &[0x01, 0x90]].concat();
    let [high, low] = SIDE.to_be_bytes();
    let frame = [8, high, low, high, low, 1, 1, 0x11, 0];
    // 0 and 1, 10 and nine zeros: 13 bits, so eight of them are 13 bytes.
    let unit: u128 = 0b0110 << 9;
    let eight = (0..8).fold(0, |bits, _| bits << 13 | unit).to_be_bytes();
    let blocks = usize::from(SIDE / 8) * usize::from(SIDE / 8);
    let mut file = [
        vec![0xFF, 0xD8],
        segment(0xC4, &codes),
        segment(0xC2, &frame),
        segment(0xDA, &[1, 1, 0, 1, 2, 0]),
    ]
    .concat();
    for _ in 0..blocks.div_ceil(8 * 512) {
        file.extend_from_slice(&eight[3..]);
    }
    file.extend([0xFF, 0xD9]);
    file
}

/// One gray strip of 16x16 px, compressed as JPEG, and tables for it.
fn file(tables: &[u8]) -> Vec<u8> {
    let pixels = Pixels::gray(16, 16, &[90; 256]);
    let options = EncodeOptions {
        gray: true,
        ..EncodeOptions::new(Format::Jpeg)
    };
    let strip = encode(&pixels, &options).unwrap();
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut page = encoder.image_directory().unwrap();
    let offset = u32::try_from(page.write_data(&strip[..]).unwrap()).unwrap();
    let size = u32::try_from(strip.len()).unwrap();
    page.write_tag(Tag::ImageWidth, 16_u32).unwrap();
    page.write_tag(Tag::ImageLength, 16_u32).unwrap();
    page.write_tag(Tag::BitsPerSample, 8_u16).unwrap();
    page.write_tag(Tag::Compression, 7_u16).unwrap();
    page.write_tag(Tag::PhotometricInterpretation, 1_u16)
        .unwrap();
    page.write_tag(Tag::StripOffsets, offset).unwrap();
    page.write_tag(Tag::SamplesPerPixel, 1_u16).unwrap();
    page.write_tag(Tag::RowsPerStrip, 16_u32).unwrap();
    page.write_tag(Tag::StripByteCounts, size).unwrap();
    page.write_tag(Tag::JPEGTables, tables).unwrap();
    page.finish().unwrap();
    file.into_inner()
}

#[test]
fn a_picture_among_the_tables_of_jpeg_strips_is_refused_before_it_takes_memory() {
    let sound = file(&[&[0xFF, 0xD8], &segment(0xDD, &[0, 0])[..], &[0xFF, 0xD9]].concat());
    decode(&sound, &Limits::default()).unwrap();
    let hostile = file(&tables_with_a_picture());
    assert!(hostile.len() < 300_000);
    let before = peak_kib();
    let error = decode(&hostile, &Limits::default()).unwrap_err();
    let source = error.source().unwrap().to_string();
    assert!(source.starts_with("the tables of its JPEG"), "{source}");
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        let grown = after - before;
        assert!(grown < GROWTH_LIMIT_KIB, "grew by {grown} KiB");
    }
}
