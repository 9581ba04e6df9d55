//! `upres models import` as a person runs it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../invsr/tests/base/mod.rs"]
mod base;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base::Inputs;
use serde_json::{Value, json};

/// The program in `folder`, with words parted by spaces.
fn upres(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_upres"))
        .current_dir(folder)
        .args(line.split(' '))
        .env_remove("UPRES_MODEL_DIR")
        .env_remove("UPRES_CONFIG")
        .output()
        .unwrap()
}

#[track_caller]
fn assert_says(output: &Output, code: i32, words: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for word in words {
        assert!(told.contains(word), "{told:?} does not say {word:?}");
    }
}

const IMPORT: &str = "models import --base base --noise-predictor noise_predictor/diffusion_pytorch_model.safetensors";

#[test]
fn an_imported_model_is_found_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    fs::write(inputs.base.join("LICENSE.md"), "be good").unwrap();
    let made = upres(
        folder.path(),
        &format!("{IMPORT} -o models/mine --licence ours"),
    );
    let steps = [
        "encoding the prompts",
        "noise_predictor",
        "vae",
        "unet",
        "licences: ours",
    ];
    assert_says(&made, 0, &steps);
    assert!(made.stdout.is_empty());
    assert_says(&upres(folder.path(), "models verify mine"), 0, &[]);
    assert!(
        folder
            .path()
            .join("models/mine/licences/base/LICENSE.md")
            .is_file()
    );

    let listed = upres(folder.path(), "models list --json");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let models = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mine = models
        .into_iter()
        .find(|model| model["name"] == "mine")
        .unwrap();
    assert_eq!(
        (&mine["trained"], &mine["licence"]),
        (&json!(true), &json!("ours"))
    );

    let manifest = folder.path().join("models/mine/upres-model.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    let source = manifest["source"].as_str().unwrap();
    assert!(source.starts_with("base base, noise predictor diffusion_pytorch_model.safetensors"));
    assert!(
        manifest["prompts"]["positive"]
            .as_str()
            .unwrap()
            .starts_with("Cinematic")
    );
    let again = upres(folder.path(), &format!("{IMPORT} -o models/mine"));
    assert_says(&again, 2, &["not empty"]);
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let missing = "models import --base nowhere --noise-predictor noise_predictor/config.json -o x";
    assert_says(
        &upres(folder.path(), missing),
        2,
        &["--base nowhere is not a folder"],
    );
    let no_predictor = "models import --base base --noise-predictor nowhere.pth -o x";
    assert_says(
        &upres(folder.path(), no_predictor),
        2,
        &["--noise-predictor nowhere.pth is not a file"],
    );
    let dtype = upres(folder.path(), &format!("{IMPORT} -o x --dtype f8"));
    assert_says(&dtype, 2, &["--dtype"]);
    inputs.set(
        "scheduler/scheduler_config.json",
        "prediction_type",
        json!("v_prediction"),
    );
    let refused = upres(folder.path(), &format!("{IMPORT} -o x"));
    assert_says(&refused, 1, &["predicts v", "SD-Turbo"]);
    assert!(!folder.path().join("x").exists());
}

#[test]
fn weights_that_would_be_read_unchecked_are_no_verified_model() {
    let folder = tempfile::tempdir().unwrap();
    Inputs::make(folder.path());
    let made = upres(folder.path(), &format!("{IMPORT} -o mine --dtype f16"));
    assert_says(&made, 0, &[]);
    // The engine prefers this name to the one that the manifest lists.
    let unlisted = folder
        .path()
        .join("mine/unet/diffusion_pytorch_model.safetensors");
    fs::write(unlisted, "other weights").unwrap();
    fs::write(folder.path().join("mine/README.md"), "no harm").unwrap();
    let verified = upres(folder.path(), "models verify mine --json");
    assert_says(&verified, 1, &["is not in the manifest"]);
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let expected = json!(["unet/diffusion_pytorch_model.safetensors"]);
    assert_eq!(report["unlisted"], expected);
}

#[test]
fn one_damaged_model_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let made = format!("models random --size tiny -o models/{name}");
        assert_says(&upres(folder.path(), &made), 0, &[]);
    }
    fs::write(folder.path().join("models/one/upres-model.json"), "{").unwrap();
    let listed = upres(folder.path(), "models list");
    assert_says(&listed, 1, &["one/upres-model.json"]);
    assert!(String::from_utf8(listed.stdout).unwrap().contains("two"));
}
