//! What publication refuses: masters and strangers' objects are never overwritten.

use journey_tests::{FakeWorker, Fault, World, photo};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_appears_meanwhile_is_left_alone() -> anyhow::Result<()> {
    let mut world = World::plain("appears").await?;
    let slow = FakeWorker {
        tiles: 20,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(slow).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    world
        .store
        .put("out/a.png", b"a stranger's".to_vec())
        .await?;
    let job = world.wait_for(&id, &["failed", "succeeded"]).await?;
    assert_eq!(
        (&job["state"], &job["error"]["type"]),
        (&json!("failed"), &json!("output/exists"))
    );
    assert_eq!(
        world.store.get("out/a.png").await?,
        Some(b"a stranger's".to_vec())
    );
    assert_eq!(world.store.open_uploads().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_replaces_an_object_but_never_a_master() -> anyhow::Result<()> {
    let mut world = World::plain("overwrite").await?;
    let slow = FakeWorker {
        tiles: 20,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(slow).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    world.store.put("out/a.png", photo(8, 8)).await?;
    let job = |input: &str, output: &str| json!({"input": world.store.uri(input), "output": world.store.uri(output), "if_exists": "overwrite"});
    let replaced = world.submit(&job("in/a.png", "out/a.png")).await?;
    world.succeeds(&replaced).await?;

    // Refused at submission: the output is some job's input.
    let (status, body) = world.post_job(&job("out/a.png", "in/a.png")).await?;
    assert_eq!(
        (status, &body["errors"][0]["pointer"]),
        (StatusCode::CONFLICT, &json!("/output"))
    );

    // Refused at publication: it became one while the job ran.
    world.store.put("in/b.png", photo(24, 16)).await?;
    world.store.put("out/b.png", photo(8, 8)).await?;
    let late = world.submit(&job("in/b.png", "out/b.png")).await?;
    world.submit(&job("out/b.png", "out/c.png")).await?;
    let late = world.wait_for(&late, &["failed", "succeeded"]).await?;
    assert_eq!(late["error"]["type"], "output/is_input");
    assert_eq!(world.store.get("out/b.png").await?, Some(photo(8, 8)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_coordinator_may_not_see_fails_and_is_not_tried_for_ever()
-> anyhow::Result<()> {
    let (mut world, proxy) = World::with_store_behind_a_proxy("unseen").await?;
    let slow = FakeWorker {
        tiles: 20,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(slow).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    proxy.set(Fault::NoLook);
    let job = world.wait_for(&id, &["failed", "succeeded"]).await?;
    assert_eq!(job["error"]["type"], "output/forbidden", "{job}");
    assert_eq!(world.store.get("out/a.png").await?, None);
    assert_eq!(world.store.open_uploads().await?, 0);
    Ok(())
}
