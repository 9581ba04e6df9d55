//! Lists, filters, cursors; the pages for machines and people.

use std::process::Command;

use journey_tests::{DEADLINE, World, photo, program_path, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_stable_while_jobs_arrive_and_filters_hold() -> anyhow::Result<()> {
    let world = World::plain("lists").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let submit = async |index: usize| {
        world
            .submit(&json!({
                "input": world.store.uri("in/a.png"), "output": world.store.uri(&format!("out/{index}.png")),
                "labels": {"box": if index.is_multiple_of(2) { "even" } else { "odd" }},
            }))
            .await
    };
    let mut ids = Vec::new();
    for index in 0..7 {
        ids.push(submit(index).await?);
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut cursor = String::new();
    for page_number in 0.. {
        let path = format!("/v1/jobs?limit=3{cursor}");
        let page: Value = world
            .request(Method::GET, &path)
            .send()
            .await?
            .json()
            .await?;
        seen.extend(
            page["jobs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|job| job["id"].clone()),
        );
        // One that arrives between two pages must not shift them.
        submit(100 + page_number).await?;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids.iter().map(|id| json!(id)).collect::<Vec<_>>());

    let count = async |filter: &str| -> anyhow::Result<usize> {
        let path = format!("/v1/jobs?{filter}");
        let page: Value = world
            .request(Method::GET, &path)
            .send()
            .await?
            .json()
            .await?;
        Ok(page["jobs"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(count("label.box=odd&limit=500").await?, 3 + 1);
    assert_eq!(count("state=queued&limit=500").await?, 10);
    assert_eq!(count("state=failed").await?, 0);
    let unknown = world
        .request(Method::GET, "/v1/jobs?colour=red")
        .send()
        .await?;
    assert_eq!(unknown.status(), StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() -> anyhow::Result<()> {
    let world = World::plain("docs").await?;
    let api: Value = world
        .request(Method::GET, "/openapi.json")
        .send()
        .await?
        .json()
        .await?;
    assert!(
        api["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1")),
        "{api}"
    );
    for path in [
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/cancel",
        "/v1/leases/claim",
        "/v1/keys",
    ] {
        assert!(api["paths"][path].is_object(), "{path}");
    }
    let docs = world
        .request(Method::GET, "/docs")
        .send()
        .await?
        .text()
        .await?;
    assert!(docs.contains("openapi.json") && !docs.contains("src=\"http"));
    let metrics = world
        .request(Method::GET, "/metrics")
        .send()
        .await?
        .text()
        .await?;
    assert!(metrics.contains("upres_jobs_waiting 0"), "{metrics}");
    for path in [
        "/v1/nowhere",
        "/v1/jobs/nonsense",
        "/v1/jobs/01938e2a-7b3c-7def-8000-0123456789ab",
    ] {
        let answer = world.request(Method::GET, path).send().await?;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_is_listed_with_what_it_works_with() -> anyhow::Result<()> {
    let mut world = World::plain("workers").await?;
    let _worker = world.start_fake_worker_default().await?;
    let program = program_path("upres")?;
    let listed = || {
        let ran = Command::new(&program)
            .args(["workers", "--json", "--api-url", world.url(0)])
            .args(["--api-key", &world.key])
            .output()?;
        anyhow::ensure!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(String::from_utf8(ran.stdout)?)
    };
    until("the worker is heard of", DEADLINE, async || {
        Ok(!listed()?.is_empty())
    })
    .await?;
    let worker: Value = serde_json::from_str(listed()?.trim())?;
    assert_eq!(worker["device"], "cpu", "{worker}");
    assert_eq!(worker["dtype"], "f32", "{worker}");
    assert_eq!(worker["leases"], 0, "{worker}");
    assert!(worker["model"].is_string() && worker["software"].is_string());
    Ok(())
}
