//! What bad requests and bad files get: a sentence that names the field, or a failed job with a
//! stable type. Never a retry loop, never a panic.

use journey_tests::{World, photo};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::batches;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_met_is_refused_with_the_field_named() -> anyhow::Result<()> {
    let world = World::plain("bad_requests").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    world.store.put("out/there.png", photo(24, 16)).await?;
    let (input, output) = (world.store.uri("in/a.png"), world.store.uri("out/a.png"));
    let good = json!({"input": input, "output": output});
    let with = |pointer: &str, value: Value| {
        let mut job = good.clone();
        let mut path = pointer.trim_start_matches('/').split('/');
        let (first, second) = (path.next().unwrap_or_default(), path.next());
        match second {
            Some(second) => job[first][second] = value,
            None => job[first] = value,
        }
        (job, pointer.to_owned())
    };
    let unprocessable = [
        with("/input", json!(world.store.uri("in/missing.png"))),
        with("/input", json!("s3://no-such-bucket-anywhere/a.png")),
        with("/output", json!("s3://no-such-bucket-anywhere/a.png")),
        with("/input", json!("photo.png")),
        with("/output", json!(input)),
        with("/upscale/timesteps", json!([50, 250])),
        with("/upscale/timesteps", json!([0])),
        with("/upscale/timesteps", json!([200, 200])),
        with("/upscale/timesteps", json!([])),
        with("/upscale/steps", json!(6)),
        with("/upscale/tile", json!(100)),
        with("/upscale/model", json!("other")),
        with("/max_attempts", json!(0)),
        with("/webhook", json!("ftp://example.org")),
    ];
    for (job, pointer) in unprocessable {
        let (status, body) = world.post_job(&job).await?;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{job}: {body}");
        assert_eq!(body["errors"][0]["pointer"], pointer.as_str(), "{body}");
        assert_eq!(body["type"], "/problems/invalid-request");
    }
    let positional = json!([good["input"], good["output"]]);
    for (malformed, pointer) in [
        with("/upscale/timesteps", json!("250")),
        with("/class", json!("urgent")),
        with("/unknown", json!(1)),
        (positional, String::new()),
        (json!(null), String::new()),
        (json!({}), "/input".to_owned()),
    ] {
        let (status, body) = world.post_job(&malformed).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{malformed}: {body}");
        assert_eq!(body["errors"][0]["pointer"], pointer.as_str(), "{body}");
        assert!(
            !body["errors"][0]["detail"]
                .as_str()
                .unwrap_or_default()
                .is_empty(),
            "{body}"
        );
    }
    let (status, body) = world
        .post_job(&with("/output", json!(world.store.uri("out/there.png"))).0)
        .await?;
    assert_eq!(
        (status, &body["errors"][0]["pointer"]),
        (StatusCode::CONFLICT, &json!("/output"))
    );
    assert!(
        world.post_job(&good).await?.0.is_success(),
        "the good request is good"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_has_no_bucket_is_refused() -> anyhow::Result<()> {
    let world = World::plain("batch_no_bucket").await?;
    let nowhere = "s3://no-such-bucket-anywhere/{stem}.png";
    let batch = json!({"prefix": world.store.uri("in/"), "output": nowhere, "report": nowhere});
    let answer = world.request(Method::POST, "/v1/batches").json(&batch);
    let answer = answer.send().await?;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = answer.json().await?;
    assert_eq!(problem["errors"][0]["pointer"], "/output", "{problem}");
    assert_eq!(problem["errors"][1]["pointer"], "/report", "{problem}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_has_no_bucket_is_tried_once() -> anyhow::Result<()> {
    let mut world = World::plain("no_bucket").await?;
    let _worker = world.start_fake_worker_default().await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    // Of items, which may be many, nobody looks at the buckets before they run.
    let item = json!({"input": world.store.uri("in/a.png"), "output": "s3://no-such-bucket/a.png"});
    let id = batches::create(&world, &json!({"items": [item]})).await?;
    batches::finished(&world, &id).await?;
    let line = &batches::report(&world, &id).await?[0];
    assert_eq!(line["error_type"], "output/not_found", "{line}");
    assert_eq!(line["attempts"], 1, "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_picture_fails_once_with_its_type() -> anyhow::Result<()> {
    let mut world = World::plain("bad_files").await?;
    let mut worker = world.start_fake_worker_default().await?;
    let cut = photo(64, 64);
    let mut bomb = photo(8, 8);
    // The header's width and height: 60,000 each.
    bomb[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    let files: [(&str, Vec<u8>, &str); 6] = [
        (
            "text.png",
            b"this is a text file".to_vec(),
            "input/unreadable",
        ),
        ("empty.png", Vec::new(), "input/unreadable"),
        (
            "html.jpg",
            b"<!DOCTYPE html><html><body>404</body></html>".to_vec(),
            "input/unreadable",
        ),
        ("cut.png", cut[..cut.len() / 2].to_vec(), "input/unreadable"),
        (
            "page.pdf",
            b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n".to_vec(),
            "input/unsupported",
        ),
        ("bomb.png", bomb, ""),
    ];
    let mut jobs = Vec::new();
    for (name, bytes, expected) in files {
        world.store.put(name, bytes).await?;
        let output = world.store.uri(&format!("out/{name}"));
        let id = world
            .submit(&json!({"input": world.store.uri(name), "output": output}))
            .await?;
        jobs.push((id, name, expected));
    }
    for (id, name, expected) in jobs {
        let job = world.wait_for(&id, &["failed", "succeeded"]).await?;
        assert_eq!(job["state"], "failed", "{name}: {job}");
        let found = job["error"]["type"].as_str().unwrap_or_default();
        // The bomb's checksum is wrong too: either reason is right, a crash is not.
        assert!(
            found == expected || (expected.is_empty() && found.starts_with("input/")),
            "{name}: {job}"
        );
        assert_eq!(
            (&job["error"]["retryable"], &job["attempt"]),
            (&json!(false), &json!(1)),
            "{name}"
        );
        assert_eq!(world.store.get(&format!("out/{name}")).await?, None);
    }
    assert!(worker.is_running());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_vanishes_after_submission_fails_once() -> anyhow::Result<()> {
    let mut world = World::plain("vanishes").await?;
    let id = world.submit_photo("a").await?;
    let delete = world
        .store
        .client
        .delete_object()
        .bucket(&world.store.bucket)
        .key("in/a.png");
    delete.send().await?;
    let _worker = world.start_fake_worker_default().await?;
    let job = world.wait_for(&id, &["failed", "succeeded"]).await?;
    assert_eq!(job["error"]["type"], "input/not_found");
    assert_eq!(job["attempt"], 1);
    Ok(())
}
