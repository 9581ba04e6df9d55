//! A worker that hangs: its lease lapses, another does the job, and the first changes nothing when it
//! wakes up.

use journey_tests::{DEADLINE, FakeWorker, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_loses_the_job_and_changes_nothing_when_it_wakes() -> anyhow::Result<()> {
    let mut world = World::plain("lapsed").await?;
    let slow = FakeWorker {
        tiles: 40,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let first = world.start_fake_worker(slow).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    first.signal("STOP")?;

    let _second = world.start_fake_worker_default().await?;
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempt"], 2);
    assert_eq!(job["attempts"][0]["outcome"], "lost");
    assert_eq!(job["attempts"][0]["error"]["type"], "transient/worker_lost");
    let digest = world.store.sha256("out/a.png").await?;

    first.signal("CONT")?;
    until("the first worker notices", DEADLINE, async || {
        let log = first.log();
        Ok(log.contains("attempt stops") || log.contains("superseded"))
    })
    .await?;
    let after = world.succeeds(&id).await?;
    assert_eq!(
        after["version"], job["version"],
        "a superseded attempt changed the job"
    );
    assert_eq!(world.store.sha256("out/a.png").await?, digest);
    until("no upload is left over", DEADLINE, async || {
        Ok(world.store.open_uploads().await? == 0)
    })
    .await
}
