//! RabbitMQ is restarted, or loses its queues, in the middle.

use journey_tests::{DEADLINE, FakeWorker, OwnBroker, World, WorldOptions, until};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_outlive_a_restart_and_a_crash_of_the_broker() -> anyhow::Result<()> {
    let broker = tokio::task::spawn_blocking(OwnBroker::start).await??;
    let options = WorldOptions {
        amqp_url: Some(broker.url()),
        ..WorldOptions::default()
    };
    let mut world = World::new("broker_restarts", options).await?;
    let manners = FakeWorker {
        tiles: 5,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let mut worker = world.start_fake_worker(manners).await?;
    let broker = submit_around(&world, broker, "restart", OwnBroker::restart).await?;
    let _broker = submit_around(&world, broker, "crash", OwnBroker::crash_and_restart).await?;
    assert!(worker.is_running(), "a worker outlives its broker");
    assert_eq!(world.store.open_uploads().await?, 0);
    Ok(())
}

/// Submits jobs before, during and after an accident of the broker; all succeed.
async fn submit_around(
    world: &World,
    broker: OwnBroker,
    name: &str,
    accident: fn(&OwnBroker) -> anyhow::Result<()>,
) -> anyhow::Result<OwnBroker> {
    let mut ids = Vec::new();
    for index in 0..4 {
        ids.push(
            world
                .submit_photo(&format!("before-{name}-{index}"))
                .await?,
        );
    }
    world.wait_for(&ids[0], &["running", "succeeded"]).await?;
    let accident = tokio::task::spawn_blocking(move || accident(&broker).map(|()| broker));
    for index in 0..4 {
        ids.push(
            world
                .submit_photo(&format!("during-{name}-{index}"))
                .await?,
        );
    }
    let broker = accident.await??;
    ids.push(world.submit_photo(&format!("after-{name}")).await?);
    for id in &ids {
        world.succeeds(id).await?;
    }
    Ok(broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_are_sent_again_when_all_queues_are_deleted() -> anyhow::Result<()> {
    let mut world = World::plain("queues_deleted").await?;
    let id = world.submit_photo("a").await?;
    let mut database = world.database().await?;
    until("the wake-up is sent", DEADLINE, async || {
        let sent =
            sqlx::query_scalar::<_, bool>("select bool_and(sent_at is not null) from outbox");
        Ok(sent.fetch_one(&mut database).await?)
    })
    .await?;
    world.delete_queues().await?;
    let _worker = world.start_fake_worker_default().await?;
    world.succeeds(&id).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_nobody_understands_is_parked_and_harms_nobody() -> anyhow::Result<()> {
    let mut world = World::plain("parked").await?;
    let worker = world.start_fake_worker_default().await?;
    let first = world.submit_photo("a").await?;
    world.succeeds(&first).await?;
    for payload in ["not a wake-up", r#"{"v":99,"job_id":"x"}"#] {
        world.publish_raw(payload).await?;
    }
    let second = world.submit_photo("b").await?;
    world.succeeds(&second).await?;
    until("both are parked", DEADLINE, async || {
        Ok(worker.log().matches("dead-letter").count() == 2)
    })
    .await?;
    until("both are told of and taken away", DEADLINE, async || {
        let log = world.coordinator_log();
        let told = log.lines().filter(|line| line.contains("gave up"));
        Ok(told.filter(|line| line.contains("rejected")).count() == 2)
    })
    .await?;
    let metrics = world.request(Method::GET, "/metrics").send().await?;
    let metrics = metrics.text().await?;
    assert!(
        metrics.contains(r#"upres_wakeups_dead_total{reason="rejected"} 2"#),
        "{metrics}"
    );
    let ready = world.request(Method::GET, "/readyz").send().await?;
    assert!(ready.status().is_success());
    Ok(())
}
