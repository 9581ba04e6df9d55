//! Any change to a small valid file gives an answer: no panic, no memory that grows with a lie.

use std::io::Cursor;

use imaging::{
    DecodeError, EncodeOptions, Format, Limits, Pixels, Reader, TiffCompression, decode, encode,
    probe,
};
use proptest::prelude::*;

/// Far below what a lying header asks for, far above what these pictures need.
const GROWTH_LIMIT_KIB: u64 = 512 * 1024;

const LIMITS: Limits = Limits {
    max_pixels: 4_000_000,
    max_bytes: 1 << 20,
    max_side: 10_000,
    ..Limits::DEFAULT
};

/// A valid file of each format, gray and colour, as plain as it can be and with all that it can
/// have, with an ICC profile.
fn seeds() -> Vec<Vec<u8>> {
    let samples: Vec<u8> = (0..40 * 26 * 3)
        .map(|i: u32| (i * 97 % 253).to_le_bytes()[0])
        .collect();
    let pixels = Pixels {
        width: 40,
        height: 26,
        rgb: samples,
    };
    let mut icc = vec![3; 200];
    icc[16..20].copy_from_slice(b"RGB ");
    icc[36..40].copy_from_slice(b"acsp");
    let mut files = Vec::new();
    for format in Format::ALL {
        for gray in [false, true] {
            let options = EncodeOptions {
                gray,
                icc: Some(icc.clone()),
                ..EncodeOptions::new(format)
            };
            files.push(encode(&pixels, &options).expect("a small picture is written"));
            let most = EncodeOptions {
                alpha: format.holds_alpha(),
                depth: format.max_depth(),
                ..options
            };
            files.push(encode(&pixels, &most).expect("a small picture is written"));
            let lzw = EncodeOptions {
                tiff_compression: TiffCompression::Lzw,
                ..most
            };
            if format == Format::Tiff {
                files.push(encode(&pixels, &lzw).expect("a small picture is written"));
            }
        }
    }
    files
}

/// The most address space this process ever had, in KiB; `None` where the system does not tell.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmPeak:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[derive(Debug, Clone)]
enum Change {
    Byte(prop::sample::Index, u8),
    Bit(prop::sample::Index, u8),
    /// Four bytes at once: sizes, offsets and counts.
    Word(prop::sample::Index, [u8; 4]),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, u8),
    Repeat(prop::sample::Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let word = prop_oneof![
        Just([0; 4]),
        Just([0xFF; 4]),
        Just([0x7F, 0xFF, 0xFF, 0xFF]),
        Just([0, 0, 0, 0x40]),
        any::<[u8; 4]>()
    ];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Bit(at, bit)),
        (at(), word).prop_map(|(at, word)| Change::Word(at, word)),
        at().prop_map(Change::Cut),
        (at(), 1..32_u8).prop_map(|(at, count)| Change::Remove(at, count)),
        (at(), 1..32_u8).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

fn apply(file: &mut Vec<u8>, change: &Change) {
    if file.is_empty() {
        return;
    }
    match change {
        Change::Byte(at, byte) => {
            let at = at.index(file.len());
            file[at] = *byte;
        }
        Change::Bit(at, bit) => {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        Change::Word(at, word) => {
            let at = at.index(file.len());
            let end = (at + 4).min(file.len());
            file[at..end].copy_from_slice(&word[..end - at]);
        }
        Change::Cut(at) => file.truncate(at.index(file.len())),
        Change::Remove(at, count) => {
            let at = at.index(file.len());
            let end = (at + usize::from(*count)).min(file.len());
            file.drain(at..end);
        }
        Change::Repeat(at, count) => {
            let at = at.index(file.len());
            let end = (at + usize::from(*count)).min(file.len());
            let copy = file[at..end].to_vec();
            file.splice(at..at, copy);
        }
    }
}

/// The pixels, read a few rows at a time.
fn in_pieces(file: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::open(Box::new(Cursor::new(file)), &LIMITS)?;
    let mut rows = vec![0; reader.row_bytes() * 5];
    let mut rgb = Vec::new();
    loop {
        match reader.read_rows(&mut rows)? as usize {
            0 => return Ok(rgb),
            read => rgb.extend_from_slice(&rows[..read * reader.row_bytes()]),
        }
    }
}

#[test]
fn any_change_is_answered() {
    let seeds = seeds();
    let before = peak_kib();
    let strategy = (0..seeds.len(), prop::collection::vec(change(), 1..6));
    let config = ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |((seed, changes) in strategy)| {
        let mut file = seeds[seed].clone();
        for change in &changes {
            apply(&mut file, change);
        }
        let probed = probe(&file, &LIMITS);
        let decoded = decode(&file, &LIMITS);
        let whole = decoded.as_ref().map(|decoded| &decoded.pixels.rgb);
        let pieces = in_pieces(&file);
        prop_assert_eq!(
            whole.map_err(ToString::to_string),
            pieces.as_ref().map_err(ToString::to_string)
        );
        match decoded {
            Ok(decoded) => {
                let (width, height) = (decoded.pixels.width, decoded.pixels.height);
                prop_assert_eq!(probed.expect("what decodes can be probed"), decoded.info);
                let pixels = u64::from(width) * u64::from(height);
                prop_assert!(pixels <= LIMITS.max_pixels);
                prop_assert_eq!(u64::try_from(decoded.pixels.rgb.len()).expect("fits"), pixels * 3);
            }
            Err(error) => {
                prop_assert!(["unreadable", "too_large", "unsupported"].contains(&error.reason()));
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                prop_assert_ne!(cause.as_deref(), Some("the decoder gave up"), "a decoder panicked");
            }
        }
    });
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        assert!(
            after - before < GROWTH_LIMIT_KIB,
            "grew by {} KiB",
            after - before
        );
    }
}
