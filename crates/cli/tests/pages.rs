//! Files of several pages, with an untrained model made here.

mod program;

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Output;

use imaging::{EncodeOptions, Finished, Format, Limits, Page, Reader, Writer, page_count};
use program::upres;
use serde_json::{Value, json};

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let make = [
        "models",
        "random",
        "--size",
        "tiny",
        "--seed",
        "3",
        "-o",
        "models/noise",
    ];
    assert!(upres(folder.path(), &make).status.success());
    fs::write(folder.path().join("book.tif"), tiff(&[0, 1, 2])).expect("it is written");
    folder
}

/// Width, height, and whether it is gray.
const PAGES: [(u32, u32, bool); 3] = [(40, 20, false), (16, 50, true), (33, 33, false)];

/// A file of some of the pages.
fn tiff(which: &[usize]) -> Vec<u8> {
    let page = |&index: &usize| {
        let (width, height, gray) = PAGES[index];
        let options = EncodeOptions {
            gray,
            ..EncodeOptions::new(Format::Tiff)
        };
        Page {
            options,
            width,
            height,
        }
    };
    let mut writer = Writer::of_pages(which.iter().map(page).collect()).expect("pages");
    for &index in which {
        let (width, height, gray) = PAGES[index];
        let count = width * height * if gray { 1 } else { 3 };
        let samples: Vec<u8> = (0..count)
            .map(|at| (at * 7 / width + at % 5 * 9).to_le_bytes()[0])
            .collect();
        writer.push_samples(&samples).expect("rows");
    }
    let Finished { head, tail } = writer.finish().expect("a file");
    [head, tail].concat()
}

fn upscale(folder: &Path, args: &[&str]) -> Output {
    let all = [
        &["upscale", "--model", "noise", "--tile", "32", "--json"],
        args,
    ]
    .concat();
    upres(folder, &all)
}

fn line(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// All samples of a page as the engine would see them.
fn seen(file: &[u8], page: u32) -> (u32, u32, bool, Vec<f32>) {
    let reader = Reader::open_page(Box::new(Cursor::new(file)), &Limits::default(), page);
    let mut reader = reader.expect("a page");
    let info = reader.info().clone();
    let mut values = vec![0.0; reader.row_bytes() * info.height as usize];
    reader.read_unit_rows(&mut values).expect("rows");
    (info.width, info.height, info.gray, values)
}

#[test]
fn every_page_becomes_what_it_would_become_alone() {
    let folder = workplace();
    let path = folder.path();
    let done = upscale(path, &["--sidecar", "book.tif", "-o", "large.tif"]);
    let done = line(&done);
    let large = fs::read(path.join("large.tif")).expect("the result");
    let count = page_count(Box::new(Cursor::new(&large)), &Limits::default());
    assert_eq!(count.expect("pages"), 3);
    let mut tiles = 0;
    for (index, (width, height, gray)) in PAGES.into_iter().enumerate() {
        fs::write(path.join("one.tif"), tiff(&[index])).expect("it is written");
        let alone = upscale(path, &["--overwrite", "one.tif", "-o", "alone.tif"]);
        let alone_tiles = line(&alone)["tiles"].clone();
        assert_eq!(done["pages"][index]["tiles"], alone_tiles);
        tiles += alone_tiles.as_u64().expect("a number");
        let alone = fs::read(path.join("alone.tif")).expect("the result");
        let page = u32::try_from(index).expect("few pages");
        let found = seen(&large, page);
        assert_eq!((found.0, found.1, found.2), (4 * width, 4 * height, gray));
        assert!(found == seen(&alone, 0), "page {page}");
    }
    assert_eq!(done["tiles"], json!(tiles));
    let record = fs::read(path.join("large.tif.upres.json")).expect("the record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["tiles"]["tiles"], json!(tiles));
    assert_eq!(record["pages"], done["pages"]);
    assert_eq!(record["pages"][1]["page"], 2);
}

#[test]
fn pages_are_chosen_and_one_page_fits_any_format() {
    let folder = workplace();
    let path = folder.path();
    let done = line(&upscale(
        path,
        &["--pages", "1,3", "book.tif", "-o", "two.tif"],
    ));
    let numbers = [&done["pages"][0]["page"], &done["pages"][1]["page"]];
    assert_eq!(numbers, [&json!(1), &json!(3)]);
    let two = fs::read(path.join("two.tif")).expect("the result");
    let count = page_count(Box::new(Cursor::new(&two)), &Limits::default());
    assert_eq!(count.expect("pages"), 2);
    let done = line(&upscale(
        path,
        &["--pages", "2", "book.tif", "-o", "one.png"],
    ));
    assert_eq!((&done["width"], &done["height"]), (&json!(64), &json!(200)));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_computed() {
    let folder = workplace();
    // A model that cannot be loaded is not noticed for what is refused.
    fs::remove_dir_all(folder.path().join("models/noise/vae")).expect("it was there");
    for (args, sentence) in [
        (
            &["-o", "a.png"][..],
            "png holds one picture, the file has 3 pages",
        ),
        (
            &["--pages", "single", "-o", "a.tif"],
            "where one was wanted",
        ),
        (&["--pages", "2-4", "-o", "a.tif"], "page 4 was asked for"),
    ] {
        let output = upscale(folder.path(), &[&["book.tif"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{sentence}");
        let refused = line(&output);
        assert_eq!(refused["error"]["type"], "input/unsupported");
        let detail = refused["error"]["detail"].as_str().expect("a sentence");
        assert!(detail.contains(sentence), "{detail}");
    }
}

#[test]
fn inspect_shows_every_page_and_what_all_cost() {
    let folder = workplace();
    let seen = line(&upres(
        folder.path(),
        &["inspect", "--json", "--check", "book.tif"],
    ));
    assert_eq!(seen["pages"], 3);
    assert_eq!(
        (&seen["width"], &seen["color"]),
        (&json!(40), &json!("rgb"))
    );
    assert_eq!(seen["each"][1]["color"], "gray");
    assert_eq!(seen["each"][1]["height"], 50);
    assert_eq!(seen["price"]["tiles"], 3);
    let chosen = ["inspect", "--json", "--pages", "2-3", "book.tif"];
    let seen = line(&upres(folder.path(), &chosen));
    assert_eq!((&seen["pages"], &seen["width"]), (&json!(3), &json!(16)));
    assert_eq!(seen["price"]["tile_steps"], 2);
}
