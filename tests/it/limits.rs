//! A tenant that asks for too much is told when to come back.

use futures_util::future::try_join_all;
use journey_tests::{DEADLINE, World, WorldOptions, photo, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::batches::{create, read};

#[tokio::test(flavor = "multi_thread")]
async fn who_submits_too_often_is_told_when_to_come_back() -> anyhow::Result<()> {
    let options = WorldOptions {
        settings: vec![("UPRES_TENANT_RATE", "0.1")],
        ..WorldOptions::default()
    };
    let world = World::new("tenant_rate", options).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let submit = async |name: &str| {
        let output = world.store.uri(&format!("out/{name}.png"));
        let job = json!({"input": world.store.uri("in/a.png"), "output": output});
        world
            .request(Method::POST, "/v1/jobs")
            .json(&job)
            .send()
            .await
    };
    let first = submit("1").await?;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert_eq!(first.headers()["ratelimit"], "\"submissions\";r=0;t=10");
    let second = submit("2").await?;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    let headers = second.headers();
    assert_eq!(headers["ratelimit"], "\"submissions\";r=0;t=10");
    assert_eq!(headers["ratelimit-policy"], "\"submissions\";q=1;w=10");
    let wait: u64 = headers["retry-after"].to_str()?.parse()?;
    assert!((1..=10).contains(&wait), "{wait}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_counts_as_one_submission_and_a_repeated_one_not_at_all() -> anyhow::Result<()> {
    let options = WorldOptions {
        settings: vec![
            ("UPRES_TENANT_RATE", "0.001"),
            ("UPRES_TENANT_WAITING", "1"),
        ],
        ..WorldOptions::default()
    };
    let world = World::new("tenant_batches", options).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let job = |name: &str| {
        let output = world.store.uri(&format!("out/{name}.png"));
        json!({"input": world.store.uri("in/a.png"), "output": output})
    };
    let post = async |path: &str, key: &str, body: Value| {
        let post = world.request(Method::POST, path);
        post.header("Idempotency-Key", key).json(&body).send().await
    };
    let batch = json!({"items": [job("1"), job("2"), job("3")]});
    let first = post("/v1/batches", "a", batch.clone()).await?;
    assert_eq!(first.status(), StatusCode::ACCEPTED);
    assert!(first.headers().contains_key("ratelimit"));
    let second = post("/v1/batches", "b", json!({"items": [job("4")]})).await?;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(second.headers().contains_key("retry-after"));
    let again = post("/v1/batches", "a", batch).await?;
    assert_eq!(again.status(), StatusCode::ACCEPTED, "it is the first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_burst_no_more_wait_than_may() -> anyhow::Result<()> {
    let options = WorldOptions {
        settings: vec![("UPRES_TENANT_WAITING", "3")],
        ..WorldOptions::default()
    };
    let world = World::new("tenant_burst", options).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let burst = (0..12).map(|n| {
        let output = world.store.uri(&format!("out/{n}.png"));
        let job = json!({"input": world.store.uri("in/a.png"), "output": output});
        let post = world.request(Method::POST, "/v1/jobs").json(&job);
        async { anyhow::Ok(post.send().await?.status()) }
    });
    let statuses = try_join_all(burst).await?;
    let accepted = statuses
        .iter()
        .filter(|status| **status == StatusCode::ACCEPTED);
    assert_eq!(accepted.count(), 3, "{statuses:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_jobs_that_wait_are_counted_and_those_of_batches_are_not() -> anyhow::Result<()> {
    let options = WorldOptions {
        settings: vec![("UPRES_TENANT_WAITING", "1")],
        ..WorldOptions::default()
    };
    let world = World::new("tenant_waiting", options).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let job = |name: &str| {
        let output = world.store.uri(&format!("out/{name}.png"));
        json!({"input": world.store.uri("in/a.png"), "output": output})
    };
    let post = async |path: &str, body: Value| {
        let key = body.to_string();
        let key = key.get(key.len().saturating_sub(40)..).unwrap_or(&key);
        let post = world.request(Method::POST, path);
        post.header("Idempotency-Key", key).json(&body).send().await
    };
    let id = create(&world, &json!({"items": [job("1"), job("2"), job("3")]})).await?;
    until("the batch is expanded", DEADLINE, async || {
        Ok(read(&world, &id).await?["counts"]["queued"] == 3)
    })
    .await?;
    assert_eq!(
        post("/v1/jobs", job("4")).await?.status(),
        StatusCode::ACCEPTED
    );
    // The count of waiting jobs is good for a second.
    until("a second one is too many", DEADLINE, async || {
        let answer = post("/v1/jobs?validate_only=true", job("5")).await?;
        Ok(answer.status() == StatusCode::TOO_MANY_REQUESTS)
    })
    .await?;
    let refused = post("/v1/jobs", job("5")).await?;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["ratelimit"], "\"waiting\";r=0;t=10");
    let again = post("/v1/jobs", job("4")).await?;
    assert_eq!(again.status(), StatusCode::ACCEPTED, "it is the first");
    Ok(())
}
