//! JPEG scans of every kind: complete ones are read, and cut ones refused wherever the cut is, although an
//! end marker was put behind it. The files are from `make_files.py`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{Limits, decode};
use tiff::{encoder::TiffEncoder, tags::Tag};

const EOI: [u8; 2] = [0xFF, 0xD9];

const FILES: [(&str, &[u8]); 8] = [
    ("progressive", include_bytes!("progressive.jpg")),
    (
        "progressive_full_chroma",
        include_bytes!("progressive_full_chroma.jpg"),
    ),
    (
        "progressive_restarts",
        include_bytes!("progressive_restarts.jpg"),
    ),
    ("progressive_grey", include_bytes!("progressive_grey.jpg")),
    ("bit_by_bit", include_bytes!("bit_by_bit.jpg")),
    ("baseline", include_bytes!("baseline.jpg")),
    ("restarts", include_bytes!("restarts.jpg")),
    ("tall_chroma", include_bytes!("tall_chroma.jpg")),
];

#[test]
fn a_complete_file_is_read_however_its_scans_are() {
    for (name, file) in FILES {
        let found = decode(file, &Limits::default()).unwrap();
        assert_eq!((found.info.width, found.info.height), (53, 38), "{name}");
        assert!(found.warnings.is_empty(), "{name}: {:?}", found.warnings);
    }
}

#[test]
fn a_file_that_was_cut_and_given_an_end_is_refused() {
    for (name, file) in FILES {
        for length in 2..file.len() - EOI.len() {
            let cut = [&file[..length], &EOI].concat();
            let error = decode(&cut, &Limits::default()).expect_err(name);
            assert_eq!(error.reason(), "unreadable", "{name} at {length}: {error}");
        }
    }
}

#[test]
fn a_scan_that_is_missing_in_the_middle_is_missed() {
    let (_, file) = FILES[4];
    let scans: Vec<_> = file
        .windows(2)
        .enumerate()
        .filter_map(|(at, pair)| (pair == [0xFF, 0xDA]).then_some(at))
        .collect();
    // The header of a scan and its data, and the tables behind it that are the next scan's.
    for scan in scans.windows(2) {
        let without = [&file[..scan[0]], &file[scan[1]..]].concat();
        assert!(decode(&without, &Limits::default()).is_err());
    }
}

/// A TIFF whose only strip is this stream.
fn tiff_of(strip: &[u8]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut directory = encoder.image_directory().unwrap();
    let offset = u32::try_from(directory.write_data(strip).unwrap()).unwrap();
    let bytes = u32::try_from(strip.len()).unwrap();
    directory.write_tag(Tag::ImageWidth, 53_u32).unwrap();
    directory.write_tag(Tag::ImageLength, 38_u32).unwrap();
    directory
        .write_tag(Tag::BitsPerSample, &[8_u16, 8, 8][..])
        .unwrap();
    directory.write_tag(Tag::Compression, 7_u16).unwrap();
    directory
        .write_tag(Tag::PhotometricInterpretation, 6_u16)
        .unwrap();
    directory.write_tag(Tag::StripOffsets, offset).unwrap();
    directory.write_tag(Tag::SamplesPerPixel, 3_u16).unwrap();
    directory.write_tag(Tag::RowsPerStrip, 38_u32).unwrap();
    directory.write_tag(Tag::StripByteCounts, bytes).unwrap();
    directory.finish().unwrap();
    file.into_inner()
}

#[test]
fn a_strip_that_was_cut_and_given_an_end_is_refused() {
    for (name, strip) in [FILES[0], FILES[6]] {
        assert!(
            decode(&tiff_of(strip), &Limits::default()).is_ok(),
            "{name}"
        );
        for length in (strip.len() / 2..strip.len() - EOI.len()).step_by(7) {
            let cut = [&strip[..length], &EOI].concat();
            let error = decode(&tiff_of(&cut), &Limits::default()).expect_err(name);
            assert_eq!(error.reason(), "unreadable", "{name} at {length}: {error}");
        }
    }
}

/// Lawful, and read wrongly by the decoder: without a word the colours would be others.
#[test]
fn what_would_come_out_wrong_is_refused_with_a_remedy() {
    let files: [(&[u8], &str); 3] = [
        (include_bytes!("apart.jpg"), "several scans"),
        (include_bytes!("fine_chroma.jpg"), "sampling"),
        (include_bytes!("thirds.jpg"), "sampling"),
    ];
    for (file, what) in files {
        let limits = Limits::default();
        let error = imaging::probe(file, &limits).expect_err("its header says so");
        assert_eq!(error.reason(), "unsupported", "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(decode(file, &limits).is_err());
        let strip = decode(&tiff_of(file), &limits).expect_err("in a TIFF too");
        assert!(strip.to_string().contains(what), "{strip}");
    }
}

#[test]
fn an_interval_that_is_there_twice_is_noticed() {
    let (_, file) = FILES[6];
    let restarts: Vec<_> = file
        .windows(2)
        .enumerate()
        .filter_map(|(at, pair)| matches!(pair, [0xFF, 0xD0..=0xD7]).then_some(at))
        .collect();
    assert!(restarts.len() > 3);
    for pair in restarts.windows(2) {
        let twice = [&file[..pair[1]], &file[pair[0]..]].concat();
        assert!(decode(&twice, &Limits::default()).is_err());
    }
}

#[test]
fn a_thousand_empty_scans_are_refused_before_they_cost_anything() {
    let (_, file) = FILES[0];
    let last = file.windows(2).rposition(|pair| pair == [0xFF, 0xDA]);
    let (before, scan) = file[..file.len() - EOI.len()].split_at(last.unwrap());
    let many = [before, &scan.repeat(1000), &EOI].concat();
    let error = imaging::probe(&many, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("100 scans"), "{error}");
}
