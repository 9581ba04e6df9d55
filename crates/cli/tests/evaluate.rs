//! `upres evaluate` as a person runs it, with an untrained model made here.

mod program;

use std::fs;

use imaging::{EncodeOptions, Format, Pixels};
use program::upres;
use serde_json::Value;

/// A folder with an untrained model, a picture of 130x67 px, one that is too small and a broken one.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let make = ["models", "random", "--size", "tiny", "-o", "models/noise"];
    assert!(upres(folder.path(), &make).status.success());
    let truth = folder.path().join("truth");
    fs::create_dir(&truth).expect("a folder");
    for (name, width, height) in [("a.png", 130, 67), ("small.png", 20, 90)] {
        let samples: Vec<u8> = (0u32..width * height)
            .map(|i| (i * 31 % 239).to_le_bytes()[0])
            .collect();
        let pixels = Pixels::gray(width, height, &samples);
        let file = imaging::encode(&pixels, &EncodeOptions::new(Format::Png)).expect("encodes");
        fs::write(truth.join(name), file).expect("writes");
    }
    fs::write(truth.join("broken.jpg"), "no picture").expect("writes");
    folder
}

#[test]
fn every_schedule_is_measured_beside_bicubic_and_a_bad_file_stops_nothing() {
    let folder = workplace();
    let flags = [
        "evaluate", "--truth", "truth", "--model", "noise", "--tile", "32", "--json",
    ];
    let more = ["--steps", "1", "--steps", "2", "--html", "page.html"];
    let output = upres(folder.path(), &[&flags[..], &more].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("20x90 px") && said.contains("broken.jpg"),
        "{said}"
    );
    assert!(said.contains("never trained"), "{said}");

    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let rows = report["rows"].as_array().expect("rows");
    let ways: Vec<&Value> = rows.iter().map(|row| &row["how"]).collect();
    let both = ["\"bicubic\"", "[200]", "[200,100]"].repeat(2);
    assert_eq!(
        ways.iter().map(ToString::to_string).collect::<Vec<_>>(),
        both
    );
    assert_eq!(report["means"].as_array().map(Vec::len), Some(6));
    assert_eq!(rows[0]["picture"], "a");
    assert!(rows[0]["psnr_y_db"].as_f64().is_some_and(|db| db > 5.0));
    assert_eq!(rows[0]["niqe"], Value::Null);

    let page = fs::read_to_string(folder.path().join("page.html")).expect("a page");
    assert_eq!(page.matches("data:image/jpeg").count(), 8);
}

#[test]
fn a_folder_without_pictures_or_an_unknown_model_is_wrong_usage() {
    let folder = workplace();
    for (flags, sentence) in [
        (
            ["--truth", "models", "--model", "noise"],
            "there is no jpeg",
        ),
        (
            ["--truth", "truth", "--model", "other"],
            "there is no model",
        ),
    ] {
        let output = upres(folder.path(), &[&["evaluate"], &flags[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}
