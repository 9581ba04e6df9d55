//! What is larger than the limits is refused by its header, with a sentence.

use std::{
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::atomic::{AtomicU64, Ordering},
};

use imaging::{EncodeOptions, Format, Limits, Pixels, Reader, decode, encode, page_count, probe};

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

#[test]
fn the_limits_are_inclusive() {
    let file = small(Format::Png);
    let exact = Limits {
        max_pixels: 24 * 18,
        max_bytes: u64::try_from(file.len()).unwrap(),
        max_side: 24,
        max_aspect: 2,
        ..Limits::DEFAULT
    };
    assert!(decode(&file, &exact).is_ok());
    for (limits, word) in [
        (
            Limits {
                max_pixels: 24 * 18 - 1,
                ..exact
            },
            "24x18",
        ),
        (
            Limits {
                max_side: 23,
                ..exact
            },
            "23 px",
        ),
        (
            Limits {
                max_bytes: exact.max_bytes - 1,
                ..exact
            },
            "bytes",
        ),
        (
            Limits {
                max_aspect: 1,
                ..exact
            },
            "1 times as long",
        ),
    ] {
        let error = probe(&file, &limits).unwrap_err();
        assert_eq!(error.reason(), "too_large");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// What a file has beside its pixels is counted before any of it is read.
#[test]
fn blocks_beside_the_pixels_are_limited() {
    let limits = Limits {
        max_blocks: 40,
        ..Limits::DEFAULT
    };
    let png = small(Format::Png);
    let checksum = crc32fast::hash(b"tEXta\0b").to_be_bytes();
    let text = [&b"\0\0\0\x03tEXta\0b"[..], &checksum].concat();
    let jpeg = small(Format::Jpeg);
    let with = |file: &[u8], at: usize, block: &[u8], count: usize| {
        [&file[..at], &block.repeat(count), &file[at..]].concat()
    };
    // Behind the header of PNG, and behind the first marker of JPEG.
    for (file, at, block) in [(png, 33, &text[..]), (jpeg, 2, &b"\xFF\xFE\0\x03c"[..])] {
        assert!(probe(&with(&file, at, block, 9), &limits).is_ok());
        let error = probe(&with(&file, at, block, 41), &limits).unwrap_err();
        assert_eq!(error.reason(), "too_large");
        assert!(error.to_string().contains("more than 40 blocks"), "{error}");
    }
    let few = Limits {
        max_blocks: 9,
        ..Limits::DEFAULT
    };
    let error = probe(&small(Format::Tiff), &few).unwrap_err();
    assert!(error.to_string().contains("more than 9 blocks"), "{error}");
}

/// Black pages of one pixel, `entries` in each directory.
fn pages(count: u32, entries: u16) -> Vec<u8> {
    let needed: [(u16, u32); 9] = [
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 1),
    ];
    let others = (0..entries - 9).map(|index| (40_000 + index, 7));
    let mut directory = entries.to_le_bytes().to_vec();
    for (tag, value) in needed.into_iter().chain(others) {
        directory.extend(tag.to_le_bytes());
        directory.extend([4, 0, 1, 0, 0, 0]);
        directory.extend(value.to_le_bytes());
    }
    let mut file = b"II*\0\x0C\0\0\0\0\0\0\0".to_vec();
    for page in 1..=count {
        file.extend(&directory);
        let behind = u32::try_from(file.len()).expect("a small file") + 4;
        let next = if page < count { behind } else { 0 };
        file.extend(next.to_le_bytes());
    }
    file
}

/// A file that counts what is read of it.
struct Counted<'a> {
    file: Cursor<&'a [u8]>,
    read: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn the_pages_before_one_are_walked_through_once() {
    let file = pages(1_000, 60);
    let read = AtomicU64::new(0);
    let counted = Counted {
        file: Cursor::new(&file),
        read: &read,
    };
    let reader = Reader::open_page(Box::new(counted), &Limits::DEFAULT, 999).unwrap();
    reader.verify().unwrap();
    let (read, whole) = (read.into_inner(), file.len() as u64);
    // And some buffers full around its own directory.
    assert!(read < whole + whole / 4, "{read} of {whole}");
}

#[test]
fn the_blocks_of_all_pages_are_limited() {
    let count = |file: &[u8]| page_count(Box::new(Cursor::new(file)), &Limits::DEFAULT);
    assert_eq!(count(&pages(1_000, 100)).unwrap(), 1_000);
    let error = count(&pages(1_000, 101)).unwrap_err();
    assert_eq!(error.reason(), "too_large");
    assert!(error.to_string().contains("more than 100000 blocks"));
}
