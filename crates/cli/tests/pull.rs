//! `upres models pull` against a hub on this machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../invsr/tests/base/mod.rs"]
mod base;
mod hub;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use hub::scene::{BASE, PART, PREDICTOR, RELEASED, Scene, UNET, assert_done, assert_failed, text};
use hub::{COMMIT, Cut, Request};
use serde_json::Value;

/// Where the base model has weights, and what their files are called.
const NETWORKS: [(&str, &str); 3] = [
    ("text_encoder", "model"),
    ("vae", "diffusion_pytorch_model"),
    ("unet", "diffusion_pytorch_model"),
];

fn manifest(model: &Path) -> Value {
    serde_json::from_slice(&fs::read(model.join("upres-model.json")).unwrap()).unwrap()
}

#[test]
fn what_is_pulled_is_what_would_have_been_imported() {
    let scene = Scene::set();
    let pulled = scene.pull();
    assert_done(&pulled);
    let told = text(&pulled.stderr);
    assert!(told.contains("Stability AI Community License"), "{told}");
    assert!(
        told.contains("S-Lab License 1.0") && told.contains("non-commercial"),
        "{told}"
    );

    let mut import = scene.command(&["import", "-o", "imported"]);
    import.arg("--base").arg(&scene.inputs.base);
    import.arg("--noise-predictor").arg(&scene.predictor);
    import.arg("--noise-predictor-config").arg(scene.config());
    assert_done(&import.output().unwrap());

    let [pulled, imported] = ["pulled", "imported"].map(|name| manifest(&scene.path(name)));
    let mut files = pulled["files"].as_object().unwrap().clone();
    assert!(files.remove("licences/noise_predictor/LICENSE").is_some());
    assert_eq!(Value::from(files), imported["files"]);
    assert_eq!(pulled["name"], "pulled");
    let source = format!("{BASE}@{COMMIT} and {PREDICTOR}@{COMMIT}");
    assert_eq!(pulled["source"], source.as_str());
    let licence = format!("{BASE}: Stability AI Community License; {PREDICTOR}: S-Lab License 1.0");
    assert_eq!(pulled["licence"], licence.as_str());
    assert!(!scene.path("pulled.pull").exists());
    assert_done(&scene.command(&["verify", "pulled"]).output().unwrap());

    // One commit: the branch may have moved between two files.
    let state = scene.hub.state();
    let own = state.requests.iter().filter(|request| !request.to_network);
    let of_branch: Vec<&str> = own
        .map(|request| request.path.as_str())
        .filter(|path| path.contains("/main/") && !path.starts_with("/turn"))
        .collect();
    let expected = [
        format!("/{PREDICTOR}/resolve/main/{RELEASED}"),
        format!("/{BASE}/resolve/main/model_index.json"),
    ];
    for path in of_branch {
        assert!(expected.iter().any(|first| first == path), "{path}");
    }
}

#[test]
fn nothing_is_fetched_before_the_licences_are_accepted() {
    let scene = Scene::set();
    let refused = scene.command(&["pull", "-o", "pulled"]).output().unwrap();
    assert_failed(&refused, 2, &["S-Lab", "Stability AI", "--accept-licences"]);
    assert!(scene.hub.state().requests.is_empty());

    fs::create_dir(scene.path("pulled")).unwrap();
    fs::write(scene.path("pulled/mine"), "mine").unwrap();
    assert_failed(&scene.pull(), 2, &["not empty"]);
    assert!(scene.hub.state().requests.is_empty());
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    let scene = Scene::set();
    scene.cut(Cut::Drop(100_000));
    assert_done(&scene.pull());
    let transfers = scene.transfers(UNET);
    assert_eq!(transfers.len(), 2);
    assert_eq!(transfers[0].header("range"), None);
    let range = transfers[1].header("range").unwrap();
    let from: usize = range
        .strip_prefix("bytes=")
        .unwrap()
        .strip_suffix('-')
        .unwrap()
        .parse()
        .unwrap();
    assert!(from > 0 && from <= 100_000, "{range}");
    assert!(
        transfers[1]
            .header("if-range")
            .unwrap()
            .starts_with("\"network-")
    );
    assert_done(&scene.command(&["verify", "pulled"]).output().unwrap());
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole_again() {
    let scene = Scene::set();
    {
        let mut state = scene.hub.state();
        state.ignores_ranges = true;
        state.cuts.insert(UNET.to_owned(), Cut::Drop(100_000));
    }
    assert_done(&scene.pull());
    assert_eq!(scene.transfers(UNET).len(), 2);
    assert_done(&scene.command(&["verify", "pulled"]).output().unwrap());
}

#[test]
fn a_killed_run_is_gone_on_with_and_whole_files_are_not_fetched_again() {
    let scene = Scene::set();
    scene.cut(Cut::Hold(100_000));
    scene.pull_until_it_is_killed();
    assert!(!scene.path("pulled").exists());
    let part = scene.path(PART);
    let kept = fs::metadata(&part).unwrap().len();
    assert!(kept > 0 && kept <= 100_000);
    assert_done(&scene.pull());
    let transfers = scene.transfers(UNET);
    assert_eq!(
        transfers[1].header("range"),
        Some(format!("bytes={kept}-").as_str())
    );
    assert_eq!(transfers.len(), 2);
    let predictor = format!("{PREDICTOR}/{RELEASED}");
    assert_eq!(scene.transfers(&predictor).len(), 1);
}

#[test]
fn a_part_of_other_bytes_is_not_gone_on_with() {
    // Damaged on the disk: shows in the digest, and the file is fetched whole.
    let scene = Scene::set();
    scene.cut(Cut::Hold(100_000));
    scene.pull_until_it_is_killed();
    let part = scene.path(PART);
    let kept = fs::metadata(&part).unwrap().len();
    fs::write(&part, vec![7; usize::try_from(kept).unwrap()]).unwrap();
    assert_done(&scene.pull());
    assert_eq!(scene.transfers(UNET).len(), 3);
    assert_done(&scene.command(&["verify", "pulled"]).output().unwrap());

    // Changed on the hub: shows in the hub's digest, and nothing is asked of the old one.
    let scene = Scene::set();
    scene.cut(Cut::Hold(100_000));
    scene.pull_until_it_is_killed();
    let mut changed = scene.hub.content(UNET);
    let last = changed.len() - 1;
    changed[last] ^= 1;
    scene.hub.replace(UNET, changed);
    assert_done(&scene.pull());
    let transfers = scene.transfers(UNET);
    assert_eq!(transfers.len(), 2);
    assert_eq!(transfers[1].header("range"), None);
}

#[test]
fn bytes_with_another_digest_are_refused_and_deleted() {
    let scene = Scene::set();
    let mut forged = scene.hub.content(UNET);
    forged[100_000] ^= 1;
    scene.hub.state().forged.insert(UNET.to_owned(), forged);
    assert_failed(
        &scene.pull(),
        1,
        &["SHA-256", "diffusion_pytorch_model.safetensors"],
    );
    assert!(!scene.path("pulled").exists());
    let unet = scene.path("pulled.pull/base/unet");
    let left: Vec<_> = unet
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let weights = left
        .iter()
        .filter(|path| text(path.as_os_str().as_encoded_bytes()).contains("diffusion"));
    for path in weights {
        assert_eq!(path.extension().unwrap(), "json", "{left:?}");
    }
    scene.hub.state().forged.clear();
    assert_done(&scene.pull());
}

#[test]
fn small_files_are_what_the_hub_has_too() {
    let scene = Scene::set();
    let merges = format!("{BASE}/tokenizer/merges.txt");
    let mut forged = scene.hub.content(&merges);
    forged[30] ^= 1;
    scene.hub.state().forged.insert(merges, forged);
    assert_failed(&scene.pull(), 1, &["Git's SHA-1", "merges.txt"]);
    scene.hub.state().forged.clear();
    assert_done(&scene.pull());
}

#[test]
fn what_another_run_fetched_is_not_imported() {
    const OTHER: &str = "other/base";
    let scene = Scene::set();
    for (network, stem) in NETWORKS {
        let file = scene
            .inputs
            .base
            .join(network)
            .join(format!("{stem}.safetensors"));
        base::rewrite(&file, &format!("{stem}.fp16.safetensors"), base::halve);
    }
    fs::remove_file(scene.inputs.base.join("LICENSE.md")).unwrap();
    scene.hub.publish(OTHER, &scene.inputs.base);
    let mut first = scene.pull_command();
    first.arg("--keep-downloads");
    assert_done(&first.output().unwrap());
    fs::remove_dir_all(scene.path("pulled")).unwrap();

    let pull = |output: &str| {
        let mut pull =
            scene.command(&["pull", "-o", output, "--accept-licences", "--dtype", "f16"]);
        pull.args(["--base-repo", OTHER]);
        pull.arg("--noise-predictor-config").arg(scene.config());
        assert_done(&pull.output().unwrap());
        manifest(&scene.path(output))
    };
    let [after, alone] = ["pulled", "fresh"].map(pull);
    assert_eq!(after["files"], alone["files"]);
    assert_eq!(after["files"]["licences/base/LICENSE.md"], Value::Null);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let scene = Scene::set();
    scene.hub.state().token = Some("hf_secret".to_owned());
    let page = format!("{}/{PREDICTOR}", scene.hub.url);
    assert_failed(
        &scene.pull(),
        1,
        &[&page, "401", "HF_TOKEN", "accept the model's terms"],
    );
    let pulled = scene
        .pull_command()
        .env("HF_TOKEN", "hf_secret")
        .output()
        .unwrap();
    assert_done(&pulled);
    assert!(!text(&pulled.stderr).contains("hf_secret"));
    let state = scene.hub.state();
    let (network, own): (Vec<_>, Vec<_>) = state
        .requests
        .iter()
        .partition(|request| request.to_network);
    assert!(network.len() >= 4);
    for request in network {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
    }
    let with = |request: &&&Request| request.header("authorization") == Some("Bearer hf_secret");
    assert_eq!(own.iter().filter(with).count(), own.len() - 1);
}

#[test]
fn what_the_hub_does_not_have_is_named() {
    let scene = Scene::set();
    let mut pull = scene.pull_command();
    pull.args(["--base-repo", "someone/else@v2"]);
    assert_failed(
        &pull.output().unwrap(),
        1,
        &[
            "someone/else",
            "its licence is not known here",
            "model_index.json",
            "v2",
        ],
    );
    scene.hub.state().circular = true;
    assert_failed(&scene.pull(), 1, &["leads in circles"]);
    let mut wrong = scene.pull_command();
    wrong.args(["--noise-predictor-repo", "nobody"]);
    assert_failed(&wrong.output().unwrap(), 2, &["OWNER/NAME"]);
}

#[test]
fn an_interrupted_run_says_what_it_keeps() {
    let scene = Scene::set();
    scene.cut(Cut::Hold(100_000));
    let run = scene.pull_command().stderr(Stdio::piped()).spawn().unwrap();
    scene.hub.wait_until_it_holds();
    let interrupt = Command::new("kill")
        .args(["-INT", &run.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    assert_failed(
        &run.wait_with_output().unwrap(),
        130,
        &["pulled.pull", "goes on"],
    );
}

#[test]
fn a_hub_that_stays_busy_is_given_up() {
    let scene = Scene::set();
    scene.hub.state().busy = usize::MAX;
    assert_failed(&scene.pull(), 1, &["503", "try later"]);
}

#[test]
fn a_busy_hub_is_asked_again() {
    let scene = Scene::set();
    scene.hub.state().busy = 1;
    assert_done(&scene.pull());
    let predictor = format!("/{PREDICTOR}/resolve/main/{RELEASED}");
    let state = scene.hub.state();
    let asked = state
        .requests
        .iter()
        .filter(|request| request.method == "HEAD");
    assert_eq!(asked.filter(|request| request.path == predictor).count(), 2);
}

#[test]
fn half_precision_is_fetched_for_a_model_in_half_precision() {
    let scene = Scene::set();
    let mut pull = scene.pull_command();
    pull.args(["--dtype", "f16"]);
    assert_failed(&pull.output().unwrap(), 1, &["model.fp16.safetensors"]);
    for (network, stem) in NETWORKS {
        let file = scene
            .inputs
            .base
            .join(network)
            .join(format!("{stem}.safetensors"));
        base::rewrite(&file, &format!("{stem}.fp16.safetensors"), base::halve);
    }
    scene.hub.publish(BASE, &scene.inputs.base);
    assert_done(&pull.output().unwrap());
    assert_eq!(scene.transfers(UNET).len(), 0);
    let files = &manifest(&scene.path("pulled"))["files"];
    for network in ["noise_predictor", "vae", "unet"] {
        let name = format!("{network}/diffusion_pytorch_model.fp16.safetensors");
        assert!(files[&name].is_string(), "{files}");
    }
}
