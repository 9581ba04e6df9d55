//! TIFF files of several pages, and LZW: the same bytes wherever the work is cut, and pixels that other
//! readers find. What Pillow (libtiff) and tifffile found in these very files is in `readings.csv`,
//! made by `record_readings.py`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use ::tiff::{
    decoder::{Decoder, DecodingResult, Limits as DecoderLimits},
    tags::Tag,
};
use imaging::{
    Checkpoint, DecodeError, Depth, EncodeError, EncodeOptions, Finished, Format, Limits, Page,
    Reader, TiffCompression, TiffTile, Writer, page_count,
};

/// A page with its samples.
type Filled = (Page, Vec<u8>);

/// Gradients with grain, whose rows differ; without grain there are long runs.
fn samples(page: &Page, grain: u32) -> Vec<u8> {
    let EncodeOptions {
        gray, alpha, depth, ..
    } = page.options;
    let channels = if gray { 1 } else { 3 } + u32::from(alpha);
    let mut state = page.width.wrapping_mul(2_654_435_761) | 1;
    let mut samples = Vec::new();
    for y in 0..page.height {
        for x in 0..page.width * channels {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let value = (x / 7 + y / 3) % 200 + if grain > 0 { state % grain } else { 0 };
            match depth {
                Depth::Eight => samples.push(value.to_le_bytes()[0]),
                Depth::Sixteen => {
                    let deep = (value * 257 + x % 11) & 0xFFFF;
                    samples.extend(u16::try_from(deep).unwrap().to_ne_bytes());
                }
            }
        }
    }
    samples
}

/// Differs from `EncodeOptions::new(Format::Tiff)`.
fn page(width: u32, height: u32, change: impl FnOnce(&mut EncodeOptions)) -> Page {
    let mut options = EncodeOptions::new(Format::Tiff);
    change(&mut options);
    Page {
        options,
        width,
        height,
    }
}

fn tiled(options: &mut EncodeOptions) {
    options.tiff_tile = Some(TiffTile::try_from(64).unwrap());
}

fn lzw(options: &mut EncodeOptions) {
    options.tiff_compression = TiffCompression::Lzw;
}

/// Three pages that differ in everything, more than fits in the head of the file.
fn three_pages() -> Vec<Filled> {
    let pages = [
        page(900, 1900, |options| options.icc = Some(vec![7; 300])),
        page(200, 130, |options| {
            tiled(options);
            options.gray = true;
        }),
        page(310, 940, |options| {
            options.depth = Depth::Sixteen;
            options.alpha = true;
        }),
    ];
    let with_samples = |page: Page| {
        let samples = samples(&page, 200);
        (page, samples)
    };
    pages.into_iter().map(with_samples).collect()
}

fn pages_of(all: &[Filled]) -> Vec<Page> {
    all.iter().map(|(page, _)| page.clone()).collect()
}

fn row_bytes((page, samples): &Filled) -> usize {
    samples.len() / page.height as usize
}

fn write(all: &[Filled]) -> Vec<u8> {
    let mut writer = Writer::of_pages(pages_of(all)).unwrap();
    let mut body = Vec::new();
    for (_, samples) in all {
        writer.push_samples(samples).unwrap();
        body.extend(writer.take());
    }
    let Finished { head, tail } = writer.finish().unwrap();
    [head, body, tail].concat()
}

/// All samples of a page, by another crate, in the machine's order.
fn found(file: &[u8], page: usize) -> Vec<u8> {
    let decoder = Decoder::new(Cursor::new(file)).unwrap();
    let mut decoder = decoder.with_limits(DecoderLimits::unlimited());
    decoder.seek_to_image(page).unwrap();
    match decoder.read_image().unwrap() {
        DecodingResult::U8(samples) => samples,
        DecodingResult::U16(samples) => samples
            .iter()
            .flat_map(|sample| sample.to_ne_bytes())
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// Every file that other programs have read.
fn files() -> Vec<(&'static str, Vec<Filled>)> {
    let one = |page: Page, grain| {
        let samples = samples(&page, grain);
        vec![(page, samples)]
    };
    let lzw_and = |width, height, change: fn(&mut EncodeOptions)| {
        page(width, height, |options| {
            lzw(options);
            change(options);
        })
    };
    vec![
        ("three_pages", three_pages()),
        ("lzw_grain", one(lzw_and(700, 1500, |_| ()), 200)),
        ("lzw_runs", one(lzw_and(1000, 400, |_| ()), 0)),
        ("lzw_one_row", one(lzw_and(3, 1, |_| ()), 9)),
        ("lzw_tiles", one(lzw_and(500, 300, tiled), 60)),
        (
            "lzw_16_bits",
            one(
                lzw_and(300, 200, |options| options.depth = Depth::Sixteen),
                40,
            ),
        ),
        (
            "lzw_gray_alpha",
            one(
                lzw_and(257, 129, |options| {
                    (options.gray, options.alpha) = (true, true);
                }),
                90,
            ),
        ),
    ]
}

/// To record what others find, name a folder in `PAGES_TO`: the files are left there.
#[test]
fn other_programs_find_every_page_and_every_sample() {
    let recorded = include_str!("readings.csv");
    let folder = std::env::var_os("PAGES_TO").map(std::path::PathBuf::from);
    let mut lines = vec!["name,page,file,samples".to_owned()];
    for (name, all) in files() {
        let file = write(&all);
        if let Some(folder) = &folder {
            std::fs::write(folder.join(name).with_extension("tif"), &file).unwrap();
        }
        for (index, (_, samples)) in all.iter().enumerate() {
            assert!(found(&file, index) == *samples, "{name}, page {index}");
            // Little-endian, as the recording script digests them.
            assert!(cfg!(target_endian = "little") || all[index].0.options.depth == Depth::Eight);
            let digest = crc32fast::hash(samples);
            lines.push(format!(
                "{name},{index},{:08x},{digest:08x}",
                crc32fast::hash(&file)
            ));
        }
    }
    if folder.is_none() {
        assert_eq!(lines.join("\n"), recorded.trim_end());
    }
}

#[test]
fn each_page_is_read_by_itself() {
    let all = three_pages();
    let file = write(&all);
    let limits = Limits::default();
    assert_eq!(
        page_count(Box::new(Cursor::new(&file)), &limits).unwrap(),
        3
    );
    for (index, (page, _)) in all.iter().enumerate() {
        let open = |index| Reader::open_page(Box::new(Cursor::new(&file)), &limits, index);
        let mut reader = open(u32::try_from(index).unwrap()).unwrap();
        let info = reader.info().clone();
        assert_eq!((info.width, info.height), (page.width, page.height));
        let kind = (info.gray, info.alpha, info.depth);
        let EncodeOptions {
            gray, alpha, depth, ..
        } = page.options;
        assert_eq!(kind, (gray, alpha, depth));

        let alone = write(&all[index..=index]);
        let mut other = Reader::from_bytes(&alone, &limits).unwrap();
        let values = reader.row_bytes() * page.height as usize;
        let (mut unit, mut expected) = (vec![0.0; values], vec![0.0; values]);
        reader.read_unit_rows(&mut unit).unwrap();
        other.read_unit_rows(&mut expected).unwrap();
        assert!(unit == expected, "page {index}");
    }
    let error = Reader::from_bytes(&file, &limits).err().unwrap();
    assert!(matches!(error, DecodeError::SeveralPages { pages: 3 }));
    let error = Reader::open_page(Box::new(Cursor::new(&file)), &limits, 3);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("3 pages, page 4 was asked for"), "{error}");
}

#[test]
fn pages_say_which_they_are() {
    let file = write(&three_pages());
    let mut decoder = Decoder::new(Cursor::new(&file)).unwrap();
    for page in 0..3_u32 {
        decoder.seek_to_image(page as usize).unwrap();
        let number = decoder.get_tag_u32_vec(Tag::Unknown(297)).unwrap();
        assert_eq!(number, [page, 3]);
        assert_eq!(decoder.get_tag_u32(Tag::NewSubfileType).unwrap(), 2);
    }
}

/// The checkpoint as another process reads it.
fn carried(checkpoint: &Checkpoint) -> Checkpoint {
    serde_json::from_str(&serde_json::to_string(checkpoint).unwrap()).unwrap()
}

/// Stopped after any number of rows, on any page and between pages, and gone on with: on purpose, or
/// from what was recorded with the bytes taken last.
#[test]
fn a_file_of_several_pages_is_the_same_wherever_it_was_interrupted() {
    let all = three_pages();
    let whole = write(&all);
    for suspends in [true, false] {
        for rows_a_turn in [37, 130, 611] {
            assert!(
                interrupted(&all, suspends, rows_a_turn) == whole,
                "suspended {suspends}, {rows_a_turn} rows a turn"
            );
        }
    }
}

fn interrupted(all: &[Filled], suspends: bool, rows_a_turn: usize) -> Vec<u8> {
    let mut writer = Writer::of_pages(pages_of(all)).unwrap();
    let total = writer.rows();
    let mut body = Vec::new();
    let mut recorded = (writer.checkpoint().unwrap(), Vec::new());
    let mut turn = rows_a_turn;
    while writer.next_row() < total {
        // Further each time, or one that goes on from a record may never arrive.
        let mut left = turn;
        while left > 0 && writer.next_row() < total {
            let (page, row) = writer.place();
            let row_bytes = row_bytes(&all[page]);
            let rows = left.min(all[page].0.height as usize - row as usize).min(50);
            let first = row as usize * row_bytes;
            let samples = &all[page].1[first..first + rows * row_bytes];
            writer.push_samples(samples).unwrap();
            left -= rows;
            if writer.ready_bytes() > 0 {
                body.extend(writer.take());
                recorded = (carried(&writer.checkpoint().unwrap()), Vec::new());
            }
        }
        turn += rows_a_turn;
        if writer.next_row() == total {
            break;
        }
        if suspends {
            let next_row = writer.next_row();
            let (checkpoint, held) = writer.suspend().unwrap();
            assert_eq!(checkpoint.next_row, next_row, "no row is made again");
            recorded = (carried(&checkpoint), held);
        }
        let (checkpoint, held) = &recorded;
        body.truncate(usize::try_from(checkpoint.bytes).unwrap());
        writer = Writer::resume_pages(pages_of(all), checkpoint.clone(), held).unwrap();
    }
    let Finished { head, tail } = writer.finish().unwrap();
    [head, body, tail].concat()
}

#[test]
fn a_checkpoint_of_other_pages_is_refused() {
    let all = three_pages();
    let mut writer = Writer::of_pages(pages_of(&all)).unwrap();
    writer.push_samples(&all[0].1).unwrap();
    writer.push_samples(&all[1].1[..200 * 70]).unwrap();
    assert_eq!(writer.place(), (1, 70));
    let (checkpoint, held) = writer.suspend().unwrap();
    let resume = |pages| Writer::resume_pages(pages, checkpoint.clone(), &held);
    assert_eq!(resume(pages_of(&all)).unwrap().place(), (1, 70));
    let mut lzw_page = pages_of(&all);
    lzw(&mut lzw_page[2].options);
    let mut higher = pages_of(&all);
    higher[2].height += 1;
    let mut swapped = pages_of(&all);
    swapped.swap(0, 1);
    for pages in [lzw_page, higher, swapped, pages_of(&all[..2])] {
        assert!(matches!(resume(pages), Err(EncodeError::Checkpoint(_))));
    }
    let mut value = serde_json::to_value(&checkpoint).unwrap();
    value["next_row"] = serde_json::json!(checkpoint.next_row - 70);
    let tampered: Checkpoint = serde_json::from_value(value).unwrap();
    assert!(Writer::resume_pages(pages_of(&all), tampered, &held).is_err());
}

#[test]
fn a_file_ends_with_its_last_page_only() {
    let all = three_pages();
    let mut writer = Writer::of_pages(pages_of(&all)).unwrap();
    writer.push_samples(&all[0].1).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, EncodeError::WrongLength { width: 200, .. }));
    let mut writer = Writer::of_pages(pages_of(&all[..2])).unwrap();
    let two = [&all[0].1[..], &all[1].1[..]].concat();
    assert!(
        writer.push_samples(&two).is_err(),
        "rows of two pages at once"
    );
}
