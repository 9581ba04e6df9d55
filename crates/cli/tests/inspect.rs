//! What `upres inspect` sees, without a model or a service.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use imaging::{EncodeOptions, Format, Pixels};
use serde_json::{Value, json};

fn inspect(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upres"));
    let command = command.current_dir(folder).arg("inspect").args(args);
    command.output().expect("the program starts")
}

fn values(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .expect("one JSON value a line")
}

fn picture(folder: &Path, name: &str, width: u32, height: u32, format: Format) {
    let samples = vec![90; (width * height) as usize];
    let options = EncodeOptions {
        gray: true,
        ..EncodeOptions::new(format)
    };
    let file = imaging::encode(&Pixels::gray(width, height, &samples), &options);
    fs::write(folder.join(name), file.expect("a file")).expect("it is written");
}

#[test]
fn files_are_described_and_priced_and_a_refusal_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    picture(folder.path(), "a.png", 300, 100, Format::Tiff);
    fs::write(folder.path().join("b.jpg"), "<html>").expect("it is written");
    picture(folder.path(), "c.webp", 5_000, 1, Format::WebP);
    let seen = inspect(
        folder.path(),
        &[
            "--json",
            "--check",
            "--timesteps",
            "250,50",
            "a.png",
            "b.jpg",
            "c.webp",
            "d.png",
        ],
    );
    assert_eq!(seen.status.code(), Some(1), "two were refused");
    let values = values(&seen);
    let [a, b, c, d] = &values[..] else {
        panic!("one line a file: {values:?}");
    };
    assert_eq!(
        (
            &a["format"],
            &a["width"],
            &a["height"],
            &a["color"],
            &a["bits_per_sample"],
            &a["stored"]["compression"],
            &a["pages"]
        ),
        (
            &json!("tiff"),
            &json!(300),
            &json!(100),
            &json!("gray"),
            &json!(8),
            &json!("deflate"),
            &json!(1)
        )
    );
    // 300 px in tiles of 128 px of which neighbours share 32, and one row of them.
    let price = json!({"timesteps": [250, 50], "tile": 128, "tiles": 3, "tile_steps": 6, "width": 1200, "height": 400});
    assert_eq!(a["price"], price);
    assert!(
        a["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("is tiff")),
        "{a}"
    );
    assert_eq!(b["error"]["type"], "input/unreadable");
    assert!(
        c["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("16383")),
        "{c}"
    );
    assert_eq!(d["error"]["type"], "input/not_found");
}

#[test]
fn damage_in_the_last_row_is_found_when_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    picture(folder.path(), "a.png", 64, 64, Format::Png);
    let path = folder.path().join("a.png");
    let file = fs::read(&path).expect("the file");
    fs::write(&path, &file[..file.len() - 14]).expect("it is written");
    assert_eq!(inspect(folder.path(), &["a.png"]).status.code(), Some(0));
    assert_eq!(
        inspect(folder.path(), &["--check", "a.png"]).status.code(),
        Some(1)
    );
}

#[test]
fn what_a_scan_says_is_shown() {
    let edge = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/edge");
    let edge = Path::new(edge);
    if !edge.is_dir() {
        println!("skipped: the shared test files are not here");
        return;
    }
    let seen = inspect(
        edge,
        &["--json", "meta_300dpi_gps_iptc_xmp.jpg", "rgb16.png"],
    );
    let values = values(&seen);
    assert_eq!(values[0]["dpi"], json!([300.0, 300.0]));
    assert_eq!(values[0]["metadata"], json!(["EXIF", "GPS", "XMP", "IPTC"]));
    assert_eq!(values[1]["dpi"], json!([300.0, 300.0]));
    assert_eq!(values[1]["bits_per_sample"], 16);
    let text = inspect(edge, &["meta_300dpi_gps_iptc_xmp.jpg"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("300 x 300 dpi, EXIF, GPS, XMP, IPTC"),
        "{text}"
    );
    assert!(
        text.contains("768x576 px, 4 tiles of 128 px, 4 tile-steps"),
        "{text}"
    );
}
