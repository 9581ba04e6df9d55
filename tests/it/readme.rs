//! What the README tells a newcomer to type works as it stands.

use std::path::{Path, PathBuf};

use anyhow::Context;
use journey_tests::{FakeWorker, Store, World, WorldOptions, program_path};

/// The commands of the README under a heading.
fn commands(heading: &str) -> anyhow::Result<String> {
    let readme = root().join("README.md");
    let text = std::fs::read_to_string(readme)?;
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .with_context(|| format!("the README has no {heading}"))?;
    let blocks: Vec<_> = section
        .split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    anyhow::ensure!(!blocks.is_empty(), "{heading} has no commands");
    Ok(blocks.concat())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of a fresh clone, as far as the commands look at it.
fn clone(world: &World) -> anyhow::Result<PathBuf> {
    let folder = world.folder().join("clone");
    std::fs::create_dir_all(folder.join(".upres"))?;
    std::os::unix::fs::symlink(
        root().join("samples").canonicalize()?,
        folder.join("samples"),
    )?;
    let program = program_path("upres")?;
    let programs = program.parent().context("a program lies in a folder")?;
    let env = format!(
        "export UPRES_API_URL={} UPRES_API_KEY={} PATH={}:\"$PATH\"\n",
        world.url(0),
        world.key,
        programs.display()
    );
    std::fs::write(folder.join(".upres/env"), env)?;
    Ok(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tours_of_the_readme_work_as_written() -> anyhow::Result<()> {
    let mut world = World::new(
        "readme",
        WorldOptions {
            settings: vec![("UPRES_UPLOADS", "s3://upres/")],
            ..WorldOptions::default()
        },
    )
    .await?;
    let bucket = Store::create(world.s3_endpoint(), "upres").await?;
    let _worker = world
        .start_fake_worker(FakeWorker {
            identity: true,
            ..FakeWorker::default()
        })
        .await?;
    let folder = clone(&world)?;
    let script = [
        commands("Five minutes for an API client")?,
        commands("Five minutes for an archive")?,
    ]
    .concat();
    let ran = tokio::process::Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(&folder)
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let log = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{log}");

    let original = image::image_dimensions(folder.join("samples/coffee.png"))?;
    let fourfold = (4 * original.0, 4 * original.1);
    for result in [
        "coffee-x4.png",
        "enlarged/coffee__t200.png",
        "enlarged/coffee__t200-100-50.png",
    ] {
        let size = image::image_dimensions(folder.join(result))?;
        assert_eq!(size, fourfold, "{result}");
    }
    let report = bucket.get("bag/report.csv").await?.unwrap_or_default();
    let report = String::from_utf8(report)?;
    // Four samples were sent by the batch, one by each of two before it.
    assert_eq!(report.matches(",succeeded,").count(), 6, "{report}");
    assert!(said.contains("unchanged  6 since"), "{said}");
    assert!(
        said.contains("succeeded: it ended at ") && said.contains("its result is s3://"),
        "explain says how it ended: {said}"
    );
    Ok(())
}
