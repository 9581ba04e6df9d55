//! What a source says beside its pixels, on its way to a result: read here by the decoders of other
//! crates and a walk of our own over tags, which share nothing with the code that wrote it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocks;

use std::io::Cursor;

use blocks::{Source, number, tags, walk};
use image::{ImageDecoder, ImageReader};
use imaging::{
    COMPOSITE, Carried, Change, EncodeOptions, Format, Limits, Metadata, Pixels, Provenance,
    Reader, Resolution, decode, encode,
};

const SIDE: u32 = 16;

fn provenance() -> Provenance {
    Provenance {
        software: "upres test".to_owned(),
        model: "tiny".to_owned(),
        model_digest: Some("sha256:00".to_owned()),
        timesteps: vec![200, 100],
        seed: 7,
        color_fix: "wavelet".to_owned(),
        tile: 128,
        overlap: 32,
        guidance: 1.0,
    }
}

fn carried(metadata: &Metadata, format: Format, strip_gps: bool) -> Carried {
    metadata.for_result(&Change {
        format,
        width: 4 * SIDE,
        height: 4 * SIDE,
        scale: 4,
        strip_gps,
        provenance: Some(&provenance()),
    })
}

/// A result with the metadata of `source`, four times as large.
fn result(source: &[u8], format: Format, strip_gps: bool) -> (Vec<u8>, Vec<String>) {
    let decoded = decode(source, &Limits::default()).unwrap();
    let Carried { metadata, warnings } = carried(&decoded.metadata, format, strip_gps);
    let options = EncodeOptions {
        metadata,
        ..EncodeOptions::new(format)
    };
    let samples = vec![120; (4 * SIDE * 4 * SIDE) as usize];
    let pixels = Pixels::gray(4 * SIDE, 4 * SIDE, &samples);
    (encode(&pixels, &options).unwrap(), warnings)
}

/// What another crate finds in a file: the EXIF block and the XMP packet.
fn found(file: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .unwrap();
    let mut decoder = reader.into_decoder().unwrap();
    (
        decoder.exif_metadata().unwrap(),
        decoder.xmp_metadata().unwrap(),
    )
}

/// The block with the tags: the file itself if it is TIFF.
fn exif_of(file: &[u8], format: Format) -> Vec<u8> {
    match format {
        Format::Tiff => file.to_vec(),
        _ => found(file).0.expect("EXIF"),
    }
}

/// The packet, which the other crate refuses to read from some TIFF files for want of memory.
fn xmp_of(file: &[u8], format: Format) -> String {
    let packet = match format {
        Format::Tiff => walk(file)[0].remove(&tags::XMP),
        _ => found(file).1,
    };
    String::from_utf8(packet.expect("XMP")).unwrap()
}

fn contains(file: &[u8], needle: &[u8]) -> bool {
    file.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn every_format_carries_exif_mended() {
    for big_endian in [false, true] {
        let source = Source {
            big_endian,
            ..Source::default()
        }
        .jpeg(SIDE);
        for format in Format::ALL {
            let (file, _) = result(&source, format, false);
            let block = exif_of(&file, format);
            let [image, photo, gps, interop] = walk(&block);
            let of_image = |tag| number(&block, &image, tag);
            assert_eq!(of_image(tags::ORIENTATION), Some(1), "{format}");
            assert_eq!(of_image(tags::X_RESOLUTION), Some(1200), "{format}");
            assert_eq!(image[&tags::ARTIST], b"Jo\0");
            assert_eq!(image[&tags::SOFTWARE], b"upres test\0");
            let of_photo = |tag| number(&block, &photo, tag);
            assert_eq!(of_photo(tags::PIXEL_X), Some(4 * SIDE), "{format}");
            assert_eq!(of_photo(tags::PIXEL_Y), Some(4 * SIDE), "{format}");
            assert_eq!(photo[&tags::MAKER_NOTE], blocks::NOTE);
            assert_eq!(gps[&tags::GPS_LATITUDE].len(), 24);
            assert_eq!(interop[&1], b"R98\0");
            assert!(
                !contains(&file, blocks::THUMBNAIL),
                "the thumbnail is of the source"
            );
        }
    }
}

#[test]
fn the_notes_of_a_maker_stay_where_they_refer_to() {
    let source = Source::default().jpeg(SIDE);
    let place = |block: &[u8]| {
        block
            .windows(blocks::NOTE.len())
            .position(|at| at == blocks::NOTE)
    };
    let before = place(&found(&source).0.unwrap());
    assert!(before.is_some());
    for format in [Format::Jpeg, Format::Png, Format::WebP] {
        let (file, _) = result(&source, format, true);
        assert_eq!(place(&found(&file).0.unwrap()), before, "{format}");
    }
}

#[test]
fn where_a_picture_was_taken_is_nowhere_in_the_file_when_it_is_to_be_left_out() {
    let source = Source::default().jpeg(SIDE);
    assert!(contains(&source, blocks::LATITUDE) && contains(&source, b"GPSLatitude"));
    for format in Format::ALL {
        let (file, _) = result(&source, format, true);
        assert!(walk(&exif_of(&file, format))[2].is_empty(), "{format}");
        assert!(
            !contains(&file, blocks::LATITUDE) && !contains(&file, b"GPS"),
            "{format}"
        );
        let (file, _) = result(&source, format, false);
        assert!(
            contains(&file, blocks::LATITUDE) && contains(&file, b"GPSLatitude"),
            "{format}"
        );
    }
}

#[test]
fn the_file_says_what_was_done_to_it() {
    for (source, kind) in [
        (Source::default().jpeg(SIDE), "with XMP"),
        (
            encode(
                &Pixels::gray(SIDE, SIDE, &[9; 256]),
                &EncodeOptions::new(Format::Png),
            )
            .unwrap(),
            "without",
        ),
    ] {
        for format in Format::ALL {
            let (file, _) = result(&source, format, false);
            let xmp = xmp_of(&file, format);
            let label = format!("<Iptc4xmpExt:DigitalSourceType>{COMPOSITE}<");
            assert!(xmp.contains(&label), "{format} {kind}: {xmp}");
            for said in [
                "<upres:Seed>7<",
                "<rdf:li>100</rdf:li>",
                ">sha256:00<",
                ">upres test<",
            ] {
                assert!(xmp.contains(said), "{said} {format} {kind}: {xmp}");
            }
            let of_source = [
                "Box 7",
                "<upres:SourceSoftware>scan 1.0<",
                "<upres:CaptureXResolution>300/1<",
                ">urn:print<",
            ];
            for said in of_source {
                assert_eq!(
                    xmp.contains(said),
                    kind == "with XMP",
                    "{said} {format}: {xmp}"
                );
            }
        }
    }
}

#[test]
fn what_a_result_says_is_read_back_and_outlives_every_pair_of_formats() {
    let source = Source::default().jpeg(SIDE);
    for first in Format::ALL {
        for second in Format::ALL {
            let (once, warnings) = result(&source, first, false);
            let lost: Vec<_> = match first {
                Format::WebP => vec!["not carried to the result: the comment, IPTC".to_owned()],
                Format::Png | Format::Tiff => {
                    vec!["not carried to the result: the comment".to_owned()]
                }
                Format::Jpeg => vec![],
            };
            assert_eq!(warnings, lost, "{first}");
            let (twice, _) = result(&once, second, false);
            let decoded = decode(&twice, &Limits::default()).unwrap();
            let mut blocks = vec!["EXIF", "GPS", "XMP"];
            if first != Format::WebP && second != Format::WebP {
                blocks.push("IPTC");
            }
            if (first, second) == (Format::Jpeg, Format::Jpeg) {
                blocks.push("comment");
            }
            assert_eq!(decoded.metadata.blocks(), blocks, "{first} {second}");
            let dpi = decoded
                .metadata
                .resolution()
                .map(|resolution| resolution.per_inch());
            assert_eq!(dpi, Some((4800.0, 9600.0)), "{first} {second}");
        }
    }
}

#[test]
fn iptc_is_kept_byte_for_byte() {
    let source = Source::default().jpeg(SIDE);
    for format in [Format::Jpeg, Format::Tiff] {
        assert!(
            contains(&result(&source, format, false).0, blocks::IPTC),
            "{format}"
        );
    }
    // PNG has it compressed, in hexadecimal: back in JPEG it is the same.
    let (png, _) = result(&source, Format::Png, false);
    assert!(contains(&result(&png, Format::Jpeg, false).0, blocks::IPTC));
}

#[test]
fn a_picture_on_its_side_has_its_resolutions_swapped() {
    let source = Source {
        orientation: 6,
        ..Source::default()
    }
    .jpeg(SIDE);
    let decoded = decode(&source, &Limits::default()).unwrap();
    let dpi = decoded
        .metadata
        .resolution()
        .map(|resolution| resolution.per_inch());
    assert_eq!(dpi, Some((600.0, 300.0)));
}

#[test]
fn a_big_tiff_of_another_program_is_read() {
    use tiff::{
        encoder::{Rational, TiffEncoder, colortype::Gray8},
        tags::{ResolutionUnit, Tag},
    };
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new_big(&mut file).unwrap();
    let mut page = encoder.new_image::<Gray8>(SIDE, SIDE).unwrap();
    page.resolution(ResolutionUnit::Centimeter, Rational { n: 400, d: 3 });
    page.encoder().write_tag(Tag::Artist, "Me").unwrap();
    page.encoder()
        .write_tag(Tag::Unknown(33_723), &b"\x1c\x02\x05\0\x01A"[..])
        .unwrap();
    page.encoder()
        .write_tag(Tag::Unknown(33_550), &[1.0_f64, 1.0, 0.0][..])
        .unwrap();
    page.write_data(&[50; 256]).unwrap();
    let (result, warnings) = result(file.get_ref(), Format::Tiff, false);
    assert_eq!(warnings, ["not carried to the result: GeoTIFF"]);
    let [image, ..] = walk(&result);
    assert_eq!(image[&tags::ARTIST], b"Me\0");
    assert_eq!(image[&tags::IPTC], b"\x1c\x02\x05\0\x01A");
    assert_eq!(
        image[&tags::X_RESOLUTION],
        [1600_u32, 3].map(u32::to_le_bytes).concat()
    );
    assert_eq!(number(&result, &image, tags::RESOLUTION_UNIT), Some(3));
}

#[test]
fn texts_of_png_stay_in_png_and_are_named_when_they_cannot() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
    encoder
        .add_text_chunk("Title".to_owned(), "Box 7".to_owned())
        .unwrap();
    encoder
        .add_ztxt_chunk("Comment".to_owned(), "packed".to_owned())
        .unwrap();
    encoder
        .add_itxt_chunk("Author".to_owned(), "Krämer".to_owned())
        .unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[7; 256]).unwrap();
    writer.finish().unwrap();

    let (kept, warnings) = result(&file, Format::Png, false);
    assert_eq!(warnings, Vec::<String>::new());
    let reader = png::Decoder::new(Cursor::new(kept)).read_info().unwrap();
    let info = reader.info();
    assert_eq!(info.uncompressed_latin1_text[0].text, "Box 7");
    assert_eq!(info.compressed_latin1_text[0].get_text().unwrap(), "packed");
    let authors = info
        .utf8_text
        .iter()
        .filter(|text| text.keyword == "Author");
    assert_eq!(authors.count(), 1);
    let (_, warnings) = result(&file, Format::Jpeg, false);
    assert_eq!(warnings, ["not carried to the result: texts"]);
}

#[test]
fn damage_in_a_block_costs_a_warning_and_never_the_picture() {
    let source = Source::default().jpeg(SIDE);
    let end = source.windows(2).position(|at| at == [0xFF, 0xDB]).unwrap();
    let mut state = 1_u32;
    let mut without = 0;
    for _ in 0..3_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let at = 24 + (state >> 8) as usize % (end - 24);
        let mut damaged = source.clone();
        damaged[at] ^= 1 << (state % 8);
        // A damaged length of a segment may hide the picture: that is another damage.
        let Ok(reader) = Reader::from_bytes(&damaged, &Limits::default()) else {
            continue;
        };
        for format in Format::ALL {
            let carried = carried(reader.metadata(), format, false);
            without += u32::from(!carried.warnings.is_empty());
        }
    }
    assert!(without > 100, "damage shows: {without}");
}

#[test]
fn a_recorded_reading_of_a_scan_agrees() {
    let edge = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/edge/");
    let Ok(source) = std::fs::read(format!("{edge}meta_300dpi_gps_iptc_xmp.jpg")) else {
        println!("skipped: the shared test files are not here");
        return;
    };
    // What ExifTool 12.57 says of it: a block in big-endian order with these values.
    let decoded = decode(&source, &Limits::default()).unwrap();
    assert_eq!(decoded.metadata.blocks(), ["EXIF", "GPS", "XMP", "IPTC"]);
    assert_eq!(
        decoded
            .metadata
            .resolution()
            .as_ref()
            .map(Resolution::per_inch),
        Some((300.0, 300.0))
    );
    let (file, _) = result(&source, Format::Png, false);
    let [image, photo, gps, _] = walk(&found(&file).0.unwrap());
    assert_eq!(image[&tags::ARTIST], b"Test Operator\0");
    assert_eq!(photo[&36_867], b"1999:12:31 23:59:58\0");
    assert_eq!((&gps[&1][..], &gps[&3][..]), (&b"N\0"[..], &b"W\0"[..]));
}
