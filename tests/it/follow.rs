//! Following a job: 304, long polls, events.

use std::time::Duration;

use futures_util::future::try_join_all;
use journey_tests::{DEADLINE, FakeWorker, World};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// Reads events until the stream ends: id, name and data of each.
async fn read_events(mut answer: Response) -> anyhow::Result<Vec<(i64, String, Value)>> {
    let mut text = String::new();
    let read = async {
        while let Some(piece) = answer.chunk().await? {
            text.push_str(std::str::from_utf8(&piece)?);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(DEADLINE, read).await??;
    let mut events = Vec::new();
    for block in text.split("\n\n").filter(|block| block.contains("data:")) {
        let field = |name: &str| {
            let mut lines = block.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim().to_owned()
        };
        let data = serde_json::from_str(&field("data"))?;
        events.push((field("id").parse()?, field("event"), data));
    }
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_job_is_answered_with_304_and_a_changed_one_at_every_coordinator()
-> anyhow::Result<()> {
    let mut world = World::plain("etag").await?;
    world.start_coordinator().await?;
    let id = world.submit_photo("a").await?;
    let path = format!("/v1/jobs/{id}");
    let first = world.request(Method::GET, &path).send().await?;
    let tag = first.headers()["etag"].clone();
    assert!(first.headers().contains_key("retry-after"));
    for coordinator in [0, 1, 0, 1] {
        let again = world.request_to(coordinator, Method::GET, &path);
        let again = again.header("If-None-Match", tag.clone()).send().await?;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(again.headers()["etag"], tag);
        assert!(again.headers().contains_key("retry-after"));
        assert!(again.bytes().await?.is_empty());
    }
    // Many wait at the second coordinator for what happens at the first.
    let wait = || async {
        let request = world.request_to(1, Method::GET, &format!("{path}?wait=60"));
        let answer = request.header("If-None-Match", tag.clone()).send().await?;
        Ok::<_, anyhow::Error>((answer.status(), answer.json::<Value>().await?))
    };
    let cancel = async {
        let cancel = world.request(Method::POST, &format!("{path}/cancel"));
        Ok::<_, anyhow::Error>(cancel.send().await?.status())
    };
    let (waited, cancelled) = tokio::join!(try_join_all((0..20).map(|_| wait())), cancel);
    assert_eq!(cancelled?, StatusCode::OK);
    for (status, job) in waited? {
        assert_eq!(
            (status, &job["state"]),
            (StatusCode::OK, &json!("cancelled"))
        );
    }
    // What has ended is never waited for, and nobody is told to come again.
    let ended = world.request(Method::GET, &format!("{path}?wait=60"));
    let ended = ended.send().await?;
    assert!(!ended.headers().contains_key("retry-after"));
    let missing = world.request(
        Method::GET,
        "/v1/jobs/01938e2a-7b3c-7def-8000-0123456789ab?wait=60",
    );
    assert_eq!(missing.send().await?.status(), StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_whole_story_and_go_on_where_one_stopped() -> anyhow::Result<()> {
    let mut world = World::plain("events").await?;
    let manners = FakeWorker {
        tiles: 40,
        tile_ms: 100,
        fail_first: 1,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(manners).await?;
    let id = world.submit_photo("a").await?;
    let path = format!("/v1/jobs/{id}/events");
    let stream = world.request(Method::GET, &path).send().await?;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let events = read_events(stream).await?;
    let states: Vec<_> = events
        .iter()
        .filter(|(_, name, _)| name == "state")
        .map(|(_, _, data)| data["state"].as_str().unwrap_or_default())
        .collect();
    let expected = ["queued", "running", "queued", "running", "succeeded"];
    assert_eq!(states, expected);
    assert!(events.is_sorted_by(|a, b| a.0 < b.0), "{events:?}");
    let progress = events.iter().filter(|(_, name, _)| name == "progress");
    let tiles = progress.map(|(_, _, data)| data["progress"]["tiles_total"].clone());
    assert!(tiles.count() > 0, "a job of seconds shows how far it is");

    // The story is kept: whoever comes later reads it, whoever knows a part reads the rest.
    let kept: Vec<_> = events
        .iter()
        .filter(|(_, name, _)| name == "state")
        .collect();
    let resume = async |known: i64| {
        let request = world.request(Method::GET, &path);
        request
            .header("Last-Event-ID", known.to_string())
            .send()
            .await
    };
    for (index, (version, ..)) in kept.iter().enumerate().take(kept.len() - 1) {
        let rest = read_events(resume(*version).await?).await?;
        assert!(
            rest.iter().eq(kept[index + 1..].iter().copied()),
            "{rest:?}"
        );
    }
    let done = resume(kept[kept.len() - 1].0).await?;
    assert_eq!(done.status(), StatusCode::NO_CONTENT);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stops_ends_its_streams_and_polls() -> anyhow::Result<()> {
    let mut world = World::plain("streams_end").await?;
    let id = world.submit_photo("a").await?;
    let request = |path: &str| world.request(Method::GET, path);
    let stream = request(&format!("/v1/jobs/{id}/events")).send().await?;
    let poll = request(&format!("/v1/jobs/{id}?wait=60"));
    let waiting = async { Ok::<_, anyhow::Error>(poll.send().await?.status()) };
    let reading = read_events(stream);
    let stopping = world.terminate_coordinator(Duration::from_secs(30));
    let (read, _, stopped) = tokio::join!(reading, waiting, stopping);
    assert_eq!(read?[0].1, "state");
    assert!(stopped?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_are_read_at_once() -> anyhow::Result<()> {
    let world = World::plain("lookup").await?;
    let ids = [
        world.submit_photo("a").await?,
        world.submit_photo("b").await?,
    ];
    let nobody = "01938e2a-7b3c-7def-8000-0123456789ab";
    let asked = json!({"ids": [ids[1], "nonsense", ids[0], nobody, ids[1]]});
    let lookup = |body: &Value| world.request(Method::POST, "/v1/jobs/lookup").json(body);
    let found: Value = lookup(&asked).send().await?.json().await?;
    let jobs = found["jobs"].as_array().cloned().unwrap_or_default();
    let found_ids: Vec<_> = jobs.iter().map(|job| job["id"].clone()).collect();
    assert_eq!(found_ids, [json!(ids[1]), json!(ids[0])]);
    assert_eq!(found["missing"], json!(["nonsense", nobody]));
    let too_many = json!({"ids": vec![nobody; 1001]});
    let refused = lookup(&too_many).send().await?;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}
