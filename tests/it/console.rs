//! The console in a browser, as people use it.

use std::process::Command;

use journey_tests::{DEADLINE, FakeWorker, World, photo, tool, until};
use reqwest::Method;
use serde_json::{Value, json};

/// Markup where a label may stand: shown as it is, it does nothing.
const HOSTILE: &str = "<img src=x onerror=document.title='broken'>";

#[tokio::test(flavor = "multi_thread")]
async fn people_find_their_jobs_and_batches_in_the_console() -> anyhow::Result<()> {
    let (Some(browser), Some(node), Some(library)) = (
        tool("UPRES_TEST_CHROMIUM"),
        tool("UPRES_TEST_NODE"),
        tool("UPRES_TEST_PLAYWRIGHT"),
    ) else {
        return Ok(());
    };
    let mut world = World::plain("console").await?;
    let manners = FakeWorker {
        identity: true,
        ..FakeWorker::default()
    };
    let worker = world.start_fake_worker(manners).await?;
    world.store.put("in/shown.png", photo(96, 64)).await?;
    let shown = json!({
        "input": world.store.uri("in/shown.png"), "output": world.store.uri("out/shown.png"),
        "labels": {"box": "12", "note": HOSTILE},
    });
    let shown = world.submit(&shown).await?;
    world.succeeds(&shown).await?;
    world
        .store
        .put("in/broken.png", b"no picture at all".to_vec())
        .await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let item = |input: &str, output: &str| json!({"input": world.store.uri(input), "output": world.store.uri(output)});
    let items = [
        item("in/a.png", "batch/1.png"),
        item("in/broken.png", "batch/2.png"),
        item("in/a.png", "batch/3.png"),
    ];
    let batch = world
        .request(Method::POST, "/v1/batches")
        .json(&json!({"items": items}));
    let batch: Value = batch.send().await?.error_for_status()?.json().await?;
    let batch = batch["id"].as_str().unwrap_or_default().to_owned();
    until("the batch is finished", DEADLINE, async || {
        let read = world.request(Method::GET, &format!("/v1/batches/{batch}"));
        let read: Value = read.send().await?.json().await?;
        Ok(read["phase"] == "finished")
    })
    .await?;
    drop(worker);
    let waiting = world.submit_photo("waiting").await?;
    let held_back = world.submit_photo("held-back").await?;
    hold_back(&world, &held_back).await?;

    let output = Command::new(node)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/console.mjs"))
        .env("PLAYWRIGHT", library)
        .env("CHROMIUM", browser)
        .env("URL", world.url(0))
        .env("KEY", &world.key)
        .env("SHOWN", &shown)
        .env("WAITING", &waiting)
        .env("HELD_BACK", &held_back)
        .env("BATCH", &batch)
        .env("HOSTILE", HOSTILE)
        .env("PICTURES", world.folder())
        .output()?;
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{errors}");
    assert_eq!(world.job(&waiting).await?["state"], "cancelled");
    assert_eq!(world.job(&held_back).await?["state"], "queued");
    Ok(())
}

/// Leaves a job as two deaths of a worker would.
async fn hold_back(world: &World, id: &str) -> anyhow::Result<()> {
    let mut database = world.database().await?;
    let error = json!({"type": "quarantine/deaths", "detail": "two workers died"});
    sqlx::query(
        "with waiting as (delete from outbox where job_id = $1::uuid)
        update jobs set error = $2, state = 'failed', finished_at = now(), version = version + 1
        where job_id = $1::uuid",
    )
    .bind(id)
    .bind(error)
    .execute(&mut database)
    .await?;
    Ok(())
}
