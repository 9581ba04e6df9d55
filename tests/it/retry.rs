//! Attempts that fail: tried again after a pause, until they are spent.

use journey_tests::{FakeWorker, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_followed_by_another() -> anyhow::Result<()> {
    let mut world = World::plain("retry").await?;
    let manners = FakeWorker {
        fail_first: 2,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(manners).await?;
    let id = world.submit_photo("a").await?;
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempt"], 3);
    let outcomes: Vec<_> = job["attempts"].as_array().into_iter().flatten().collect();
    assert_eq!(outcomes[0]["outcome"], "failed");
    assert_eq!(outcomes[0]["error"]["type"], "transient/engine");
    assert_eq!(outcomes[2]["outcome"], "succeeded");
    assert_eq!(job["error"], json!(null));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fails_when_its_attempts_are_spent() -> anyhow::Result<()> {
    let mut world = World::plain("retry_spent").await?;
    let manners = FakeWorker {
        fail_first: 1000,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(manners).await?;
    world
        .store
        .put("in/a.png", journey_tests::photo(24, 16))
        .await?;
    let job = json!({
        "input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png"), "max_attempts": 2,
    });
    let id = world.submit(&job).await?;
    let job = world.wait_for(&id, &["failed", "succeeded"]).await?;
    assert_eq!(job["state"], "failed");
    assert_eq!(job["attempt"], 2);
    assert_eq!(job["error"]["type"], "transient/engine");
    assert_eq!(job["error"]["retryable"], true);
    assert_eq!(world.store.get("out/a.png").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_its_time_and_expires_after_its_deadline() -> anyhow::Result<()> {
    let mut world = World::plain("times").await?;
    world
        .store
        .put("in/a.png", journey_tests::photo(24, 16))
        .await?;
    // Times are the database's: asked of it, not of this machine's clock.
    let mut database = world.database().await?;
    let in_seconds = "select to_char(now() at time zone 'utc' + make_interval(secs => $1), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
    let time = async |database: &mut sqlx::PgConnection, seconds: f64| {
        sqlx::query_scalar::<_, String>(in_seconds)
            .bind(seconds)
            .fetch_one(database)
            .await
    };
    let soon = time(&mut database, 2.0).await?;
    let job = |name: &str| json!({"input": world.store.uri("in/a.png"), "output": world.store.uri(&format!("out/{name}.png"))});
    let mut later = job("later");
    later["not_before"] = json!(soon);
    let mut expiring = job("expiring");
    expiring["finish_by"] = json!(soon);
    let (later, expiring) = (world.submit(&later).await?, world.submit(&expiring).await?);
    assert_eq!(world.job(&later).await?["state"], "scheduled");
    // Nobody works yet, so the deadline passes.
    world.wait_for(&expiring, &["expired"]).await?;
    let _worker = world.start_fake_worker_default().await?;
    let job = world.succeeds(&later).await?;
    assert!(job["started_at"].as_str() >= Some(&soon[..19]), "{job}");
    assert_eq!(world.job(&expiring).await?["attempt"], 0);
    Ok(())
}
