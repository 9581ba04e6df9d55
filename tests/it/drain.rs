//! SIGTERM: a worker finishes what is nearly done and hands back the rest, and leaves in order.

use std::time::Duration;

use journey_tests::{DEADLINE, FakeWorker, Fault, World, grain, until};

/// The contract's limit.
const DRAIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_long_job_is_handed_back_and_costs_no_attempt() -> anyhow::Result<()> {
    let mut world = World::plain("drain").await?;
    let slow = FakeWorker {
        tiles: 2000,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let mut first = world.start_fake_worker(slow).await?;
    world
        .store
        .put("in/a.png", journey_tests::photo(24, 16))
        .await?;
    let id = world
        .submit(&serde_json::json!({
            "input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png"),
            "max_attempts": 1,
        }))
        .await?;
    world.wait_for(&id, &["running"]).await?;
    assert!(
        first.terminate(DRAIN).await?.success(),
        "a drained worker exits with 0"
    );
    let job = world.wait_for(&id, &["queued"]).await?;
    assert_eq!(job["attempts"][0]["outcome"], "handed_back");

    let _second = world.start_fake_worker_default().await?;
    world.succeeds(&id).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_and_a_coordinator_leave_at_once() -> anyhow::Result<()> {
    let mut world = World::plain("drain_idle").await?;
    let mut worker = world.start_fake_worker_default().await?;
    let id = world.submit_photo("a").await?;
    world.succeeds(&id).await?;
    assert!(worker.terminate(DRAIN).await?.success());
    assert!(world.terminate_coordinator(DRAIN).await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_says_nothing_keeps_no_job_from_being_handed_back() -> anyhow::Result<()> {
    let (mut world, proxy) = World::with_store_behind_a_proxy("drain_silent").await?;
    let slow = FakeWorker {
        identity: true,
        tile_ms: 200,
        ..FakeWorker::default()
    };
    let mut worker = world.start_fake_worker(slow).await?;
    world.store.put("in/a.png", grain(512, 3200)).await?;
    let id = world
        .submit(&serde_json::json!({
            "input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png"), "max_attempts": 1,
        }))
        .await?;
    until("some tiles are done", DEADLINE, async || {
        let done = &world.job(&id).await?["progress"]["tiles"];
        Ok(done.as_u64().is_some_and(|done| done > 0))
    })
    .await?;
    proxy.set(Fault::BlackHole);
    assert!(worker.terminate(DRAIN).await?.success());
    let job = world.wait_for(&id, &["queued"]).await?;
    assert_eq!(job["attempts"][0]["outcome"], "handed_back", "{job}");
    proxy.set(Fault::Pass);
    let _second = world
        .start_fake_worker(FakeWorker { tile_ms: 0, ..slow })
        .await?;
    world.succeeds(&id).await?;
    Ok(())
}
