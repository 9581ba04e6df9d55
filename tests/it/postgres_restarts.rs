//! PostgreSQL dies in the middle; it writes through to the disk, so what was accepted is kept.

use journey_tests::{FakeWorker, OwnPostgres, World, WorldOptions};

#[tokio::test(flavor = "multi_thread")]
async fn accepted_jobs_survive_a_crash_of_the_database() -> anyhow::Result<()> {
    let postgres = tokio::task::spawn_blocking(OwnPostgres::start).await??;
    let options = WorldOptions {
        database_server: Some(postgres.url()),
        ..WorldOptions::default()
    };
    let mut world = World::new("postgres_restarts", options).await?;
    let manners = FakeWorker {
        tiles: 5,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let mut worker = world.start_fake_worker(manners).await?;
    let mut ids = Vec::new();
    for index in 0..5 {
        ids.push(world.submit_photo(&format!("before-{index}")).await?);
    }
    world.wait_for(&ids[0], &["running", "succeeded"]).await?;
    let _postgres =
        tokio::task::spawn_blocking(move || postgres.crash_and_restart().map(|()| postgres))
            .await??;
    for id in &ids {
        world.succeeds(id).await?;
    }
    assert!(worker.is_running(), "a worker outlives the database");
    let after = world.submit_photo("after").await?;
    world.succeeds(&after).await?;
    Ok(())
}
