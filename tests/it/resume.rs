//! A large picture outlives its workers: what is uploaded is not made again, and the file is the one that
//! nobody interrupted.

use std::time::Duration;

use journey_tests::{DEADLINE, FakeWorker, World, deep_grain, grain, until};
use serde_json::{Value, json};

pub(crate) const DRAIN: Duration = Duration::from_secs(30);
/// Slow enough that a busy machine's worker is stopped long before its last part.
pub(crate) const TILE_MS: u32 = 120;

/// How many uploaded parts of the job the coordinator knows of.
pub(crate) async fn parts(world: &World, id: &str) -> anyhow::Result<i32> {
    let mut conn = world.database().await?;
    let found: Option<i32> = sqlx::query_scalar(
        "select jsonb_array_length(resume -> 'parts') from jobs where job_id = $1::uuid",
    )
    .bind(id)
    .fetch_one(&mut conn)
    .await?;
    Ok(found.unwrap_or(0))
}

pub(crate) async fn more_parts_than(known: i32, world: &World, id: &str) -> anyhow::Result<()> {
    until("parts are uploaded", DEADLINE, async || {
        Ok(parts(world, id).await? > known)
    })
    .await
}

pub(crate) async fn submit(world: &World, output: &str, format: &str) -> anyhow::Result<String> {
    world
        .submit(&json!({
            "input": world.store.uri("in/grain.png"), "output": world.store.uri(output),
            "upscale": {"format": format}, "max_attempts": 1,
        }))
        .await
}

async fn interrupted(name: &str, picture: Vec<u8>, format: &str) -> anyhow::Result<()> {
    let mut world = World::plain(name).await?;
    world.store.put("in/grain.png", picture).await?;
    let slow = FakeWorker {
        identity: true,
        tile_ms: TILE_MS,
        ..FakeWorker::default()
    };

    let mut first = world.start_fake_worker(slow).await?;
    let id = submit(&world, "out/interrupted", format).await?;
    more_parts_than(0, &world, &id).await?;
    assert!(first.terminate(DRAIN).await?.success());
    let job = world.wait_for(&id, &["queued"]).await?;
    assert_eq!(job["attempts"][0]["outcome"], "handed_back");

    let handed_back = parts(&world, &id).await?;
    let mut second = world.start_fake_worker(slow).await?;
    more_parts_than(handed_back, &world, &id).await?;
    second.kill();
    let third = world
        .start_fake_worker(FakeWorker { tile_ms: 0, ..slow })
        .await?;
    let job = world.succeeds(&id).await?;
    for worker in [&second, &third] {
        assert!(worker.log().contains("attempt goes on"), "{}", worker.log());
    }
    let outcomes: Vec<_> = job["attempts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|attempt| attempt["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["handed_back", "lost", "succeeded"]);

    let whole = submit(&world, "out/whole", format).await?;
    let whole = world.succeeds(&whole).await?;
    let of = |job: &Value, field: &str| job["result"][field].clone();
    assert_eq!(of(&job, "sha256"), of(&whole, "sha256"));
    assert_eq!(of(&job, "bytes"), of(&whole, "bytes"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_png_goes_on_where_its_workers_stopped() -> anyhow::Result<()> {
    interrupted("resume_png", grain(512, 1600), "png").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiff_goes_on_where_its_workers_stopped() -> anyhow::Result<()> {
    interrupted("resume_tiff", grain(512, 1600), "tiff").await
}

/// What the engine does not see is enlarged beside it, from any row on.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_transparent_picture_goes_on_where_its_workers_stopped() -> anyhow::Result<()> {
    interrupted("resume_deep", deep_grain(320, 1000), "keep").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_between_two_attempts_leaves_no_upload() -> anyhow::Result<()> {
    let mut world = World::plain("resume_cancelled").await?;
    world.store.put("in/grain.png", grain(512, 1600)).await?;
    let slow = FakeWorker {
        identity: true,
        tile_ms: TILE_MS,
        ..FakeWorker::default()
    };
    let mut worker = world.start_fake_worker(slow).await?;
    let id = submit(&world, "out/cancelled", "png").await?;
    more_parts_than(0, &world, &id).await?;
    assert!(worker.terminate(DRAIN).await?.success());
    world.wait_for(&id, &["queued"]).await?;
    assert_eq!(world.store.open_uploads().await?, 1, "kept for the next");
    let cancelled = world
        .request(reqwest::Method::POST, &format!("/v1/jobs/{id}/cancel"))
        .send()
        .await?;
    assert!(cancelled.status().is_success());
    until("the upload is aborted", DEADLINE, async || {
        Ok(world.store.open_uploads().await? == 0)
    })
    .await
}

/// Tiles that a worker computed, summed over its log.
pub(crate) fn computed(log: &str) -> usize {
    let counts = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" computed=")?;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    });
    counts.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_drained_ten_times_makes_no_tile_twice() -> anyhow::Result<()> {
    let mut world = World::plain("resume_ten").await?;
    world.store.put("in/grain.png", grain(512, 3200)).await?;
    let slow = FakeWorker {
        identity: true,
        tile_ms: 5 * TILE_MS,
        ..FakeWorker::default()
    };
    let id = submit(&world, "out/interrupted", "png").await?;
    let mut tiles = 0;
    let mut seen = 0;
    for _ in 0..10 {
        let mut worker = world.start_fake_worker(slow).await?;
        // Some tiles further, wherever that is in a row of tiles or a part.
        until("some tiles are done", DEADLINE, async || {
            let done = &world.job(&id).await?["progress"]["tiles"];
            Ok(done.as_u64().is_some_and(|done| done > seen))
        })
        .await?;
        assert!(worker.terminate(DRAIN).await?.success());
        world.wait_for(&id, &["queued"]).await?;
        tiles += computed(&worker.log());
        seen = u64::try_from(tiles)?;
    }
    let left = format!("hand-over/{id}");
    assert!(world.store.get(&left).await?.is_some());
    let last = world
        .start_fake_worker(FakeWorker { tile_ms: 0, ..slow })
        .await?;
    let job = world.succeeds(&id).await?;
    tiles += computed(&last.log());
    let total = job["progress"]["tiles_total"].as_u64();
    assert_eq!(Some(u64::try_from(tiles)?), total, "{}", last.log());
    assert_eq!(job["attempts"].as_array().map(Vec::len), Some(11));
    until("what was left is removed", DEADLINE, async || {
        Ok(world.store.get(&left).await?.is_none())
    })
    .await?;

    let whole = submit(&world, "out/whole", "png").await?;
    let whole = world.succeeds(&whole).await?;
    assert_eq!(job["result"]["sha256"], whole["result"]["sha256"]);
    Ok(())
}
