//! Attempts that fail: tried again after a pause, until they are spent.

use journey_tests::{DEADLINE, FakeWorker, Process, World, until};
use reqwest::{Method, StatusCode};
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

async fn submit_with_attempts(world: &World, max_attempts: u32) -> anyhow::Result<String> {
    let photo = journey_tests::photo(24, 16);
    world.store.put("in/a.png", photo).await?;
    let (input, output) = (world.store.uri("in/a.png"), world.store.uri("out/a.png"));
    let job = json!({"input": input, "output": output, "max_attempts": max_attempts});
    world.submit(&job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_fails_when_its_attempts_are_spent() -> anyhow::Result<()> {
    let mut world = World::plain("retry_spent").await?;
    let manners = FakeWorker {
        fail_first: 1000,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(manners).await?;
    let id = submit_with_attempts(&world, 2).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_tried_anew_under_its_id() -> anyhow::Result<()> {
    let mut world = World::plain("revived").await?;
    let manners = FakeWorker {
        fail_first: 1,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(manners).await?;
    let id = submit_with_attempts(&world, 1).await?;
    world.wait_for(&id, &["failed"]).await?;
    let retry = async || {
        let request = world.request(Method::POST, &format!("/v1/jobs/{id}/retry"));
        Ok::<_, anyhow::Error>(request.send().await?.status())
    };
    assert_eq!(retry().await?, StatusCode::ACCEPTED);
    let job = world.succeeds(&id).await?;
    assert_eq!((&job["attempt"], &job["error"]), (&json!(2), &json!(null)));
    assert_eq!(job["attempts"][0]["outcome"], "failed");
    assert_eq!(retry().await?, StatusCode::CONFLICT);
    Ok(())
}

/// Starts a worker that stays busy with the job, and returns it when the work has begun.
async fn begin_slowly(world: &mut World, id: &str) -> anyhow::Result<Process> {
    let slow = FakeWorker {
        tiles: 2000,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let worker = world.start_fake_worker(slow).await?;
    until("the work has begun", DEADLINE, async || {
        let job = world.job(id).await?;
        Ok(job["state"] == "running" && job["progress"]["tiles_total"] == 2000)
    })
    .await?;
    Ok(worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_two_workers_is_quarantined_until_it_is_retried() -> anyhow::Result<()> {
    let mut world = World::plain("quarantine").await?;
    let id = world.submit_photo("a").await?;
    for _ in 0..2 {
        begin_slowly(&mut world, &id).await?.kill();
        world.wait_for(&id, &["queued", "failed"]).await?;
    }
    let job = world.wait_for(&id, &["failed"]).await?;
    assert_eq!(job["error"]["type"], "quarantine/deaths");
    let retry = world.request(Method::POST, &format!("/v1/jobs/{id}/retry"));
    retry.send().await?.error_for_status()?;
    let _worker = world.start_fake_worker_default().await?;
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempt"], 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_device_is_found_and_ends_its_worker() -> anyhow::Result<()> {
    let mut world = World::plain("stuck").await?;
    let stuck = FakeWorker {
        tile_ms: 3_600_000,
        ..FakeWorker::default()
    };
    let mut worker = world.start_fake_worker(stuck).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    until("the worker has given up", DEADLINE, async || {
        Ok(!worker.is_running())
    })
    .await?;
    let _worker = world.start_fake_worker_default().await?;
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempts"][0]["error"]["type"], "device/lost");
    assert_eq!(job["attempt"], 2);
    Ok(())
}
