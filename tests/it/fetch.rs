//! A person's files go out as a batch; whatever interrupts it, the results come home under their own names.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Context;
use journey_tests::{World, photo, program_path};

use crate::batches::{finished, listed};

/// A folder with two pictures.
fn workplace(world: &World) -> anyhow::Result<PathBuf> {
    let folder = world.folder().join("work");
    fs::create_dir_all(folder.join("scans"))?;
    for (name, side) in [("scans/a.png", 16), ("scans/page 1.png", 24)] {
        image::load_from_memory(&photo(side, 16))?.save(folder.join(name))?;
    }
    Ok(folder)
}

fn upres(world: &World, folder: &Path, args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(program_path("upres")?);
    let access = ["--api-url", world.url(0), "--api-key", &world.key];
    command.args(args).args(access).current_dir(folder);
    Ok(command)
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_batch_of_files_is_fetched_later() -> anyhow::Result<()> {
    let mut world = World::plain("fetch").await?;
    let folder = workplace(&world)?;
    let create = ["batch", "create", "scans", "-o", "large"];
    let mut creating = upres(&world, &folder, &create)?
        .stderr(Stdio::piped())
        .spawn()?;
    let mut words = BufReader::new(creating.stderr.take().context("a pipe")?);
    let id = loop {
        let mut line = String::new();
        anyhow::ensure!(words.read_line(&mut line)? > 0, "it ended too early");
        if let Some(id) = line.trim().strip_prefix("batch ") {
            break id.to_owned();
        }
    };
    let pid = creating.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status()?;
    assert!(killed.success());
    let mut rest = String::new();
    words.read_to_string(&mut rest)?;
    assert_eq!(creating.wait()?.code(), Some(130), "{rest}");
    let advice = format!("upres batch fetch {id} -o large");
    assert!(rest.contains(&advice), "{rest}");

    listed(&world, &id).await?;
    let fetch = ["batch", "fetch", &id, "-o", "large"];
    let early = upres(&world, &folder, &fetch)?.output()?;
    assert_eq!(early.status.code(), Some(1), "{}", said(&early));
    assert!(said(&early).contains("not over yet"), "{}", said(&early));
    assert!(!folder.join("large").exists());

    let _worker = world.start_fake_worker_default().await?;
    finished(&world, &id).await?;
    fs::create_dir_all(folder.join("large"))?;
    fs::write(folder.join("large/a.png"), "mine")?;
    let in_the_way = upres(&world, &folder, &fetch)?.output()?;
    let words = said(&in_the_way);
    assert_eq!(in_the_way.status.code(), Some(1), "{words}");
    assert!(words.contains("large/a.png is another file"), "{words}");
    assert!(
        words.contains("1 fetched, 0 there already, 1 failed"),
        "{words}"
    );
    assert_eq!(fs::read(folder.join("large/a.png"))?, b"mine");
    assert_eq!(image::open(folder.join("large/page 1.png"))?.width(), 96);

    fs::remove_file(folder.join("large/a.png"))?;
    let repeated = upres(&world, &folder, &fetch)?.output()?;
    assert!(repeated.status.success(), "{}", said(&repeated));
    let summary = "1 fetched, 1 there already, 0 failed";
    assert!(said(&repeated).contains(summary), "{}", said(&repeated));
    assert_eq!(image::open(folder.join("large/a.png"))?.width(), 64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_result_is_fetched_by_its_job() -> anyhow::Result<()> {
    let mut world = World::plain("result").await?;
    let folder = workplace(&world)?;
    let id = world.submit_photo("one").await?;
    let fetch = ["jobs", "result", &id, "-o", "one.png"];
    let early = upres(&world, &folder, &fetch)?.output()?;
    assert_eq!(early.status.code(), Some(1), "{}", said(&early));
    assert!(!folder.join("one.png").exists());

    let _worker = world.start_fake_worker_default().await?;
    let job = world.succeeds(&id).await?;
    let done = upres(&world, &folder, &fetch)?.output()?;
    assert!(done.status.success(), "{}", said(&done));
    let width = image::open(folder.join("one.png"))?.width();
    assert_eq!(job["result"]["width"], width);
    let again = upres(&world, &folder, &fetch)?.output()?;
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("one.png exists"), "{}", said(&again));
    Ok(())
}

/// A wrong report is told of after the first file, not after the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_will_be_refused_sends_one_file() -> anyhow::Result<()> {
    let world = World::plain("refused").await?;
    let folder = workplace(&world)?;
    for (flag, value, word) in [
        ("--report", "s3://no-such-bucket-here/r/", "report"),
        ("--webhook", "http://127.0.0.1/", "webhook"),
    ] {
        let create = ["batch", "create", "scans", "-o", "large", flag, value];
        let refused = upres(&world, &folder, &create)?.output()?;
        let words = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{words}");
        assert!(words.contains(word), "{words}");
    }
    let sent = world.store.keys("").await?;
    let sent: Vec<_> = sent.iter().filter(|key| key.contains("uploads/")).collect();
    assert_eq!(sent.len(), 2, "one for each try: {sent:?}");
    Ok(())
}
