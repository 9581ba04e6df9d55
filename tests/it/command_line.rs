//! The programs as a person meets them: what `upres submit` leaves on the disk, what a check says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::Context;
use journey_tests::{World, photo, program_path};

/// A submission that runs; its words are read from standard error as they come.
struct Submission {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Submission {
    /// Starts `upres submit` in `folder` and waits until the job was taken.
    fn start(world: &World, folder: &Path, args: &[&str]) -> anyhow::Result<(Self, String)> {
        let mut child = submit(world, folder, args)?
            .stderr(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("a pipe")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        let (id, state) = line.trim().split_once(' ').with_context(|| line.clone())?;
        assert_eq!(state, "queued");
        let id = id.to_owned();
        Ok((Self { child, said }, id))
    }

    fn end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest)?;
        Ok((self.child.wait()?, rest))
    }
}

fn submit(world: &World, folder: &Path, args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(program_path("upres")?);
    let access = ["--api-url", world.url(0), "--api-key", &world.key];
    command
        .arg("submit")
        .args(args)
        .args(access)
        .current_dir(folder);
    Ok(command)
}

/// A folder with nothing but `photo.jpg`.
fn workplace(world: &World) -> anyhow::Result<PathBuf> {
    let folder = world.folder().join("work");
    fs::create_dir_all(&folder)?;
    image::load_from_memory(&photo(24, 16))?.save(folder.join("photo.jpg"))?;
    Ok(folder)
}

fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_of_the_format_its_name_says() -> anyhow::Result<()> {
    let mut world = World::plain("named").await?;
    let folder = workplace(&world)?;
    let _worker = world.start_fake_worker_default().await?;
    let done = submit(&world, &folder, &["photo.jpg", "-o", "new/x4.png"])?.output()?;
    assert!(done.status.success(), "{}", stderr(&done));
    let bytes = fs::read(folder.join("new/x4.png"))?;
    assert_eq!(image::guess_format(&bytes)?, image::ImageFormat::Png);
    assert_eq!(names(&folder.join("new"))?, ["x4.png"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_appears_while_the_job_runs_is_replaced_only_when_asked() -> anyhow::Result<()>
{
    let mut world = World::plain("appears").await?;
    let folder = workplace(&world)?;
    let output = folder.join("x4.png");
    let more = ["--timesteps", "250,150,50"];
    let keep = [&["photo.jpg", "-o", "x4.png"], &more[..]].concat();
    let replace = [&keep[..], &["--overwrite"]].concat();
    let (kept, id) = Submission::start(&world, &folder, &keep)?;
    fs::write(&output, "mine")?;
    let worker = world.start_fake_worker_default().await?;
    let (status, said) = kept.end()?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("x4.png exists") && said.contains("s3://"),
        "{said}"
    );
    assert_eq!(fs::read(&output)?, b"mine");
    world.succeeds(&id).await?;

    drop(worker);
    let early = submit(&world, &folder, &keep)?.output()?;
    assert_eq!(early.status.code(), Some(1), "{}", stderr(&early));
    assert!(stderr(&early).contains("exists"), "{}", stderr(&early));
    let _worker = world.start_fake_worker_default().await?;
    let done = submit(&world, &folder, &replace)?.output()?;
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(image::open(&output)?.width(), 96);
    assert_eq!(names(&folder)?, ["photo.jpg", "x4.png"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_submission_names_the_job_that_goes_on() -> anyhow::Result<()> {
    let world = World::plain("interrupted").await?;
    let folder = workplace(&world)?;
    let (waiting, id) = Submission::start(&world, &folder, &["photo.jpg", "--wait"])?;
    let pid = waiting.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()?
            .success()
    );
    let (status, said) = waiting.end()?;
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains(&format!("upres jobs cancel {id}")), "{said}");
    assert_eq!(world.job(&id).await?["state"], "queued");
    Ok(())
}

/// A program without any settings but those in `folder` and `variables`.
fn run(
    program: &str,
    folder: &Path,
    args: &[&str],
    variables: &[(&str, &str)],
) -> anyhow::Result<Output> {
    let mut command = Command::new(program_path(program)?);
    command.args(args).current_dir(folder).env_clear();
    Ok(command.envs(variables.iter().copied()).output()?)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn settings(story: &str, file: &str) -> anyhow::Result<PathBuf> {
    let folder = journey_tests::story_folder(story)?;
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("upres.toml"), file)?;
    Ok(folder)
}

#[test]
fn the_help_shows_no_password() -> anyhow::Result<()> {
    let folder = settings(
        "help",
        "database_url = 'postgres://upres:secret@db/upres'\n\
         amqp_url = 'amqp://upres:secret@broker'\n\
         api_key = 'upres_1_secret'\ns3_region = 'moon-1'\n",
    )?;
    for (program, commands) in [
        (
            "upres-coordinator",
            &["serve", "migrate", "janitor", "check-config"][..],
        ),
        ("upres-worker", &["run", "check-config"]),
        ("upres", &["submit"]),
    ] {
        for command in commands {
            for flag in ["-h", "--help"] {
                let help = run(program, &folder, &[command, flag], &[])?;
                let help = String::from_utf8(help.stdout)?;
                assert!(help.contains("Usage:"), "{program} {command}");
                assert!(!help.contains("secret"), "{program} {command}: {help}");
                let region = command.contains("check");
                assert!(!region || help.contains("moon-1"), "{help}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_check_names_every_problem_at_once() -> anyhow::Result<()> {
    let folder = settings(
        "check",
        "s3_endpoint = 'nowhere'\n[coordinator]\nreap_secs = 'soon'\nlissen = 1\n",
    )?;
    let variables = [
        ("UPRES_LISTEN", "here"),
        ("UPRES_RETRY_CAP_SECS", "-1"),
        ("UPRES_AMQP_URL", "http://broker"),
        ("UPRES_LOG", "a=b=c"),
    ];
    let args = ["check-config", "--release-limit", "0", "--lease-ttl-secs=x"];
    let check = run("upres-coordinator", &folder, &args, &variables)?;
    let said = stderr(&check);
    assert_eq!(check.status.code(), Some(2), "{said}");
    let words = [
        "no setting `lissen`",
        "'here' for '--listen",
        "'soon' for '--reap-secs",
        "'-1' for '--retry-cap-secs",
        "'x' for '--lease-ttl-secs",
        "--database-url is missing: give it or set UPRES_DATABASE_URL",
        "--amqp-url must begin with",
        "--s3-endpoint `nowhere`",
        "--release-limit must be at least 1",
        "--log `a=b=c`",
    ];
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(said.lines().count(), words.len(), "{said}");

    let args = ["check-config", "--jobs-in-flight", "many"];
    let variables = [("UPRES_DRAIN_SECS", "60"), ("UPRES_DEVICE", "gpu")];
    let check = run("upres-worker", &folder, &args, &variables)?;
    let said = stderr(&check);
    assert_eq!(check.status.code(), Some(2), "{said}");
    for word in [
        "'many' for '--jobs-in-flight",
        "--api-key is missing",
        "--amqp-url is missing",
        "--model-dir is missing",
        "--device: ",
        "--drain-secs must be at most 15",
        "--s3-endpoint `nowhere`",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(said.lines().count(), 7, "{said}");
    Ok(())
}
