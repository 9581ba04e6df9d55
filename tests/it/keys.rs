//! API keys: scopes, prefixes, tenants' eyes.

use journey_tests::{DEADLINE, World, photo, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// As a whole, as far as its template tells.
async fn of_a_batch_too(world: &World, key: &str) -> anyhow::Result<()> {
    for (output, expected) in [
        ("elsewhere/{stem}.{ext}", StatusCode::FORBIDDEN),
        ("out/{stem}.{ext}", StatusCode::OK),
        ("o{stem}/{name}", StatusCode::OK),
    ] {
        let batch =
            json!({"prefix": world.store.uri("masters/"), "output": world.store.uri(output)});
        let asked = reqwest::Client::new()
            .post(format!("{}/v1/batches?validate_only=true", world.url(0)))
            .bearer_auth(key)
            .json(&batch);
        let answer = asked.send().await?;
        assert_eq!(
            answer.status(),
            expected,
            "{output}: {}",
            answer.text().await?
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_it_may_and_nothing_else() -> anyhow::Result<()> {
    let world = World::plain("keys").await?;
    world.store.put("masters/a.png", photo(24, 16)).await?;
    world.store.put("private/a.png", photo(24, 16)).await?;
    let request = json!({
        "scopes": ["submit", "read"], "label": "archive",
        "read_prefixes": [world.store.uri("masters/")], "write_prefixes": [world.store.uri("out/")],
    });
    let made: Value = world
        .request(Method::POST, "/v1/keys")
        .json(&request)
        .send()
        .await?
        .json()
        .await?;
    let key = made["key"].as_str().unwrap_or_default().to_owned();
    let client = reqwest::Client::new();
    let post =
        async |key: &str, input: &str, output: &str| -> anyhow::Result<(StatusCode, Value)> {
            let job = json!({"input": world.store.uri(input), "output": world.store.uri(output)});
            let request = client
                .post(format!("{}/v1/jobs", world.url(0)))
                .bearer_auth(key)
                .json(&job);
            let answer = request.send().await?;
            Ok((answer.status(), answer.json().await?))
        };
    assert_eq!(
        post(&key, "masters/a.png", "out/a.png").await?.0,
        StatusCode::ACCEPTED
    );
    for (input, output, pointer) in [
        ("private/a.png", "out/b.png", "/input"),
        ("masters/a.png", "masters/b.png", "/output"),
        ("masters/a.png", "out2/b.png", "/output"),
    ] {
        let (status, body) = post(&key, input, output).await?;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        assert_eq!(body["errors"][0]["pointer"], pointer);
    }
    of_a_batch_too(&world, &key).await?;
    let forbidden = [
        client.get(format!("{}/v1/keys", world.url(0))),
        client
            .post(format!("{}/v1/leases/claim", world.url(0)))
            .json(&json!({"worker_id": "x", "job_ids": []})),
    ];
    for request in forbidden {
        assert_eq!(
            request.bearer_auth(&key).send().await?.status(),
            StatusCode::FORBIDDEN
        );
    }

    let id = made["id"].as_str().unwrap_or_default();
    let wrong = format!("upres_{id}_{}", "0".repeat(64));
    for no_key in [wrong.as_str(), "nonsense"] {
        let refused = post(no_key, "masters/a.png", "out/c.png").await?;
        assert_eq!(refused.0, StatusCode::UNAUTHORIZED);
    }
    let revoked = world
        .request(Method::DELETE, &format!("/v1/keys/{id}"))
        .send()
        .await?;
    assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        post(&key, "masters/a.png", "out/c.png").await?.0,
        StatusCode::UNAUTHORIZED
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_neither_stored_nor_logged() -> anyhow::Result<()> {
    let mut world = World::plain("secrets").await?;
    let worker = world.start_fake_worker_default().await?;
    let id = world.submit_photo("a").await?;
    world.succeeds(&id).await?;
    let secret = world.key.rsplit('_').next().unwrap_or_default().to_owned();
    let mut database = world.database().await?;
    let stored: Vec<String> = sqlx::query_scalar("select api_keys::text from api_keys")
        .fetch_all(&mut database)
        .await?;
    assert!(!stored.is_empty() && stored.iter().all(|row| !row.contains(&secret)));
    assert!(!world.coordinator_log().contains(&secret));
    let log = worker.log();
    let mut words = log.split(|c: char| !c.is_ascii_hexdigit());
    assert!(
        words.all(|word| word.len() < 64),
        "the worker logged something as long as a secret"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_soon_refused_by_every_coordinator() -> anyhow::Result<()> {
    let mut world = World::plain("revoked").await?;
    world.start_coordinator().await?;
    let request = json!({"scopes": ["read"]});
    let made = world.request(Method::POST, "/v1/keys").json(&request);
    let made: Value = made.send().await?.json().await?;
    let (key, id) = (made["key"].as_str(), made["id"].as_str());
    let (key, id) = (key.unwrap_or_default(), id.unwrap_or_default());
    let client = reqwest::Client::new();
    let list = async |coordinator: usize| -> anyhow::Result<StatusCode> {
        let jobs = client.get(format!("{}/v1/jobs", world.url(coordinator)));
        Ok(jobs.bearer_auth(key).send().await?.status())
    };
    assert_eq!(
        (list(0).await?, list(1).await?),
        (StatusCode::OK, StatusCode::OK)
    );
    let revoke = world.request(Method::DELETE, &format!("/v1/keys/{id}"));
    assert_eq!(revoke.send().await?.status(), StatusCode::NO_CONTENT);
    assert_eq!(list(0).await?, StatusCode::UNAUTHORIZED);
    until("the other refuses it", DEADLINE, async || {
        Ok(list(1).await? == StatusCode::UNAUTHORIZED)
    })
    .await
}
