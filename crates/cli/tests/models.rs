//! `upres models` as a person runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn upres(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_upres"))
        .current_dir(folder)
        .args(args)
        .env_remove("UPRES_MODEL_DIR")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_random_model_is_verified_listed_and_its_damage_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let make = [
        "models",
        "random",
        "--size",
        "tiny",
        "--seed",
        "7",
        "-o",
        "models/mine",
    ];
    let made = upres(folder.path(), &make);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stderr).contains("untrained"));
    assert_eq!(
        upres(folder.path(), &make).status.code(),
        Some(2),
        "it is not made over"
    );

    let verified = upres(folder.path(), &["models", "verify", "models/mine"]);
    assert!(verified.status.success(), "{}", text(&verified.stderr));

    let listed = upres(folder.path(), &["models", "list", "--json"]);
    let models: Vec<Value> = text(&listed.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mine = models
        .iter()
        .find(|model| model["name"] == "mine")
        .expect("listed");
    assert_eq!(mine["trained"], false);
    assert_eq!(mine["digest"].as_str().map(str::len), Some(64));

    let config = folder.path().join("models/mine/unet/config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap() + " ").unwrap();
    fs::remove_file(folder.path().join("models/mine/vae/config.json")).unwrap();
    let verified = upres(
        folder.path(),
        &["models", "verify", "models/mine", "--json"],
    );
    assert_eq!(verified.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(report["changed"], serde_json::json!(["unet/config.json"]));
    assert_eq!(report["missing"], serde_json::json!(["vae/config.json"]));
}

#[test]
fn a_folder_without_a_manifest_cannot_be_verified() {
    let folder = tempfile::tempdir().unwrap();
    let verified = upres(folder.path(), &["models", "verify", "."]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(
        text(&verified.stderr).contains("upres-model.json"),
        "{}",
        text(&verified.stderr)
    );
}
