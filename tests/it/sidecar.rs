//! The record beside a result: there with its image and never without, and true.

use journey_tests::{FakeWorker, World, photo};
use serde_json::{Value, json};
use upres_common::objects::sha256_hex;
use upres_common::sidecar::Sidecar;

async fn record(world: &World, key: &str) -> anyhow::Result<Option<Sidecar>> {
    let bytes = world.store.get(&format!("{key}.upres.json")).await?;
    Ok(bytes
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()?)
}

fn job(world: &World, name: &str, upscale: Value) -> Value {
    json!({
        "input": world.store.uri("in/photo.png"),
        "output": world.store.uri(&format!("out/{name}.png")),
        "upscale": upscale,
        "max_attempts": 3,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_lies_beside_each_result_that_wants_one() -> anyhow::Result<()> {
    let mut world = World::plain("sidecar").await?;
    let _worker = world.start_fake_worker_default().await?;
    let source = photo(24, 16);
    world.store.put("in/photo.png", source.clone()).await?;

    let settings = json!({"timesteps": [250, 50], "seed": 7, "input_sha256": sha256_hex(&source)});
    let id = world.submit(&job(&world, "with", settings)).await?;
    let done = world.succeeds(&id).await?;
    let record_of = record(&world, "out/with.png").await?.expect("a record");
    assert_eq!(
        record_of.output.sha256.as_deref(),
        done["result"]["sha256"].as_str()
    );
    assert_eq!(record_of.output.uri, done["output"]);
    assert_eq!((record_of.output.width, record_of.output.height), (96, 64));
    assert_eq!(record_of.input.sha256, Some(sha256_hex(&source)));
    assert_eq!(record_of.input.bytes, source.len() as u64);
    assert_eq!(record_of.settings.timesteps.as_slice(), [250, 50]);
    assert_eq!(record_of.settings.seed, 7);
    assert_eq!(json!(record_of.job.map(|job| job.id)), done["id"]);
    assert_eq!(
        u64::from(record_of.tiles.tiles),
        done["progress"]["tiles_total"]
    );
    assert!(record_of.began_at <= record_of.finished_at);

    let id = world
        .submit(&job(&world, "without", json!({"sidecar": false})))
        .await?;
    world.succeeds(&id).await?;
    assert_eq!(record(&world, "out/without.png").await?, None);

    // Somebody else's object under the record's name is left alone, and costs the job nothing.
    world
        .store
        .put("out/taken.png.upres.json", b"mine".to_vec())
        .await?;
    let id = world.submit(&job(&world, "taken", json!({}))).await?;
    world.succeeds(&id).await?;
    let there = world.store.get("out/taken.png.upres.json").await?;
    assert_eq!(there.as_deref(), Some(&b"mine"[..]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_input_than_was_meant_is_refused_once_and_leaves_nothing() -> anyhow::Result<()> {
    let mut world = World::plain("other_input").await?;
    let _worker = world.start_fake_worker_default().await?;
    world.store.put("in/photo.png", photo(24, 16)).await?;
    let meant = json!({"input_sha256": sha256_hex(&photo(24, 17))});
    let id = world.submit(&job(&world, "other", meant)).await?;
    let failed = world.wait_for(&id, &["failed", "succeeded"]).await?;
    assert_eq!(failed["error"]["type"], "input/unreadable", "{failed}");
    let detail = failed["error"]["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("SHA-256") && detail.contains(&sha256_hex(&photo(24, 16))),
        "{detail}"
    );
    assert_eq!(
        failed["attempts"].as_array().map(Vec::len),
        Some(1),
        "it is not tried again"
    );
    assert_eq!(world.store.get("out/other.png").await?, None);
    assert_eq!(record(&world, "out/other.png").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_fails_leaves_no_record_and_the_next_one_its_own() -> anyhow::Result<()> {
    let mut world = World::plain("record_of_retry").await?;
    let _worker = world
        .start_fake_worker(FakeWorker {
            tiles: 2,
            fail_first: 1,
            ..FakeWorker::default()
        })
        .await?;
    world.store.put("in/photo.png", photo(24, 16)).await?;
    let id = world.submit(&job(&world, "retried", json!({}))).await?;
    let done = world.succeeds(&id).await?;
    let record = record(&world, "out/retried.png").await?.expect("a record");
    assert_eq!(json!(record.job.map(|job| job.attempt)), done["attempt"]);
    assert_eq!(done["attempt"], 2);
    Ok(())
}
