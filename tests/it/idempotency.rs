//! The same request under the same key is one job.

use futures_util::future::try_join_all;
use journey_tests::{World, photo};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn post(world: &World, key: &str, job: &Value) -> anyhow::Result<(StatusCode, bool, Value)> {
    post_to(world, "/v1/jobs", key, job).await
}

async fn post_to(
    world: &World,
    path: &str,
    key: &str,
    job: &Value,
) -> anyhow::Result<(StatusCode, bool, Value)> {
    let request = world
        .request(Method::POST, path)
        .header("Idempotency-Key", key)
        .json(job);
    let answer = request.send().await?;
    let replayed = answer.headers().contains_key("idempotency-replayed");
    Ok((answer.status(), replayed, answer.json().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_answered_with_the_first_job() -> anyhow::Result<()> {
    let mut world = World::plain("idempotency").await?;
    let _worker = world.start_fake_worker_default().await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let job = json!({"input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png")});
    let (status, replayed, first) = post(&world, "k", &job).await?;
    assert_eq!((status, replayed), (StatusCode::ACCEPTED, false));
    let id = first["id"].as_str().unwrap_or_default();
    // Once it is done its output exists, and a fresh request for it would be refused.
    world.succeeds(id).await?;
    let (status, replayed, again) = post(&world, "k", &job).await?;
    assert_eq!((status, replayed), (StatusCode::ACCEPTED, true));
    assert_eq!(again["id"], first["id"]);
    assert_eq!(post(&world, "k2", &job).await?.0, StatusCode::CONFLICT);

    let mut other = job.clone();
    other["output"] = json!(world.store.uri("out/b.png"));
    let (status, _, problem) = post(&world, "k", &other).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["pointer"], "/Idempotency-Key");
    let too_long = "x".repeat(256);
    let (status, _, _) = post(&world, &too_long, &other).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_make_one_job() -> anyhow::Result<()> {
    let world = World::plain("idempotency_race").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let job = json!({"input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png")});
    let answers = try_join_all((0..16).map(|_| post(&world, "k", &job))).await?;
    let mut ids: Vec<_> = Vec::new();
    for (status, _, body) in answers {
        match status {
            StatusCode::ACCEPTED => ids.push(body["id"].to_string()),
            status => assert_eq!(status, StatusCode::CONFLICT, "{body}"),
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let page: Value = world
        .request(Method::GET, "/v1/jobs")
        .send()
        .await?
        .json()
        .await?;
    assert_eq!(page["jobs"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_one_batch() -> anyhow::Result<()> {
    let world = World::plain("idempotency_batch").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let batch =
        json!({"prefix": world.store.uri("in/"), "output": world.store.uri("out/{stem}.png")});
    let post = async |key, batch| post_to(&world, "/v1/batches", key, batch).await;
    let answers = try_join_all((0..8).map(|_| post("k", &batch))).await?;
    let mut ids: Vec<_> = Vec::new();
    let mut fresh = 0;
    for (status, replayed, body) in answers {
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        fresh += i32::from(!replayed);
        ids.push(body["id"].to_string());
    }
    ids.dedup();
    assert_eq!((fresh, ids.len()), (1, 1));

    let mut other = batch.clone();
    other["priority"] = json!(1);
    let (status, _, problem) = post("k", &other).await?;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["pointer"], "/Idempotency-Key");
    let (status, replayed, body) = post("k2", &batch).await?;
    assert_eq!((status, replayed), (StatusCode::ACCEPTED, false));
    assert_ne!(body["id"].to_string(), ids[0]);
    Ok(())
}
