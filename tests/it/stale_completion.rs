//! A worker, played by this test, that comes too late.

use journey_tests::{DEADLINE, World, photo, until};
use reqwest::Method;
use serde_json::{Value, json};
use upres_common::objects::{ObjectStore, ObjectUri, Ownership, S3Args, sha256_hex};

/// A worker's side of the lease API, with an upload of its own.
struct Attempt {
    lease: Value,
    output: ObjectUri,
    bytes: Vec<u8>,
}

impl Attempt {
    /// Claims the job as soon as that is possible.
    async fn claim(world: &World, id: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        let request = json!({"worker_id": "test", "job_ids": [id]});
        let mut lease = Value::Null;
        until("the job is claimed", DEADLINE, async || {
            let answer = world
                .request(Method::POST, "/v1/leases/claim")
                .json(&request)
                .send()
                .await?;
            lease = answer.json::<Value>().await?["leases"][0].clone();
            Ok(!lease.is_null())
        })
        .await?;
        let output = lease["output"].as_str().unwrap_or_default().parse()?;
        Ok(Self {
            lease,
            output,
            bytes: bytes.to_vec(),
        })
    }

    fn ownership(&self) -> anyhow::Result<Ownership> {
        Ok(Ownership {
            job_id: serde_json::from_value(self.lease["job_id"].clone())?,
            attempt: serde_json::from_value(self.lease["attempt"].clone())?,
            token: serde_json::from_value(self.lease["token"].clone())?,
        })
    }

    /// Uploads its bytes and returns what it would report.
    async fn upload(&self, objects: &ObjectStore) -> anyhow::Result<Value> {
        let upload_id = objects
            .begin_upload(&self.output, "image/png", &self.ownership()?)
            .await?;
        let part = objects
            .put_part(&self.output, &upload_id, 1, self.bytes.clone().into())
            .await?;
        Ok(json!({
            "job_id": self.lease["job_id"], "token": self.lease["token"],
            "outcome": {
                "upload_id": upload_id, "upload_token": self.lease["token"], "parts": [part], "sha256": sha256_hex(&self.bytes),
                "bytes": self.bytes.len(), "width": 96, "height": 64, "timings": {}, "warnings": [],
                "progress": {"tiles": 1, "tiles_total": 1, "tile_steps_total": 1},
            },
        }))
    }
}

async fn objects(world: &World) -> ObjectStore {
    ObjectStore::new(&S3Args {
        s3_endpoint: Some(world.s3_endpoint().to_owned()),
        s3_region: "us-east-1".to_owned(),
    })
    .await
}

async fn complete(world: &World, report: &Value) -> anyhow::Result<Value> {
    let answer = world
        .request(Method::POST, "/v1/leases/complete")
        .json(report)
        .send()
        .await?;
    Ok(answer.error_for_status()?.json().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_completion_is_refused_and_its_bytes_stay_invisible() -> anyhow::Result<()> {
    let world = World::plain("stale").await?;
    let objects = objects(&world).await;
    let id = world.submit_photo("a").await?;
    let late = Attempt::claim(&world, &id, &photo(96, 64)).await?;
    let late_report = late.upload(&objects).await?;
    // The lease lapses, because this worker sends no heartbeat; the next claim gets a later token.
    let next = Attempt::claim(&world, &id, &photo(96, 65)).await?;
    assert!(next.lease["token"].as_i64() > late.lease["token"].as_i64());

    assert_eq!(complete(&world, &late_report).await?["superseded"], true);
    assert_eq!(
        world.store.get("out/a.png").await?,
        None,
        "a superseded result became visible"
    );
    for verb in ["fail", "release"] {
        let report = json!({
            "job_id": late.lease["job_id"], "token": late.lease["token"], "reason": "late",
            "error": {"type": "input/unreadable", "detail": "late"},
        });
        let path = format!("/v1/leases/{verb}");
        let answer = world
            .request(Method::POST, &path)
            .json(&report)
            .send()
            .await?;
        assert_eq!(answer.json::<Value>().await?["superseded"], true, "{verb}");
    }
    let beat = json!({"worker_id": "test", "leases": [
        {"job_id": late.lease["job_id"], "token": late.lease["token"], "progress": null, "upload_id": null},
    ]});
    let answer = world
        .request(Method::POST, "/v1/leases/heartbeat")
        .json(&beat)
        .send()
        .await?;
    assert_eq!(answer.json::<Value>().await?["verdicts"], json!(["lost"]));

    assert_eq!(
        complete(&world, &next.upload(&objects).await?).await?["superseded"],
        false
    );
    world.succeeds(&id).await?;
    assert_eq!(world.store.get("out/a.png").await?, Some(next.bytes));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_asked_for_twice_publishes_once_and_answers_the_same() -> anyhow::Result<()> {
    let world = World::plain("twice").await?;
    let objects = objects(&world).await;
    let id = world.submit_photo("a").await?;
    let attempt = Attempt::claim(&world, &id, &photo(96, 64)).await?;
    let report = attempt.upload(&objects).await?;
    for _ in 0..2 {
        let answer = complete(&world, &report).await?;
        assert_eq!(
            (&answer["state"], &answer["superseded"]),
            (&json!("succeeded"), &json!(false))
        );
    }
    assert_eq!(
        world.succeeds(&id).await?["attempts"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_publishing_and_recording_is_repaired_from_the_object() -> anyhow::Result<()>
{
    let world = World::plain("repaired").await?;
    let objects = objects(&world).await;
    let id = world.submit_photo("a").await?;
    let attempt = Attempt::claim(&world, &id, &photo(96, 64)).await?;
    let report = attempt.upload(&objects).await?;
    // What a coordinator leaves behind that died after the store had completed the upload and before
    // it could write that down.
    let outcome = &report["outcome"];
    let parts = serde_json::from_value::<Vec<_>>(outcome["parts"].clone())?;
    let upload_id = outcome["upload_id"].as_str().unwrap_or_default();
    let mut database = world.database().await?;
    sqlx::query(
        "update jobs set publishing = true, publication = $1, lease_until = now() - interval '1 s'",
    )
    .bind(outcome)
    .execute(&mut database)
    .await?;
    objects
        .complete_upload(&attempt.output, upload_id, &parts, true)
        .await?;
    // Nobody asks: the reaper finds it.
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempt"], 1);
    assert_eq!(world.store.get("out/a.png").await?, Some(attempt.bytes));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_publishing_is_finished_by_the_reaper() -> anyhow::Result<()> {
    let world = World::plain("finished").await?;
    let objects = objects(&world).await;
    let id = world.submit_photo("a").await?;
    let attempt = Attempt::claim(&world, &id, &photo(96, 64)).await?;
    let report = attempt.upload(&objects).await?;
    let mut database = world.database().await?;
    sqlx::query(
        "update jobs set publishing = true, publication = $1, lease_until = now() - interval '1 s'",
    )
    .bind(&report["outcome"])
    .execute(&mut database)
    .await?;
    assert_eq!(world.succeeds(&id).await?["attempt"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_to_go_on_from_may_be_long() -> anyhow::Result<()> {
    let world = World::plain("long_place").await?;
    let id = world.submit_photo("a").await?;
    let attempt = Attempt::claim(&world, &id, &photo(96, 64)).await?;
    // Of a TIFF in hundreds of thousands of tiles.
    let resume = json!({
        "upload_id": "u", "upload_token": attempt.lease["token"], "parts": [], "next_row": 64,
        "state": "0".repeat(20 << 20),
    });
    let (job, token) = (&attempt.lease["job_id"], &attempt.lease["token"]);
    let beat = json!({"job_id": job, "token": token, "progress": null, "upload_id": "u", "resume": resume});
    let ask = async |verb: &str, body: Value| -> anyhow::Result<Value> {
        let request = world.request(Method::POST, &format!("/v1/leases/{verb}"));
        let answer = request.json(&body).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    };
    let beats = json!({"worker_id": "test", "leases": [beat]});
    let held = ask("heartbeat", beats).await?;
    assert_eq!(held["verdicts"], json!(["held"]));
    let back = json!({"job_id": job, "token": token, "reason": "it drains", "resume": resume});
    assert_eq!(ask("release", back).await?["state"], "queued");
    let next = Attempt::claim(&world, &id, &photo(96, 64)).await?;
    assert_eq!(next.lease["resume"], resume);
    Ok(())
}
