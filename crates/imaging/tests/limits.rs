//! What is larger than the limits is refused by its header, with a sentence.

use imaging::{EncodeOptions, Format, Limits, Pixels, decode, encode, probe};

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
