//! Being told of a job's end.

use std::collections::BTreeSet;

use journey_tests::{DEADLINE, Receiver, World, WorldOptions, photo, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn calling_world(story: &str) -> anyhow::Result<World> {
    let settings = vec![
        ("UPRES_WEBHOOK_ALLOW_PRIVATE", "true"),
        ("UPRES_WEBHOOK_RETRY_SECS", "0.2,0.2,0.2"),
    ];
    let options = WorldOptions {
        settings,
        ..WorldOptions::default()
    };
    World::new(story, options).await
}

async fn send(world: &World, method: Method, path: &str) -> anyhow::Result<(StatusCode, Value)> {
    let answer = world.request(method, path).json(&json!({})).send().await?;
    Ok((answer.status(), answer.json().await?))
}

async fn new_secret(world: &World) -> anyhow::Result<(String, String)> {
    let (status, made) = send(world, Method::POST, "/v1/webhooks/secrets").await?;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    Ok((text("id"), text("secret")))
}

async fn submit(world: &World, name: &str, webhook: &str) -> anyhow::Result<(StatusCode, Value)> {
    let input = world.store.uri(&format!("in/{name}.png"));
    let output = world.store.uri(&format!("out/{name}.png"));
    world
        .store
        .put(&format!("in/{name}.png"), photo(24, 16))
        .await?;
    let job = json!({"input": input, "output": output, "webhook": webhook, "labels": {"box": "7"}});
    world.post_job(&job).await
}

/// The one delivery of a job, once it has that state.
async fn delivery(world: &World, job: &str, state: &str) -> anyhow::Result<Value> {
    let mut found = Value::Null;
    until("the delivery's state", DEADLINE, async || {
        let path = format!("/v1/webhooks/deliveries?job={job}");
        let (_, page) = send(world, Method::GET, &path).await?;
        assert!(
            page["deliveries"]
                .as_array()
                .is_none_or(|all| all.len() <= 1),
            "{page}"
        );
        found = page["deliveries"][0].clone();
        Ok(found["state"] == state)
    })
    .await?;
    let path = format!(
        "/v1/webhooks/deliveries/{}",
        found["id"].as_str().unwrap_or_default()
    );
    Ok(send(world, Method::GET, &path).await?.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_signed_retried_logged_and_replayed_as_it_was() -> anyhow::Result<()> {
    let mut world = calling_world("webhook").await?;
    let receiver = Receiver::start().await?;
    let url = receiver.url("/hook");
    let (status, refused) = submit(&world, "a", &url).await?;
    assert_eq!(
        status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "unsigned: {refused}"
    );
    let (_, oldest) = new_secret(&world).await?;
    let (_, old) = new_secret(&world).await?;
    let (_, new) = new_secret(&world).await?;

    // Neither a failure nor a redirect counts as delivered, and a redirect is not followed.
    receiver.answer_next(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FOUND]);
    let (status, job) = submit(&world, "a", &url).await?;
    assert_eq!(
        (status, &job["webhook"]),
        (StatusCode::ACCEPTED, &json!(url)),
        "{job}"
    );
    let id = job["id"].as_str().unwrap_or_default().to_owned();
    let _worker = world.start_fake_worker_default().await?;
    world.succeeds(&id).await?;
    let done = delivery(&world, &id, "delivered").await?;
    let log = done["log"].as_array().cloned().unwrap_or_default();
    let statuses: Vec<_> = log.iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, [json!(500), json!(302), json!(204)], "{done}");
    assert!(
        log[0]["error"].is_string() && log[2]["error"].is_null(),
        "{done}"
    );

    let messages = receiver.messages();
    let message = &messages[2];
    for again in &messages {
        assert_eq!(
            (&again.path, &again.id, &again.body),
            (&message.path, &message.id, &message.body)
        );
        assert!(again.is_signed_with(&new) && again.is_signed_with(&old));
        assert!(!again.is_signed_with(&oldest), "only two during rotation");
    }
    assert_eq!(done["id"], message.id);
    let body: Value = serde_json::from_str(&message.body)?;
    assert_eq!(
        (&body["type"], &body["data"]["id"]),
        (&json!("job.succeeded"), &json!(id))
    );
    let job = world.job(&id).await?;
    for field in ["state", "version", "result", "labels", "output", "attempt"] {
        assert_eq!(body["data"][field], job[field], "{field}");
    }

    let replay = format!("/v1/webhooks/deliveries/{}/replay", message.id);
    assert_eq!(
        send(&world, Method::POST, &replay).await?.0,
        StatusCode::ACCEPTED
    );
    until("it comes again", DEADLINE, async || {
        Ok(receiver.messages().len() == 4)
    })
    .await?;
    assert_eq!(receiver.messages()[3].body, message.body);
    assert_eq!(delivery(&world, &id, "delivered").await?["attempts"], 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_well_is_given_up_and_one_that_is_gone_at_once()
-> anyhow::Result<()> {
    let world = calling_world("webhook_fails").await?;
    let receiver = Receiver::start().await?;
    new_secret(&world).await?;
    for (name, answers, attempts) in [
        ("a", &[StatusCode::BAD_GATEWAY; 4][..], 4),
        ("b", &[StatusCode::GONE], 1),
    ] {
        receiver.answer_next(answers);
        let (_, job) = submit(&world, name, &receiver.url("/hook")).await?;
        let id = job["id"].as_str().unwrap_or_default();
        let cancelled = send(&world, Method::POST, &format!("/v1/jobs/{id}/cancel")).await?;
        assert_eq!(cancelled.0, StatusCode::OK);
        let failed = delivery(&world, id, "failed").await?;
        assert_eq!(failed["attempts"], attempts, "{failed}");
        assert_eq!(failed["event"], "job.cancelled");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_tell_each_end_once() -> anyhow::Result<()> {
    let mut world = calling_world("webhook_once").await?;
    world.start_coordinator().await?;
    let receiver = Receiver::start().await?;
    new_secret(&world).await?;
    let mut ids = BTreeSet::new();
    for index in 0..12 {
        let (_, job) = submit(&world, &format!("{index}"), &receiver.url("/hook")).await?;
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        if index % 3 == 0 {
            let cancel = world.request_to(1, Method::POST, &format!("/v1/jobs/{id}/cancel"));
            assert_eq!(cancel.send().await?.status(), StatusCode::OK);
        }
        ids.insert(id);
    }
    let _worker = world.start_fake_worker_at(1, Default::default()).await?;
    let mut last = String::new();
    for id in &ids {
        world.wait_for(id, &["succeeded", "cancelled"]).await?;
        last = delivery(&world, id, "delivered").await?["id"].to_string();
    }
    assert!(last.contains("msg_"));
    let messages = receiver.messages();
    let distinct: BTreeSet<_> = messages.iter().map(|message| &message.id).collect();
    assert_eq!((messages.len(), distinct.len()), (ids.len(), ids.len()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_message_and_a_stream_that_ends_with_it() -> anyhow::Result<()> {
    let mut world = calling_world("webhook_batch").await?;
    let receiver = Receiver::start().await?;
    let (_, secret) = new_secret(&world).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    world
        .store
        .put("in/broken.png", b"no picture".to_vec())
        .await?;
    let item = |input: &str, output: &str| json!({"input": world.store.uri(input), "output": world.store.uri(output)});
    let items = [
        item("in/a.png", "out/1.png"),
        item("in/a.png", "out/2.png"),
        item("in/broken.png", "out/3.png"),
        item("in/../a.png", "out/4.png"),
    ];
    let batch = json!({"items": items, "webhook": receiver.url("/batches")});
    let batch = world
        .request(Method::POST, "/v1/batches")
        .json(&batch)
        .send()
        .await?;
    let batch: Value = batch.error_for_status()?.json().await?;
    let id = batch["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/v1/batches/{id}/events");
    let stream = world.request(Method::GET, &path).send().await?;
    let _worker = world.start_fake_worker_default().await?;
    let text = tokio::time::timeout(DEADLINE, stream.text()).await??;
    let datas: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let last = datas.last().cloned().unwrap_or_default();
    assert!(datas.len() > 1 && last["phase"] == "finished", "{text}");
    let counts = (
        &last["counts"]["succeeded"],
        &last["counts"]["failed"],
        &last["refused"],
    );
    assert_eq!(counts, (&json!(2), &json!(1), &json!(1)));
    let end = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap_or_default();
    let again = world.request(Method::GET, &path);
    let again = again.header("Last-Event-ID", end);
    assert_eq!(again.send().await?.status(), StatusCode::NO_CONTENT);

    until("it was told", DEADLINE, async || {
        Ok(!receiver.messages().is_empty())
    })
    .await?;
    // Had there been more than this one, they would have been there first.
    let list = send(&world, Method::GET, "/v1/webhooks/deliveries")
        .await?
        .1;
    assert_eq!(
        list["deliveries"].as_array().map(Vec::len),
        Some(1),
        "{list}"
    );
    let message = &receiver.messages()[0];
    assert!(message.is_signed_with(&secret));
    let body: Value = serde_json::from_str(&message.body)?;
    assert_eq!(
        (&body["type"], &body["data"]["id"]),
        (&json!("batch.finished"), &json!(id))
    );
    assert_eq!(body["data"]["counts"], json!({"succeeded": 2, "failed": 1}));
    assert_eq!(body["data"]["refused"], 1);
    assert_eq!(list["deliveries"][0]["batch"], json!(id));

    is_told_again_after_a_retry(&world, &receiver, &id, end).await
}

/// The broken one is mended and tried anew: who knows of the end hears of the next, and is told once more.
///
/// - `end`: the id of the event that told of it.
async fn is_told_again_after_a_retry(
    world: &World,
    receiver: &Receiver,
    id: &str,
    end: &str,
) -> anyhow::Result<()> {
    let path = format!("/v1/batches/{id}/events");
    world.store.put("in/broken.png", photo(24, 16)).await?;
    let retry = format!("/v1/batches/{id}/retry-failed");
    let retry = world.request(Method::POST, &retry);
    let retried = retry.json(&json!({"error_type": "input/"})).send().await?;
    assert_eq!(retried.status(), StatusCode::ACCEPTED);
    let stream = world
        .request(Method::GET, &path)
        .header("Last-Event-ID", end)
        .send()
        .await?;
    assert_eq!(stream.status(), StatusCode::OK);
    let text = tokio::time::timeout(DEADLINE, stream.text()).await??;
    let last = text.lines().rev().find_map(|l| l.strip_prefix("data: "));
    let last: Value = serde_json::from_str(last.unwrap_or_default())?;
    assert_eq!(last["phase"], "finished", "{text}");
    assert_eq!(last["counts"]["succeeded"], 3, "{text}");
    until("it was told again", DEADLINE, async || {
        Ok(receiver.messages().len() == 2)
    })
    .await?;
    let messages = receiver.messages();
    assert_ne!(messages[0].id, messages[1].id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_inside_is_called() -> anyhow::Result<()> {
    let world = World::plain("webhook_inside").await?;
    new_secret(&world).await?;
    let receiver = Receiver::start().await?;
    for inside in [
        receiver.url("/hook"),
        receiver.url("/hook").replace("http:", "https:"),
        "https://localhost/hook".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://[::ffff:10.0.0.1]/".to_owned(),
        "https://user:password@example.org/".to_owned(),
        "gopher://example.org/".to_owned(),
    ] {
        let (status, refused) = submit(&world, "a", &inside).await?;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{inside}: {refused}"
        );
        assert_eq!(refused["errors"][0]["pointer"], "/webhook");
    }
    // An address that got in when it was allowed is judged again before it is called.
    let id = world.submit_photo("b").await?;
    let mut database = world.database().await?;
    sqlx::query("insert into job_webhooks values ($1::uuid, $2)")
        .bind(&id)
        .bind(receiver.url("/hook"))
        .execute(&mut database)
        .await?;
    send(&world, Method::POST, &format!("/v1/jobs/{id}/cancel")).await?;
    let mut tried = Value::Null;
    until("it was tried", DEADLINE, async || {
        tried = delivery(&world, &id, "pending").await?;
        Ok(tried["log"].as_array().is_some_and(|log| !log.is_empty()))
    })
    .await?;
    assert!(
        tried["log"][0]["error"].is_string() && tried["log"][0]["status"].is_null(),
        "{tried}"
    );
    assert!(receiver.messages().is_empty());
    Ok(())
}
