//! The program as a person runs it, with an untrained model made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imaging::{EncodeOptions, Format, Limits, Pixels};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A working folder with an untrained model in `models/`, where its name finds it.
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
    let made = upres(folder.path(), &make);
    assert!(made.status.success(), "{}", stderr(&made));
    folder
}

/// The program in `folder`, without the environment's settings.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upres"));
    command.current_dir(folder).args(args);
    for name in [
        "UPRES_MODEL_DIR",
        "UPRES_DEVICE",
        "UPRES_DTYPE",
        "UPRES_CONFIG",
        "UPRES_MEMORY_LIMIT",
    ] {
        command.env_remove(name);
    }
    command
}

fn upres(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().expect("the program starts")
}

/// `upres upscale` with small tiles of the untrained model.
fn upscale(folder: &Path, args: &[&str]) -> Output {
    upres(
        folder,
        &[&["upscale", "--model", "noise", "--tile", "32"], args].concat(),
    )
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// Writes a picture of 40x30 px.
fn picture(folder: &Path, name: &str) -> PathBuf {
    picture_of(folder, name, 40, 30)
}

fn picture_of(folder: &Path, name: &str, width: u32, height: u32) -> PathBuf {
    let rgb = (0..width * height * 3)
        .map(|i: u32| (i * 31 % 239).to_le_bytes()[0])
        .collect();
    let pixels = Pixels { width, height, rgb };
    let format = Format::from_extension(name.rsplit('.').next().unwrap_or_default());
    let options = EncodeOptions::new(format.unwrap_or(Format::Png));
    let path = folder.join(name);
    fs::write(&path, imaging::encode(&pixels, &options).expect("encodes")).expect("writes");
    path
}

fn size(path: &Path) -> (Format, u32, u32) {
    let bytes = fs::read(path).expect("a result");
    let decoded = imaging::decode(&bytes, &Limits::default()).expect("a whole result");
    let format = decoded.info.format.kept();
    (format, decoded.info.width, decoded.info.height)
}

#[test]
fn a_picture_becomes_four_times_as_large_and_the_same_bytes_every_time() {
    let folder = workplace();
    picture(folder.path(), "in.jpg");
    let first = upscale(folder.path(), &["in.jpg", "-o", "a.png", "--json", "-v"]);
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(size(&folder.path().join("a.png")), (Format::Png, 160, 120));
    assert!(
        stderr(&first).contains("was never trained"),
        "{}",
        stderr(&first)
    );
    assert!(
        stderr(&first).contains("unet"),
        "-v names the stages: {}",
        stderr(&first)
    );

    let line = &lines(&first)[0];
    assert_eq!(
        (&line["width"], &line["height"]),
        (&160.into(), &120.into())
    );
    assert_eq!(line["input"], "in.jpg");
    assert_eq!(line["format"], "png");
    assert!(line["tiles"].as_u64().unwrap() > 1);
    assert!(line["timings_ms"]["unet"].as_f64().unwrap() > 0.0);

    let batched = ["in.jpg", "-o", "b.png", "--tile-batch", "3", "--json"];
    let second = upscale(folder.path(), &batched);
    assert_eq!(line["sha256"], lines(&second)[0]["sha256"]);
    let bytes = |name| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(bytes("a.png"), bytes("b.png"));

    let other = upscale(folder.path(), &["in.jpg", "-o", "c.png", "--seed", "1"]);
    assert!(other.status.success());
    assert_ne!(bytes("a.png"), bytes("c.png"), "the seed picks the noise");
}

#[test]
fn a_smaller_overlap_needs_fewer_tiles_and_exact_is_half_a_tile() {
    let folder = workplace();
    picture_of(folder.path(), "in.png", 80, 30);
    let run = |out: &str, flags: &[&str]| {
        let args = [&["in.png", "-o", out, "--json"], flags].concat();
        let done = upscale(folder.path(), &args);
        assert!(done.status.success(), "{}", stderr(&done));
        let line = lines(&done).remove(0);
        (line["tiles"].as_u64().unwrap(), line["sha256"].clone())
    };
    let exact = run("a.png", &["--exact"]);
    assert_eq!(run("b.png", &["--overlap", "16"]), exact);
    let (tiles, sha256) = run("c.png", &["--overlap", "8"]);
    assert_eq!((tiles, exact.0), (3, 4));
    assert_ne!(sha256, exact.1);
}

#[test]
fn an_overlap_that_cannot_be_is_wrong_usage() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    for (flags, sentence) in [
        (
            &["--overlap", "33"][..],
            "an overlap of 33 px is refused: give an even number from 2 to 16",
        ),
        (&["--overlap", "7"], "an overlap of 7 px is refused"),
        (
            &["--overlap", "-2"],
            "invalid value '-2' for '--overlap <PX>'",
        ),
        (&["--overlap", "8", "--exact"], "cannot be used with"),
    ] {
        let refused = upscale(
            folder.path(),
            &[&["in.png", "-o", "out.png"], flags].concat(),
        );
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(sentence), "{}", stderr(&refused));
    }
    assert!(!folder.path().join("out.png").exists());
}

#[test]
fn guidance_changes_the_picture_and_below_one_it_is_wrong_usage() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    let run = |scale: &str| {
        let flags = [
            "in.png",
            "-o",
            "out.png",
            "--overwrite",
            "--guidance",
            scale,
        ];
        let done = upscale(folder.path(), &flags);
        (
            done.status.code(),
            fs::read(folder.path().join("out.png")).ok(),
            done,
        )
    };
    let (refused, none, done) = run("0.5");
    assert_eq!((refused, none), (Some(2), None), "{}", stderr(&done));
    assert!(
        stderr(&done).contains("use 1 for none"),
        "{}",
        stderr(&done)
    );
    let (plain, guided) = (run("1").1, run("3").1);
    assert!(plain.is_some() && guided.is_some());
    assert_ne!(plain, guided);
}

#[test]
fn one_bad_file_does_not_stop_the_others() {
    let folder = workplace();
    let input = folder.path().join("in");
    fs::create_dir(&input).unwrap();
    picture(&input, "a.tif");
    fs::write(input.join("b.png"), "<html>not found</html>").unwrap();
    picture(&input, "c.webp");
    fs::write(input.join("notes.txt"), "notes").unwrap();

    let run = upscale(folder.path(), &["in", "-o", "out", "--json"]);
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    assert!(stderr(&run).contains("b.png: not an image that can be read: it is a web page"));
    assert!(stderr(&run).contains("2 of 3 pictures upscaled"));
    assert_eq!(
        size(&folder.path().join("out/a.tif")),
        (Format::Tiff, 160, 120)
    );
    assert_eq!(
        size(&folder.path().join("out/c.webp")),
        (Format::WebP, 160, 120)
    );
    let lines = lines(&run);
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["error"]["type"], "input/unreadable");
    assert_eq!(
        fs::read_dir(folder.path().join("out")).unwrap().count(),
        2,
        "no stray file"
    );
}

#[test]
fn nothing_is_overwritten_unless_asked() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    fs::write(folder.path().join("out.png"), "precious").unwrap();
    let refused = upscale(folder.path(), &["in.png", "-o", "out.png"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("--overwrite"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(
        fs::read(folder.path().join("out.png")).unwrap(),
        b"precious"
    );
    let forced = upscale(folder.path(), &["in.png", "-o", "out.png", "--overwrite"]);
    assert!(forced.status.success(), "{}", stderr(&forced));
    assert_eq!(size(&folder.path().join("out.png")).1, 160);

    let before = fs::read(folder.path().join("in.png")).unwrap();
    let onto_itself = upscale(folder.path(), &["in.png", "-o", "./in.png", "--overwrite"]);
    assert_eq!(onto_itself.status.code(), Some(2));
    assert_eq!(fs::read(folder.path().join("in.png")).unwrap(), before);
}

#[test]
fn wrong_usage_is_status_2_with_a_sentence() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    let cases: [(&[&str], &str); 8] = [
        (
            &["in.png", "-o", "o.png", "--timesteps", "50,250"],
            "250 follows 50",
        ),
        (
            &["in.png", "-o", "o.png", "--timesteps", "1001"],
            "1001 is outside",
        ),
        (
            &["in.png", "-o", "o.png", "--steps", "9"],
            "steps must be 1 to 5",
        ),
        (
            &[
                "in.png",
                "-o",
                "o.png",
                "--steps",
                "2",
                "--timesteps",
                "200",
            ],
            "cannot be used with",
        ),
        (&["in.png", "-o", "o.gif"], "not written as"),
        (
            &["in.png", "-o", "o.png", "--device", "gpu"],
            "use cpu or cuda:N",
        ),
        (
            &["in.png", "-o", "o.png", "--dtype", "bf16"],
            "the CPU computes in f32 only",
        ),
        (&["in.png", "in.png", "-o", "out"], "would both become"),
    ];
    for (args, word) in cases {
        let run = upscale(folder.path(), args);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", stderr(&run));
        assert!(stderr(&run).contains(word), "{args:?}: {}", stderr(&run));
    }
    let unknown = upres(
        folder.path(),
        &["upscale", "in.png", "-o", "o.png", "--model", "nope"],
    );
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
    assert!(!folder.path().join("o.png").exists());
}

#[test]
fn little_memory_changes_no_byte_and_too_little_is_refused_in_a_sentence() {
    let folder = workplace();
    picture_of(folder.path(), "in.png", 80, 60);
    let with = |out: &str, limit: &str| {
        let flags = ["--tile-batch", "9", "--memory-limit", limit, "--json"];
        upscale(
            folder.path(),
            &[&["in.png", "-o", out], &flags[..]].concat(),
        )
    };
    let (all, little) = (with("all.tif", "none"), with("little.tif", "150MiB"));
    for run in [&all, &little] {
        assert!(run.status.success(), "{}", stderr(run));
    }
    assert_eq!(lines(&all)[0]["sha256"], lines(&little)[0]["sha256"]);

    let refused = with("refused.tif", "64MiB");
    assert_eq!(refused.status.code(), Some(1));
    let error = &lines(&refused)[0]["error"];
    assert_eq!(error["type"], "capacity/out_of_memory");
    let detail = error["detail"].as_str().unwrap();
    assert!(
        detail.contains("over the limit of 64 MiB: raise --memory-limit"),
        "{detail}"
    );
    assert!(!folder.path().join("refused.tif").exists());

    let no_model = with("refused.tif", "100KiB");
    assert_eq!(no_model.status.code(), Some(2));
    let told = stderr(&no_model);
    assert!(told.contains("the model's weights take"), "{told}");

    let misspelt = with("misspelt.tif", "much");
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(
        stderr(&misspelt).contains("write 6GiB"),
        "{}",
        stderr(&misspelt)
    );
}

#[test]
fn an_output_that_cannot_be_written_is_known_before_the_model_is_loaded() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    fs::write(folder.path().join("notes.txt"), "notes").unwrap();
    let run = upscale(folder.path(), &["in.png", "-o", "notes.txt/o.png"]);
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    let said = stderr(&run);
    assert!(said.contains("notes.txt/o.png cannot be written"), "{said}");
    assert!(
        !said.contains("never trained") && !said.contains(".part"),
        "{said}"
    );
}

#[test]
fn an_untrained_start_is_a_warning() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    let run = upscale(
        folder.path(),
        &["in.png", "-o", "o.png", "--timesteps", "237,61"],
    );
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(
        stderr(&run).contains("the first timestep is 237"),
        "{}",
        stderr(&run)
    );
}

#[test]
fn the_stage_tensors_are_dumped_and_change_nothing() {
    let folder = workplace();
    picture(folder.path(), "in.png");
    let plain = upscale(folder.path(), &["in.png", "-o", "plain.png"]);
    let dumped = upscale(
        folder.path(),
        &["in.png", "-o", "dumped.png", "--dump", "stages"],
    );
    assert!(
        plain.status.success() && dumped.status.success(),
        "{}",
        stderr(&dumped)
    );
    assert!(folder.path().join("stages/noise_mean.npy").is_file());
    let bytes = |name| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(bytes("plain.png"), bytes("dumped.png"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_or_sigterm_stops_at_the_next_tile_and_leaves_nothing() {
    use std::io::Read;
    use std::process::Stdio;

    for signal in ["-INT", "-TERM"] {
        let folder = workplace();
        let rgb = vec![90; 480 * 480 * 3];
        let large = Pixels {
            width: 480,
            height: 480,
            rgb,
        };
        let file = imaging::encode(&large, &EncodeOptions::new(Format::Png)).unwrap();
        fs::write(folder.path().join("in.png"), file).unwrap();
        let args = [
            "upscale",
            "in.png",
            "-o",
            "o/out.png",
            "--tile",
            "32",
            "--model",
            "noise",
        ];
        let mut running = command(folder.path(), &args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // The warning about the model is said when the work begins.
        let mut heard = String::new();
        let mut errors = running.stderr.take().expect("piped");
        while !heard.contains("never trained") {
            let mut byte = [0];
            assert_eq!(errors.read(&mut byte).unwrap(), 1, "ended early: {heard}");
            heard.push(char::from(byte[0]));
        }
        let id = running.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .expect("kill runs")
                .success()
        );
        assert_eq!(running.wait().unwrap().code(), Some(130));
        assert!(!folder.path().join("o").exists());
    }
}

#[test]
fn a_record_lies_beside_a_result_when_that_is_asked_for() {
    let folder = workplace();
    let input = picture(folder.path(), "in.png");
    let digest = |path: &Path| hex::encode(Sha256::digest(fs::read(path).unwrap()));
    let plain = upscale(folder.path(), &["in.png", "-o", "plain.png"]);
    assert!(plain.status.success(), "{}", stderr(&plain));
    let output = folder.path().join("out.png");
    let record = folder.path().join("out.png.upres.json");
    let args = ["in.png", "-o", "out.png", "--sidecar", "--seed", "7"];
    let done = upscale(folder.path(), &args);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(!folder.path().join("plain.png.upres.json").exists());

    let value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert_eq!(value["input"]["sha256"], digest(&input));
    assert_eq!(value["output"]["sha256"], digest(&output));
    assert_eq!(value["output"]["width"], 160);
    assert_eq!(value["settings"]["seed"], 7);
    assert_eq!(value["engine"]["device"], "cpu");
    assert_eq!(value["tiles"]["side_px"], 32);
    assert!(value.get("job").is_none(), "{value}");

    // A record that is there is a result that is there.
    fs::remove_file(&output).unwrap();
    let again = upscale(folder.path(), &args);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    assert!(!output.exists(), "nothing is made that cannot be recorded");
}

#[test]
fn the_result_says_what_was_done_to_it() {
    let folder = workplace();
    picture(folder.path(), "in.jpg");
    for name in ["a.tif", "b.webp"] {
        let done = upscale(folder.path(), &["in.jpg", "-o", name, "--seed", "7"]);
        assert!(done.status.success(), "{}", stderr(&done));
        let file = fs::read(folder.path().join(name)).unwrap();
        let text = String::from_utf8_lossy(&file);
        for said in [imaging::COMPOSITE, "<upres:Seed>7<", "<upres:TilePx>32<"] {
            assert!(text.contains(said), "{said} in {name}");
        }
    }
}
