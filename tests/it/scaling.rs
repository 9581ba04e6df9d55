//! `/scaling`: what an autoscaler is told from an empty queue to a measured one.

use journey_tests::{DEADLINE, FakeWorker, World, WorldOptions, until};
use reqwest::Method;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_is_told_in_seconds_of_a_worker() -> anyhow::Result<()> {
    let options = WorldOptions {
        settings: vec![("UPRES_SCALING_PACE", "0.5")],
        ..WorldOptions::default()
    };
    let mut world = World::new("scaling", options).await?;
    assert_eq!(number(&told(&world).await?, "backlog_seconds"), 0.0);

    let id = world.submit_photo("a").await?;
    let cost = world.job(&id).await?["cost"].as_f64().unwrap_or_default();
    assert!(cost > 0.0);
    let waiting = told(&world).await?;
    assert_eq!(number(&waiting, "waiting_tile_steps"), cost);
    assert_eq!(number(&waiting, "running_tile_steps"), 0.0);
    assert_eq!(number(&waiting, "backlog_seconds"), cost / 0.5, "{waiting}");
    assert_eq!(waiting["measured"], false);

    let slow = FakeWorker {
        tiles: 50,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(slow).await?;
    world.wait_for(&id, &["running"]).await?;
    // What runs counts until it has ended, or whoever scales would take the worker away.
    let running = told(&world).await?;
    assert_eq!(number(&running, "waiting_tile_steps"), 0.0, "{running}");
    assert!(number(&running, "running_tile_steps") > 0.0, "{running}");

    world.succeeds(&id).await?;
    until("its pace is measured", DEADLINE, async || {
        let done = told(&world).await?;
        Ok(done["measured"] == true && number(&done, "backlog_seconds") == 0.0)
    })
    .await
}

async fn told(world: &World) -> anyhow::Result<Value> {
    let answer = world.request(Method::GET, "/scaling").send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

fn number(told: &Value, name: &str) -> f64 {
    told[name].as_f64().unwrap_or(f64::NAN)
}
