//! Cancelling a waiting and a running job.

use std::time::Duration;

use journey_tests::{DEADLINE, FakeWorker, World, until};
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_is_cancelled_at_once_and_never_runs() -> anyhow::Result<()> {
    let mut world = World::plain("cancel_waiting").await?;
    let id = world.submit_photo("a").await?;
    for _ in 0..2 {
        // The second time changes nothing and says the same.
        let answer = world
            .request(Method::POST, &format!("/v1/jobs/{id}/cancel"))
            .send()
            .await?;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            answer.json::<serde_json::Value>().await?["state"],
            "cancelled"
        );
    }
    // A worker that comes later finds the wake-up stale, and does the next job.
    let _worker = world.start_fake_worker_default().await?;
    let next = world.submit_photo("b").await?;
    world.succeeds(&next).await?;
    assert_eq!(world.job(&id).await?["attempt"], 0);
    assert_eq!(world.store.get("out/a.png").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_stops_at_the_next_tile() -> anyhow::Result<()> {
    let mut world = World::plain("cancel_running").await?;
    let slow = FakeWorker {
        tiles: 2000,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let worker = world.start_fake_worker(slow).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    let answer = world
        .request(Method::POST, &format!("/v1/jobs/{id}/cancel"))
        .send()
        .await?;
    assert_eq!(
        answer.json::<serde_json::Value>().await?["state"],
        "cancelled"
    );
    until("the worker stops", DEADLINE, async || {
        Ok(worker.log().contains("attempt stops"))
    })
    .await?;
    let job = world.job(&id).await?;
    assert_eq!(job["attempts"][0]["outcome"], "cancelled");
    assert_eq!(world.store.get("out/a.png").await?, None);
    assert_eq!(world.store.open_uploads().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_job_cannot_be_cancelled() -> anyhow::Result<()> {
    let mut world = World::plain("cancel_ended").await?;
    let mut worker = world.start_fake_worker_default().await?;
    let id = world.submit_photo("a").await?;
    world.succeeds(&id).await?;
    let answer = world
        .request(Method::POST, &format!("/v1/jobs/{id}/cancel"))
        .send()
        .await?;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(world.job(&id).await?["state"], "succeeded");
    assert!(worker.terminate(Duration::from_secs(30)).await?.success());
    Ok(())
}
