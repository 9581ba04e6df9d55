//! Every file of the shared test images, by the column of their manifest that says what is expected.
//! What is read is taken the whole way to a result, which is compared with what other programs found
//! in the source (`readings.csv`, made by `record_readings.py`).
//!
//! The images are not part of the repository; without them there is nothing to test here. The other
//! tests make their files themselves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pages;
mod way;

use std::{collections::HashMap, fs, path::PathBuf};

use imaging::{Change, DecodeError, Depth, EncodeOptions, Info, InputFormat, Limits, Reader};
use way::{Picture, upscale};

/// A line of the manifest.
struct Row {
    name: String,
    width: u32,
    height: u32,
    dpi: Option<f64>,
    pages: u32,
    expected: String,
}

/// What another program found in a file.
struct Reading {
    width: u32,
    height: u32,
    channels: String,
    bits: u8,
    /// Of every channel in each of 4x3 cells.
    means: Vec<f64>,
}

/// Read by builds with the feature.
const JPEG_2000: &str = "edge/jpeg2000_lossless.jp2";

/// What to do where either is right: these are refused, with this word in the sentence.
const REFUSED: [(&str, &str); 6] = [
    ("edge/cmyk.jpg", "CMYK"),
    ("edge/cmyk8.tif", "CMYK"),
    ("edge/gray_float32.tif", "floating point"),
    ("edge/ifd_loop.tif", "damaged"),
    (JPEG_2000, "JPEG 2000"),
    ("edge/photo.avif", "AVIF"),
];

/// Larger pictures in sRGB are not written four times as large, but read.
const WHOLE_WAY_PIXELS: u64 = 1_500_000;

fn data() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let there = folder.join("MANIFEST.csv").is_file();
    if !there {
        println!("skipped: the shared test images are not there");
    }
    there.then_some(folder)
}

/// The fields of a line of CSV without quoted line breaks.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}

fn rows(manifest: &str) -> Vec<Row> {
    let number = |text: &str| text.parse().unwrap_or(0);
    let lines = manifest.lines().skip(1).map(fields);
    let row = |found: Vec<String>| Row {
        width: number(&found[4]),
        height: number(&found[5]),
        dpi: found[7].parse().ok(),
        pages: number(&found[8]),
        expected: found[9].clone(),
        name: found[0].clone(),
    };
    lines.map(row).collect()
}

fn readings() -> HashMap<String, Reading> {
    let lines = include_str!("readings.csv").lines().skip(1).map(fields);
    let reading = |found: Vec<String>| {
        let reading = Reading {
            width: found[1].parse().unwrap(),
            height: found[2].parse().unwrap(),
            channels: found[3].clone(),
            bits: found[4].parse().unwrap(),
            means: found[5]
                .split(' ')
                .map(|mean| mean.parse().unwrap())
                .collect(),
        };
        (found[0].clone(), reading)
    };
    lines.map(reading).collect()
}

/// The reason of a refusal in the words of the manifest, and in ours: the error type, and a word of the
/// sentence.
const REASONS: [(&str, &str, &str); 11] = [
    ("animated", "unsupported", "animation"),
    ("corrupt_data", "unreadable", "damaged"),
    ("truncated_data", "unreadable", "cut off"),
    ("too_many_pixels", "too_large", "pixels accepted"),
    ("unrecognized_format", "unreadable", "not an image"),
    ("empty_file", "unreadable", "empty"),
    ("unsupported_format", "unsupported", "not supported"),
    ("unsupported_colour", "unsupported", "colour"),
    ("unsupported_sample_format", "unsupported", "samples"),
    ("multipage", "unsupported", "pages"),
    ("malformed_structure", "unreadable", "damaged"),
];

fn refusal(file: &[u8]) -> Option<DecodeError> {
    match Reader::from_bytes(file, &Limits::default()) {
        Ok(reader) => reader.verify().err(),
        Err(error) => Some(error),
    }
}

fn check_refused(row: &Row, file: &[u8]) {
    let name = &row.name;
    let error = refusal(file).unwrap_or_else(|| panic!("{name} is accepted"));
    let (_, reason) = row.expected.split_once("reject:").unwrap();
    let known = REASONS.iter().find(|(word, ..)| {
        let rest = reason.strip_prefix(word);
        rest.is_some_and(|rest| !rest.starts_with('_'))
    });
    let (_, reason, word) = known.unwrap_or_else(|| panic!("{name}: {reason}"));
    assert_eq!(error.reason(), *reason, "{name}: {error}");
    assert!(error.to_string().contains(word), "{name}: {error}");
    if let Some((_, word)) = REFUSED.iter().find(|(refused, _)| refused == name) {
        assert!(error.to_string().contains(word), "{name}: {error}");
    }
    for format in ["pdf", "svg"] {
        if row.expected.contains(&format!("({format})")) {
            assert!(
                error.to_string().contains(&format.to_uppercase()),
                "{name}: {error}"
            );
        }
    }
}

/// The row's own requirements on what is said.
fn check_warnings(row: &Row, reader: &Reader<'_>) {
    let name = &row.name;
    let warned = |word: &str| {
        reader
            .warnings()
            .iter()
            .any(|warning| warning.contains(word))
    };
    for (asked, word) in [
        ("warn bilevel_source", "black and white"),
        ("warn trailing_data", "bytes after the end"),
        ("gAMA 1.0", "gamma"),
        ("via Lab->sRGB", "Lab"),
    ] {
        if row.expected.contains(asked) {
            assert!(warned(word), "{name}: {:?}", reader.warnings());
        }
    }
    if row.expected.contains("extension_mismatch") {
        let extension = name.rsplit('.').next().unwrap();
        let named = InputFormat::from_extension(extension);
        assert_ne!(named, Some(reader.info().format), "{name}");
    }
    let profile = ["ICC", "managed colour"]
        .iter()
        .any(|word| row.expected.contains(word));
    assert!(
        !profile || reader.icc().is_some(),
        "{name} loses its profile"
    );
}

/// Pixels an inch are four times as many, and no block is lost.
fn check_metadata(row: &Row, source: &Reader<'_>, result: &Reader<'_>) {
    let name = &row.name;
    if let Some(dpi) = row.dpi {
        let resolution = result.metadata().resolution();
        let found = resolution.map(|resolution| resolution.per_inch().0);
        let near = found.is_some_and(|found| (found - 4.0 * dpi).abs() < 0.5);
        assert!(near, "{name}: {found:?} for {dpi} dpi");
    }
    let kept = result.metadata().blocks();
    for block in source.metadata().blocks() {
        assert!(
            kept.contains(&block),
            "{name}: {block} is lost, {kept:?} are kept"
        );
    }
}

fn check_accepted(row: &Row, file: &[u8], reading: &Reading) {
    let name = &row.name;
    let reader = Reader::from_bytes(file, &Limits::default()).unwrap_or_else(|error| {
        panic!(
            "{name} is refused: {error}: {:?}",
            std::error::Error::source(&error)
        )
    });
    let info = reader.info().clone();
    assert_eq!(
        (info.width, info.height),
        (reading.width, reading.height),
        "{name}"
    );
    let stored = [(info.width, info.height), (info.height, info.width)];
    assert!(
        row.width == 0 || stored.contains(&(row.width, row.height)),
        "{name}"
    );
    check_warnings(row, &reader);

    let depth = if reading.bits == 16 {
        Depth::Sixteen
    } else {
        Depth::Eight
    };
    let gray = reading.channels.starts_with('L');
    let alpha = reading.channels.ends_with('A');
    assert_eq!(
        (info.gray, info.alpha, info.depth),
        (gray, alpha, depth),
        "{name}"
    );

    let pixels = u64::from(info.width) * u64::from(info.height);
    let (picture, lossy) = if pixels > WHOLE_WAY_PIXELS && reader.icc().is_none() {
        (Picture::read(reader), true)
    } else {
        let options = options_of(&reader);
        let icc = reader.icc().map(<[u8]>::to_vec);
        let result = upscale(file, &options);
        let found = Reader::from_bytes(&result, &Limits::default()).unwrap();
        let found_info = found.info();
        assert_eq!(
            (found_info.width, found_info.height),
            (4 * info.width, 4 * info.height)
        );
        let kind = (found_info.gray, found_info.alpha, found_info.depth);
        // WebP has no gray; none of these is.
        assert_eq!(kind, (gray, alpha, depth), "{name}");
        assert_eq!(found_info.format, info.format.kept().into(), "{name}");
        assert_eq!(found.icc(), icc.as_deref(), "{name}");
        check_metadata(row, &reader, &found);
        (
            Picture::decode(&result, 4),
            info.format == InputFormat::Jpeg,
        )
    };
    check_means(name, &picture, &info, lossy, reading);
}

/// Those of a result, with what it says beside its pixels.
fn options_of(reader: &Reader<'_>) -> EncodeOptions {
    let mut options = reader.encode_like(None);
    let change = Change {
        format: options.format,
        width: 4 * reader.info().width,
        height: 4 * reader.info().height,
        scale: 4,
        strip_gps: false,
        provenance: None,
    };
    options.metadata = reader.metadata().for_result(&change).metadata;
    options
}

/// - `lossy`: the result is.
fn check_means(name: &str, picture: &Picture, info: &Info, lossy: bool, reading: &Reading) {
    let means = picture.cells(info.gray, info.alpha);
    assert_eq!(means.len(), reading.means.len(), "{name}");
    // Decoders of lossy formats differ by a level, and lossy results by another.
    let from_lossy =
        lossy || name.contains("jpeg") || name.contains("lossy") || name.contains("300dpi");
    let tolerance = match () {
        () if name.contains("cielab") => 3.0,
        // Transparency is enlarged smoothly, and clipped where that overshoots.
        () if from_lossy || info.alpha => 2.0,
        () => 0.75,
    };
    for (index, (found, expected)) in means.iter().zip(&reading.means).enumerate() {
        let near = (found - expected).abs() <= tolerance;
        assert!(
            near,
            "{name}: value {index} is {found:.2}, others find {expected:.2}"
        );
    }
}

#[test]
fn every_row_is_as_expected() {
    let Some(folder) = data() else { return };
    let readings = readings();
    let rows = rows(&fs::read_to_string(folder.join("MANIFEST.csv")).unwrap());
    assert_eq!(rows.len(), 85);
    let (mut refused, mut accepted) = (0, 0);
    for row in &rows {
        let file = fs::read(folder.join(&row.name)).unwrap();
        let either = row.expected.starts_with("ok") && row.expected.contains("reject:");
        let built = cfg!(feature = "jpeg2000") && row.name == JPEG_2000;
        let chosen = REFUSED.iter().any(|(name, _)| *name == row.name) && !built;
        // A decoder cannot tell these flips; only a checksum can.
        if row.name == "edge/corrupt_bitflips.jpg" {
            assert!(refusal(&file).is_none_or(|error| error.reason() == "unreadable"));
            accepted += 1;
        } else if row.expected.starts_with("reject") || either && chosen {
            check_refused(row, &file);
            refused += 1;
        } else if row.name == "edge/multipage_3.tif" {
            pages::check(row, &file, &readings);
            accepted += 1;
        } else {
            let reading = readings.get(&row.name);
            let reading = reading.unwrap_or_else(|| panic!("{} was not recorded", row.name));
            check_accepted(row, &file, reading);
            accepted += 1;
        }
    }
    let built = usize::from(cfg!(feature = "jpeg2000"));
    assert_eq!((accepted, refused), (63 + built, 22 - built));
}

fn seen(file: &[u8]) -> Vec<f32> {
    let mut reader = Reader::from_bytes(file, &Limits::default()).unwrap();
    let mut unit = vec![0.0; reader.row_bytes() * reader.info().height as usize];
    reader.read_unit_rows(&mut unit).unwrap();
    unit
}

/// Fax pages are stored either way.
#[test]
fn a_fax_page_whose_white_is_zero_is_turned_around() {
    let Some(folder) = data() else { return };
    let mut file = fs::read(folder.join("edge/bilevel_g4.tif")).unwrap();
    let before = seen(&file);
    // The entry of tag 262, of type 3, once.
    let entry = [0x06, 0x01, 3, 0, 1, 0, 0, 0];
    let at = file.windows(8).position(|bytes| bytes == entry).unwrap() + 8;
    file[at] ^= 1;
    let after = seen(&file);
    assert!(before.iter().zip(after).all(|(a, b)| a + b == 1.0));
}

#[test]
fn the_same_picture_stored_otherwise_is_the_same() {
    let Some(folder) = data() else { return };
    let read = |name: &str| seen(&fs::read(folder.join("edge").join(name)).unwrap());
    assert!(read("gray16.tif") == read("gray16_bigendian.tif"));
    assert!(read("rgb8_planar.tif") == read("rgb8_bigtiff.tif"));
    let hidden = read("alpha_hidden_colour.png");
    assert!(hidden.iter().all(|value| (0.0..=1.0).contains(value)));
    // Magenta is nowhere.
    let magenta = |pixel: &[f32]| pixel[0] > 0.9 && pixel[1] < 0.1 && pixel[2] > 0.9;
    assert!(!hidden.chunks(3).any(magenta));
}

#[test]
fn a_raised_limit_lets_a_large_picture_in() {
    let Some(folder) = data() else { return };
    let file = fs::read(folder.join("edge/bomb_valid_20000x20000_1bit.png")).unwrap();
    let limits = Limits {
        max_pixels: 400_000_000,
        ..Limits::default()
    };
    Reader::from_bytes(&file, &limits)
        .unwrap()
        .verify()
        .unwrap();
}
