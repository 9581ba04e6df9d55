//! Two coordinators side by side, and one that dies.

use journey_tests::{FakeWorker, World, photo};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn either_takes_jobs_and_each_job_is_done_once() -> anyhow::Result<()> {
    let mut world = World::plain("two").await?;
    world.start_coordinator().await?;
    // The workers know the second only: what the first accepts must reach them all the same.
    let _workers = [
        world.start_fake_worker_at(1, FakeWorker::default()).await?,
        world.start_fake_worker_at(1, FakeWorker::default()).await?,
    ];
    world.store.put("in/a.png", photo(24, 16)).await?;
    let mut ids = Vec::new();
    for index in 0..20 {
        let job = json!({
            "input": world.store.uri("in/a.png"), "output": world.store.uri(&format!("out/{index}.png")),
        });
        let sent = world
            .request_to(index % 2, Method::POST, "/v1/jobs")
            .json(&job)
            .send()
            .await?;
        assert_eq!(sent.status(), StatusCode::ACCEPTED);
        let body: Value = sent.json().await?;
        ids.push(body["id"].as_str().unwrap_or_default().to_owned());
    }
    // Whatever the first has taken and not sent is the second's to send.
    world.kill_coordinator(0);
    for id in &ids {
        let job = world.succeeds(id).await?;
        assert_eq!(job["attempt"], 1, "done twice: {job}");
    }
    Ok(())
}
