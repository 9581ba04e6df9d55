//! `kill -9` of a worker in the middle of a job.

use journey_tests::{FakeWorker, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_runs_again_elsewhere() -> anyhow::Result<()> {
    let mut world = World::plain("killed").await?;
    let slow = FakeWorker {
        tiles: 2000,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let mut first = world.start_fake_worker(slow).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    first.kill();
    let _second = world.start_fake_worker_default().await?;
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempts"][0]["outcome"], "lost");
    assert_eq!(job["attempts"][1]["outcome"], "succeeded");
    assert_ne!(job["attempts"][0]["worker"], job["attempts"][1]["worker"]);
    Ok(())
}
