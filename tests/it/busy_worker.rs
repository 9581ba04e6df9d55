//! A worker that is busy with a large picture keeps nothing from one that is idle.

use anyhow::Context;
use journey_tests::{FakeWorker, World};
use reqwest::Method;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_job_goes_to_the_worker_that_has_nothing_to_do() -> anyhow::Result<()> {
    let mut world = World::plain("busy_worker").await?;
    // It could hold two jobs, and will be busy for longer than this story takes.
    let slow = FakeWorker {
        tiles: 2000,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _busy = world.start_fake_worker(slow).await?;
    let large = world.submit_photo("large").await?;
    world.wait_for(&large, &["running"]).await?;
    let quick = FakeWorker {
        tiles: 1,
        tile_ms: 1,
        ..FakeWorker::default()
    };
    let _idle = world.start_fake_worker(quick).await?;
    let busy = worker_of(&world, &large).await?;
    for n in 0..6 {
        let small = world.submit_photo(&format!("small{n}")).await?;
        world.succeeds(&small).await?;
        let worker = worker_of(&world, &small).await?;
        assert_ne!(worker, busy, "job {n} stood behind the large one");
    }
    let large = world.job(&large).await?;
    assert_eq!(large["state"], "running", "it outlasts the story: {large}");
    let path = format!("/v1/jobs/{}/cancel", large["id"].as_str().context("an id")?);
    let cancelled = world.request(Method::POST, &path).send().await?;
    cancelled.error_for_status()?;
    Ok(())
}

/// Who made the last attempt.
async fn worker_of(world: &World, job: &str) -> anyhow::Result<String> {
    let job: Value = world.job(job).await?;
    let attempts = job["attempts"].as_array().context("attempts")?;
    let worker = attempts.last().and_then(|last| last["worker"].as_str());
    worker.map(str::to_owned).context("a worker")
}
