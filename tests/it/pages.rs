//! A file of several pages through the queue: all of them or those that are wanted, and none is lost or
//! made twice when workers come and go.

use journey_tests::{DEADLINE, FakeWorker, World, book, until};
use serde_json::{Value, json};

use crate::resume::{DRAIN, TILE_MS, computed, more_parts_than};

const PAGES: u32 = 5;

async fn submit(world: &World, output: &str, upscale: Value) -> anyhow::Result<String> {
    world
        .submit(&json!({
            "input": world.store.uri("in/book.tif"), "output": world.store.uri(output),
            "upscale": upscale, "max_attempts": 1,
        }))
        .await
}

fn slow() -> FakeWorker {
    FakeWorker {
        identity: true,
        tile_ms: TILE_MS,
        ..FakeWorker::default()
    }
}

fn page_count(file: Vec<u8>) -> anyhow::Result<u32> {
    let file = std::io::Cursor::new(file);
    Ok(imaging::page_count(
        Box::new(file),
        &imaging::Limits::default(),
    )?)
}

/// That the job has the bytes of one that nobody interrupted, with every page.
async fn is_whole(world: &World, job: &Value) -> anyhow::Result<()> {
    let whole = submit(world, "out/whole.tif", json!({})).await?;
    let whole = world.succeeds(&whole).await?;
    assert_eq!(job["result"]["sha256"], whole["result"]["sha256"]);
    let file = world.store.get("out/interrupted.tif").await?;
    let file = file.expect("a job that succeeded has its object");
    assert_eq!(page_count(file)?, PAGES);
    let record = world.store.get("out/interrupted.tif.upres.json").await?;
    let record: Value = serde_json::from_slice(&record.expect("the record lies beside it"))?;
    let tiles = record["pages"].as_array().into_iter().flatten();
    let tiles = tiles.filter_map(|page| page["tiles"].as_u64());
    let total = job["progress"]["tiles_total"].as_u64();
    assert_eq!(Some(tiles.sum()), total, "{record}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_is_drained_on_its_way_makes_no_tile_twice() -> anyhow::Result<()> {
    let mut world = World::plain("pages_drained").await?;
    world.store.put("in/book.tif", book()).await?;
    let id = submit(&world, "out/interrupted.tif", json!({})).await?;
    let (mut tiles, mut drains) = (0, 0);
    loop {
        let mut worker = world.start_fake_worker(slow()).await?;
        // Some tiles further, on whatever page that is.
        let further = tiles as u64 + 6;
        let mut ended = false;
        until("some tiles are done", DEADLINE, async || {
            let job = world.job(&id).await?;
            ended = job["state"] == "succeeded";
            let done = job["progress"]["tiles"].as_u64();
            Ok(ended || done.is_some_and(|done| done >= further))
        })
        .await?;
        assert!(worker.terminate(DRAIN).await?.success());
        tiles += computed(&worker.log());
        if ended || world.wait_for(&id, &["queued", "succeeded"]).await?["state"] == "succeeded" {
            break;
        }
        drains += 1;
    }
    assert!(drains > 3, "it was drained {drains} times");
    let _last = world
        .start_fake_worker(FakeWorker {
            tile_ms: 0,
            ..slow()
        })
        .await?;
    let job = world.succeeds(&id).await?;
    let total = job["progress"]["tiles_total"].as_u64();
    assert_eq!(Some(u64::try_from(tiles)?), total);
    is_whole(&world, &job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_whose_workers_die_goes_on_behind_its_parts() -> anyhow::Result<()> {
    let mut world = World::plain("pages_killed").await?;
    world.store.put("in/book.tif", book()).await?;
    let mut first = world.start_fake_worker(slow()).await?;
    let id = submit(&world, "out/interrupted.tif", json!({})).await?;
    more_parts_than(0, &world, &id).await?;
    first.kill();
    let second = world
        .start_fake_worker(FakeWorker {
            tile_ms: 0,
            ..slow()
        })
        .await?;
    let job = world.succeeds(&id).await?;
    let log = second.log();
    assert!(log.contains("attempt goes on"), "{log}");
    is_whole(&world, &job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_chosen_priced_and_refused() -> anyhow::Result<()> {
    let mut world = World::plain("pages_chosen").await?;
    world.store.put("in/book.tif", book()).await?;
    let _worker = world
        .start_fake_worker(FakeWorker {
            tile_ms: 0,
            ..slow()
        })
        .await?;
    let some = submit(&world, "out/some.tif", json!({"pages": "2-3,5"})).await?;
    let job = world.succeeds(&some).await?;
    let file = world.store.get("out/some.tif").await?;
    assert_eq!(page_count(file.expect("it succeeded"))?, 3);
    assert_eq!(job["cost"], job["progress"]["tile_steps_total"], "{job}");
    assert_eq!(
        (&job["result"]["width"], &job["result"]["height"]),
        (&json!(240), &json!(160))
    );

    for (output, upscale, sentence) in [
        (
            "out/a.tif",
            json!({"pages": "single"}),
            "where one was wanted",
        ),
        ("out/b.tif", json!({"pages": "4-6"}), "page 6 was asked for"),
        (
            "out/c.png",
            json!({"format": "png"}),
            "png holds one picture",
        ),
    ] {
        let id = submit(&world, output, upscale).await?;
        let job = world.wait_for(&id, &["failed"]).await?;
        assert_eq!(job["error"]["type"], "input/unsupported", "{job}");
        let detail = job["error"].to_string();
        assert!(detail.contains(sentence), "{detail}");
    }
    Ok(())
}
