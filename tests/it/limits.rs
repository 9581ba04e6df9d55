//! A tenant that asks for too much is told when to come back.

use journey_tests::{World, WorldOptions, photo};
use reqwest::{Method, StatusCode};
use serde_json::json;

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
