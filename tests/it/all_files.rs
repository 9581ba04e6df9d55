//! Every file of the shared folder, good and hostile, in one batch: the report names each rightly, and the
//! console shows it.

use std::process::Command;

use journey_tests::{DEADLINE, FakeWorker, World, tool};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::batches::{create, finished, finished_within, report};

/// What the shared folder's manifest expects of a file: whether it must, or must not, succeed.
fn expectations() -> Option<Vec<(std::path::PathBuf, String, Option<bool>)>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let mut manifest = csv::Reader::from_path(folder.join("MANIFEST.csv")).ok()?;
    let rows = manifest.records().filter_map(|row| {
        let row = row.ok()?;
        let (name, expected) = (row.get(0)?.to_owned(), row.get(9)?.to_owned());
        let either = expected.contains("or reject") || expected.contains("else ");
        let succeeds = !expected.starts_with("reject");
        Some((folder.join(&name), name, (!either).then_some(succeeds)))
    });
    Some(rows.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_folder_of_good_and_hostile_files_the_report_names_each_rightly() -> anyhow::Result<()>
{
    let Some(files) = expectations() else {
        println!("skipped: ../shared/data is not here");
        return Ok(());
    };
    let mut world = World::plain("batch_hostile").await?;
    for (path, name, _) in &files {
        let key = format!("data/{name}");
        world.store.put(&key, std::fs::read(path)?).await?;
    }
    let batch =
        json!({"prefix": world.store.uri("data/"), "output": world.store.uri("out/{line}-{name}")});
    let id = create(&world, &batch).await?;
    let _worker = world
        .start_fake_worker(FakeWorker {
            identity: true,
            ..FakeWorker::default()
        })
        .await?;
    let end = finished_within(&world, &id, 4 * DEADLINE).await?;
    assert_eq!(end["listed"], json!(files.len()), "{end}");
    let lines = report(&world, &id).await?;
    assert_eq!(lines.len(), files.len(), "one line an input");
    let total = end["counts"]["succeeded"]
        .as_u64()
        .zip(end["counts"]["failed"].as_u64());
    assert_eq!(
        total.map(|(done, failed)| done + failed),
        Some(files.len() as u64),
        "{end}"
    );
    let mut wrong = Vec::new();
    for line in &lines {
        let input = line["input"].as_str().unwrap_or_default();
        let named = files
            .iter()
            .find(|(_, name, _)| input.ends_with(name.as_str()));
        let (_, name, expected) = named.expect("the report names the files");
        let succeeded = line["status"] == "succeeded";
        let refused = line["error_type"]
            .as_str()
            .is_some_and(|t| t.starts_with("input/"));
        if succeeded == refused || expected.is_some_and(|expected| expected != succeeded) {
            wrong.push(format!(
                "{name}: {} {} {}",
                line["status"], line["error_type"], line["reason"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Another attempt cannot help any of them.
    let path = format!("/v1/batches/{id}/retry-failed");
    let asked = world
        .request(Method::POST, &path)
        .json(&json!({}))
        .send()
        .await?;
    assert_eq!(asked.status(), StatusCode::CONFLICT);
    let again = finished(&world, &id).await?;
    assert_eq!(again["counts"], end["counts"]);
    shown_by_the_console(&world, &id, &end)?;
    Ok(())
}

/// A person sees in the console what the report says; a picture of it lands in the story's folder.
fn shown_by_the_console(world: &World, id: &str, end: &Value) -> anyhow::Result<()> {
    let (Some(browser), Some(node), Some(library)) = (
        tool("UPRES_TEST_CHROMIUM"),
        tool("UPRES_TEST_NODE"),
        tool("UPRES_TEST_PLAYWRIGHT"),
    ) else {
        return Ok(());
    };
    let counts = &end["counts"];
    let output = Command::new(node)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/batch.mjs"))
        .env("PLAYWRIGHT", library)
        .env("CHROMIUM", browser)
        .env("URL", world.url(0))
        .env("KEY", &world.key)
        .env("BATCH", id)
        .env("SUCCEEDED", counts["succeeded"].to_string())
        .env("FAILED", counts["failed"].to_string())
        .env("ERRORS", end["errors"].to_string())
        .env("PICTURES", world.folder())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    println!(
        "the console's picture: {}/batch.png",
        world.folder().display()
    );
    Ok(())
}
