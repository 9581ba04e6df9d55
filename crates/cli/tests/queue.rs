//! What `upres submit`, `jobs` and `keys` refuse by themselves: no coordinator is there to be asked.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use imaging::{EncodeOptions, Format, Pixels};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pixels = Pixels::gray(2, 2, &[1, 2, 3, 4]);
    for (name, format) in [("in.png", Format::Png), ("in.jpg", Format::Jpeg)] {
        let bytes = imaging::encode(&pixels, &EncodeOptions::new(format)).expect("encodes");
        fs::write(folder.path().join(name), bytes).expect("writes");
    }
    folder
}

/// The program in `folder`, without settings.
fn upres(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upres"));
    command.current_dir(folder).args(args);
    for name in ["UPRES_CONFIG", "UPRES_API_URL", "UPRES_API_KEY"] {
        command.env_remove(name);
    }
    command.output().expect("the program starts")
}

fn with_key(folder: &Path, args: &[&str]) -> Output {
    let access = ["--api-url", NOWHERE, "--api-key", "upres_k"];
    upres(folder, &[args, &access].concat())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_picture_is_never_replaced_by_its_own_result() {
    let folder = workplace();
    let path = |name: &str| folder.path().join(name);
    let before = fs::read(path("in.png")).unwrap();
    fs::hard_link(path("in.png"), path("hard.png")).unwrap();
    let mut names = vec!["in.png", "./in.png", "hard.png"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("in.png", path("soft.png")).unwrap();
        names.push("soft.png");
    }
    for output in names {
        let args = ["submit", "in.png", "-o", output, "--overwrite"];
        let run = with_key(folder.path(), &args);
        assert_eq!(run.status.code(), Some(2), "{output}: {}", stderr(&run));
        let said = stderr(&run);
        assert!(said.contains("never written onto its source"), "{said}");
    }
    assert_eq!(fs::read(path("in.png")).unwrap(), before);
}

#[test]
fn wrong_usage_is_status_2_with_a_sentence() {
    let folder = workplace();
    let cases: [(&[&str], &str); 15] = [
        (&["submit", "s3://upres/a"], "say where the result goes"),
        (
            &["submit", "s3://upres/a", "--output", "upres/b"],
            "write s3://bucket/key",
        ),
        (
            &["submit", "s3://upres/a", "--output", "s3://upres/a"],
            "the output is the input",
        ),
        (
            &["submit", "in.jpg", "-o", "x.png", "--format", "jpeg"],
            "named like png but would be jpeg",
        ),
        (&["submit", "in.jpg", "-o", "x.gif"], "not written as"),
        (
            &["submit", "in.jpg", "--timesteps", "-5"],
            "`-5` is not a timestep",
        ),
        (
            &["submit", "in.jpg", "--timesteps", ""],
            "the list is empty",
        ),
        (&["submit", "in.jpg", "--tile", "100"], "multiple of 16"),
        (&["submit", "in.jpg", "--priority", "101"], "101 is not in"),
        (
            &["keys", "create", "--scope", "bogus"],
            "possible values: submit, read",
        ),
        (
            &["keys", "create", "--scope", "read", "--read", "http://x"],
            "write `*` or s3://bucket/prefix",
        ),
        (
            &["jobs", "list", "--state", "bogus"],
            "possible values: scheduled, queued",
        ),
        (&["jobs", "list", "--limit", "0"], "at least 1"),
        (&["jobs", "list", "--limit", "-1"], "at least 1"),
        (&["jobs", "list", "--label", "box"], "write name=value"),
    ];
    for (args, word) in cases {
        let run = with_key(folder.path(), args);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", stderr(&run));
        assert!(stderr(&run).contains(word), "{args:?}: {}", stderr(&run));
    }
}

#[test]
fn wrong_configuration_is_status_2_and_a_coordinator_that_is_away_1() {
    let folder = workplace();
    for args in [&["jobs", "list"][..], &["jobs", "list", "--api-key", ""]] {
        let run = upres(folder.path(), args);
        assert_eq!(run.status.code(), Some(2));
        assert!(stderr(&run).contains("no API key"), "{}", stderr(&run));
    }
    for address in ["foo", "localhost:8080", "ftp://there"] {
        let args = ["jobs", "list", "--api-key", "k", "--api-url", address];
        let run = upres(folder.path(), &args);
        assert_eq!(run.status.code(), Some(2), "{address}: {}", stderr(&run));
        let said = stderr(&run);
        assert!(said.contains("not a URL: write http://"), "{said}");
    }
    let away = with_key(folder.path(), &["jobs", "list"]);
    assert_eq!(away.status.code(), Some(1), "{}", stderr(&away));
}

#[test]
fn an_output_that_cannot_be_written_is_known_before_anything_is_sent() {
    let folder = workplace();
    fs::write(folder.path().join("notes.txt"), "notes").unwrap();
    let args = ["submit", "in.png", "-o", "notes.txt/x.png"];
    let run = with_key(folder.path(), &args);
    let said = stderr(&run);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("notes.txt/x.png cannot be written"), "{said}");
    let run = with_key(folder.path(), &["submit", "in.png", "-o", "in.jpg"]);
    assert!(
        !stderr(&run).contains("does not answer"),
        "{}",
        stderr(&run)
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn the_help_shows_no_key() {
    let folder = workplace();
    fs::create_dir(folder.path().join(".upres")).unwrap();
    let file = "api_key = 'upres_1_secret'\napi_url = 'http://there:1'\n";
    for path in [".upres/upres.toml", "upres.toml"] {
        fs::write(folder.path().join(path), file).unwrap();
        for args in [
            &["jobs", "list", "--help"][..],
            &["jobs", "get", "-h"],
            &["submit", "--help"],
            &["keys", "create", "--help"],
            &["help", "submit"],
        ] {
            let help = upres(folder.path(), args);
            let help = String::from_utf8_lossy(&help.stdout).into_owned();
            assert!(help.contains("http://there:1"), "{args:?}: {help}");
            assert!(!help.contains("secret"), "{args:?}: {help}");
        }
    }
}
