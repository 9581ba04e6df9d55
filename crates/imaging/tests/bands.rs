//! Files written in bands: the same bytes however the rows come and wherever the work is cut, and
//! pixels that other readers find.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{
    Change, Checkpoint, Depth, EncodeError, EncodeOptions, Finished, Format, Limits, Metadata,
    NoTiffTile, Pixels, Provenance, TiffTile, Writer, decode, encode,
};
use proptest::prelude::*;

/// The formats that are written in bands.
const STREAMED: [Format; 3] = [Format::Jpeg, Format::Png, Format::Tiff];

/// Gradients with grain: rows differ, so a row in the wrong place shows.
fn row(width: u32, y: u32, grain: u32) -> Vec<u8> {
    let mut state = y.wrapping_mul(2_654_435_761) | 1;
    let mut samples = Vec::new();
    for x in 0..width * 3 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let value = (x / 7 + y) % 256 + state % grain;
        samples.push(value.to_le_bytes()[0]);
    }
    samples
}

fn picture(width: u32, height: u32, grain: u32) -> Pixels {
    let rgb = (0..height).flat_map(|y| row(width, y, grain)).collect();
    Pixels { width, height, rgb }
}

fn options(format: Format, gray: bool) -> EncodeOptions {
    let mut icc = vec![5; 301];
    icc[16..20].copy_from_slice(b"RGB ");
    icc[36..40].copy_from_slice(b"acsp");
    EncodeOptions {
        gray,
        icc: Some(icc),
        metadata: metadata(format, 1),
        ..EncodeOptions::new(format)
    }
}

/// What a result says that was made with `seed`.
fn metadata(format: Format, seed: u64) -> Metadata {
    let provenance = Provenance {
        software: "upres".to_owned(),
        model: "tiny".to_owned(),
        model_digest: None,
        timesteps: vec![200],
        seed,
        color_fix: "wavelet".to_owned(),
        tile: 128,
        overlap: 32,
        guidance: 1.0,
    };
    let change = Change {
        format,
        width: 4,
        height: 4,
        scale: 4,
        strip_gps: false,
        provenance: Some(&provenance),
    };
    Metadata::default().for_result(&change).metadata
}

fn join(body: Vec<u8>, Finished { head, tail }: Finished) -> Vec<u8> {
    [head, body, tail].concat()
}

/// Wide pictures have bands of few rows, so that there are many in a small test.
const WIDE: u32 = 60_000;

/// How the work on one file goes.
#[derive(Debug, Clone)]
enum Step {
    /// So many rows are pushed at once.
    Push(u32),
    Take,
    /// The process dies: what was not taken is lost.
    Die,
    /// The process stops on purpose and hands over what it has.
    Suspend,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_u32).prop_map(Step::Push),
        3 => Just(Step::Take),
        1 => Just(Step::Die),
        1 => Just(Step::Suspend),
    ]
}

/// The checkpoint as another process reads it.
fn carried(checkpoint: &Checkpoint) -> Checkpoint {
    let text = serde_json::to_string(checkpoint).unwrap();
    assert!(text.len() < 12_000, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Writes `pixels` by `steps`, over and over until it is done.
fn write_by_steps(pixels: &Pixels, options: &EncodeOptions, steps: &[Step]) -> Vec<u8> {
    let row_bytes = pixels.rgb.len() / pixels.height as usize;
    let begin = || Writer::new(options, pixels.width, pixels.height).unwrap();
    let mut writer = begin();
    let mut body = Vec::new();
    // What was recorded last: a checkpoint and the bytes held with it.
    let mut recorded = (writer.checkpoint().unwrap(), Vec::new());
    let mut deaths = 0;
    for step in steps.iter().cycle() {
        let push = match step {
            Step::Push(rows) => (*rows).min(pixels.height - writer.next_row()),
            Step::Take => {
                body.extend(writer.take());
                if let Some(checkpoint) = writer.checkpoint() {
                    recorded = (carried(&checkpoint), Vec::new());
                }
                continue;
            }
            // Somebody must come to an end.
            Step::Die | Step::Suspend if deaths == 20 => pixels.height - writer.next_row(),
            Step::Die | Step::Suspend => {
                deaths += 1;
                if matches!(step, Step::Suspend) {
                    let next_row = writer.next_row();
                    let (checkpoint, held) = writer.suspend().unwrap();
                    assert_eq!(checkpoint.next_row, next_row, "no row is made again");
                    recorded = (carried(&checkpoint), held);
                }
                let (checkpoint, held) = &recorded;
                body.truncate(usize::try_from(checkpoint.bytes).unwrap());
                writer = Writer::resume(
                    options,
                    pixels.width,
                    pixels.height,
                    checkpoint.clone(),
                    held,
                )
                .unwrap();
                assert_eq!(writer.next_row(), checkpoint.next_row);
                continue;
            }
        };
        let from = writer.next_row() as usize * row_bytes;
        let to = from + push as usize * row_bytes;
        writer.push_rows(&pixels.rgb[from..to]).unwrap();
        if writer.next_row() == pixels.height {
            return join(body, writer.finish().unwrap());
        }
    }
    unreachable!("steps are repeated")
}

#[test]
fn cuts_and_interruptions_do_not_show_in_the_bytes() {
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..Default::default()
    };
    let steps = prop::collection::vec(step(), 1..20);
    let kinds = (any::<bool>(), any::<bool>(), any::<bool>());
    let strategy = (0..3_usize, kinds, 1..90_u32, steps);
    proptest!(config, |((format, (gray, alpha, deep), height, mut steps) in strategy)| {
        steps.push(Step::Push(1));
        let pixels = picture(WIDE, height, 40);
        let format = STREAMED[format];
        let options = EncodeOptions {
            alpha: alpha && format.holds_alpha(),
            depth: if deep { format.max_depth() } else { Depth::Eight },
            ..options(format, gray)
        };
        let whole = encode(&pixels, &options).unwrap();
        let file = write_by_steps(&pixels, &options, &steps);
        prop_assert!(file == whole, "{:?}: {} and {} bytes", options, file.len(), whole.len());
    });
}

/// Enough noise that strips leave the head of a TIFF while it is written.
#[test]
fn a_long_file_is_released_while_it_is_written_and_continued_from_there() {
    for format in STREAMED {
        let pixels = picture(1_000, 6_000, 200);
        let options = options(format, false);
        let whole = encode(&pixels, &options).unwrap();
        let steps = [
            Step::Push(700),
            Step::Take,
            Step::Push(700),
            Step::Take,
            Step::Push(700),
            Step::Die,
            Step::Push(900),
            Step::Suspend,
            Step::Push(700),
            Step::Take,
        ];
        assert!(
            write_by_steps(&pixels, &options, &steps) == whole,
            "{format}"
        );

        let mut writer = Writer::new(&options, 1_000, 6_000).unwrap();
        writer.push_rows(&pixels.rgb).unwrap();
        let body = writer.take();
        assert!(!body.is_empty(), "{format}");
        let Finished { head, tail } = writer.finish().unwrap();
        assert!(tail.is_empty(), "{format}");
        assert!(
            format != Format::Tiff || head.len() >= 5 << 20,
            "{}",
            head.len()
        );
        if format != Format::Jpeg {
            assert!(
                decode(&whole, &Limits::default()).unwrap().pixels == pixels,
                "{format}"
            );
        }
    }
}

#[test]
fn all_rows_and_no_end_is_a_place_to_stop_too() {
    let pixels = picture(WIDE, 90, 200);
    for format in STREAMED {
        let options = options(format, false);
        let mut writer = Writer::new(&options, WIDE, 90).unwrap();
        writer.push_rows(&pixels.rgb).unwrap();
        let (checkpoint, held) = writer.suspend().unwrap();
        assert_eq!(checkpoint.next_row, 90);
        let writer = Writer::resume(&options, WIDE, 90, checkpoint, &held).unwrap();
        let file = join(Vec::new(), writer.finish().unwrap());
        assert!(file == encode(&pixels, &options).unwrap(), "{format}");
    }
}

/// Reads with decoders that are called directly, not through this crate.
fn read_elsewhere(file: &[u8], format: Format) -> Vec<u8> {
    match format {
        Format::Png => {
            let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
            let mut samples = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut samples).unwrap();
            reader.finish().unwrap();
            samples
        }
        Format::Tiff => {
            let mut decoder = tiff::decoder::Decoder::new(Cursor::new(file)).unwrap();
            match decoder.read_image().unwrap() {
                tiff::decoder::DecodingResult::U8(samples) => samples,
                other => panic!("{other:?}"),
            }
        }
        Format::Jpeg | Format::WebP => image::load_from_memory(file).unwrap().into_bytes(),
    }
}

#[test]
fn other_readers_find_the_pixels() {
    for (width, height) in [(1, 1), (2, 3), (3, 1), (77, 41), (WIDE, 50), (5, 20_000)] {
        for gray in [false, true] {
            let pixels = picture(width, height, 9);
            for format in [Format::Png, Format::Tiff] {
                let file = encode(&pixels, &options(format, gray)).unwrap();
                let samples = read_elsewhere(&file, format);
                let expected = if gray {
                    pixels.luma()
                } else {
                    pixels.rgb.clone()
                };
                assert!(samples == expected, "{format} {width}x{height} gray {gray}");
            }
        }
    }
}

/// The coded rows of each restart interval are those of the encoder, so the pixels must be too.
#[test]
fn a_jpeg_in_intervals_shows_what_the_encoder_alone_writes() {
    for (height, gray) in [(7, false), (50, false), (50, true)] {
        let pixels = picture(WIDE, height, 30);
        let file = encode(&pixels, &options(Format::Jpeg, gray)).unwrap();
        let (color, samples) = if gray {
            (image::ExtendedColorType::L8, pixels.luma())
        } else {
            (image::ExtendedColorType::Rgb8, pixels.rgb)
        };
        let mut plain = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut plain, 95)
            .encode(&samples, WIDE, height, color)
            .unwrap();
        let markers = file.windows(2).filter(|pair| *pair == [0xFF, 0xD0]).count();
        assert_eq!(markers > 0, height > 8, "restart markers");
        assert!(
            read_elsewhere(&file, Format::Jpeg) == read_elsewhere(&plain, Format::Jpeg),
            "{height} {gray}"
        );
        let decoded = decode(&file, &Limits::default()).unwrap();
        assert_eq!((decoded.info.height, decoded.info.gray), (height, gray));
    }
}

#[test]
fn a_jpeg_in_intervals_that_ends_too_early_is_refused() {
    let file = encode(&picture(WIDE, 50, 30), &options(Format::Jpeg, false)).unwrap();
    for percent in [20, 50, 90, 99] {
        let cut = &file[..file.len() * percent / 100];
        for file in [cut.to_vec(), [cut, &[0xFF, 0xD9]].concat()] {
            let error = decode(&file, &Limits::default())
                .map(|_| ())
                .expect_err("accepted");
            assert_eq!(error.reason(), "unreadable", "{percent} %: {error}");
        }
    }
}

#[test]
fn webp_is_written_in_one_go() {
    let pixels = picture(50, 40, 9);
    let options = options(Format::WebP, false);
    assert!(!Format::WebP.streams());
    let mut writer = Writer::new(&options, 50, 40).unwrap();
    for row in pixels.rgb.chunks(150) {
        writer.push_rows(row).unwrap();
    }
    assert_eq!(writer.checkpoint(), None);
    let file = join(writer.take(), writer.finish().unwrap());
    assert_eq!(file, encode(&pixels, &options).unwrap());
}

#[test]
fn a_checkpoint_of_another_file_is_refused() {
    let pixels = picture(WIDE, 60, 9);
    for format in STREAMED {
        let options = options(format, false);
        let mut writer = Writer::new(&options, WIDE, 60).unwrap();
        writer
            .push_rows(&pixels.rgb[..WIDE as usize * 3 * 40])
            .unwrap();
        let (checkpoint, held) = writer.suspend().unwrap();
        let resume = |options: &EncodeOptions, height, held: &[u8]| {
            Writer::resume(options, WIDE, height, checkpoint.clone(), held)
                .map(|writer| writer.next_row())
        };
        assert_eq!(resume(&options, 60, &held).unwrap(), checkpoint.next_row);
        let other_profile = EncodeOptions {
            icc: None,
            ..options.clone()
        };
        let other_metadata = EncodeOptions {
            metadata: metadata(format, 2),
            ..options.clone()
        };
        let refused = [
            resume(&options, 61, &held),
            resume(&other_profile, 60, &held),
            resume(&other_metadata, 60, &held),
            resume(&EncodeOptions::new(Format::WebP), 60, &held),
            resume(&options, 60, &held[1..]),
            resume(&options, 60, &[]),
        ];
        for refusal in refused {
            assert!(
                matches!(
                    refusal,
                    Err(EncodeError::Checkpoint(_) | EncodeError::SideTooLong { .. })
                ),
                "{refusal:?}"
            );
        }
        let mut value = serde_json::to_value(&checkpoint).unwrap();
        value["next_row"] = serde_json::json!(checkpoint.next_row - 1);
        let tampered = serde_json::from_value(value).unwrap();
        assert!(Writer::resume(&options, WIDE, 60, tampered, &held).is_err());
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    for format in Format::ALL {
        let new = || Writer::new(&EncodeOptions::new(format), 4, 4).unwrap();
        assert!(new().push_rows(&[0; 13]).is_err(), "part of a row");
        assert!(new().push_rows(&[0; 60]).is_err(), "five rows");
        let mut writer = new();
        writer.push_rows(&[0; 36]).unwrap();
        let error = writer.finish().unwrap_err();
        assert!(
            matches!(
                error,
                EncodeError::WrongLength {
                    expected: 48,
                    found: 36,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn tiles_are_the_same_bytes_however_the_work_is_cut_and_other_readers_read_them() {
    let steps = [
        Step::Push(30),
        Step::Take,
        Step::Push(50),
        Step::Suspend,
        Step::Push(200),
        Step::Take,
        Step::Die,
    ];
    for side in [64, 256] {
        for gray in [false, true] {
            // More than the head keeps back, and sides that are no multiple of a tile's.
            let pixels = picture(4_021, 901, 200);
            let options = EncodeOptions {
                tiff_tile: Some(TiffTile::try_from(side).unwrap()),
                ..options(Format::Tiff, gray)
            };
            let whole = encode(&pixels, &options).unwrap();
            assert!(write_by_steps(&pixels, &options, &steps) == whole, "{side}");

            let mut reader = tiff::decoder::Decoder::new(Cursor::new(&whole)).unwrap();
            assert_eq!(reader.chunk_dimensions(), (side, side));
            let tiff::decoder::DecodingResult::U8(read) = reader.read_image().unwrap() else {
                panic!("8 bits a sample");
            };
            let expected = if gray {
                pixels.luma()
            } else {
                pixels.rgb.clone()
            };
            assert!(read == expected, "{side} {gray}");
            let decoded = decode(&whole, &Limits::default()).unwrap();
            assert_eq!((decoded.info.width, decoded.info.height), (4_021, 901));
        }
    }
}

#[test]
fn a_tile_has_a_side_that_readers_know() {
    for side in [0, 16, 65, 100, 2_048] {
        assert_eq!(TiffTile::try_from(side), Err(NoTiffTile(side)));
    }
    assert_eq!(TiffTile::try_from(256).map(TiffTile::side), Ok(256));
}
