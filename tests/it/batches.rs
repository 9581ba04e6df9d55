//! Batches: from a prefix to a report that balances, and through the death of whoever reads the source.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use journey_tests::{DEADLINE, FakeWorker, World, WorldOptions, photo, until};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) async fn create(world: &World, batch: &Value) -> anyhow::Result<String> {
    let answer = world
        .request(Method::POST, "/v1/batches")
        .json(batch)
        .send()
        .await?;
    assert_eq!(answer.status(), 202, "{}", answer.text().await?);
    let created: Value = answer.json().await?;
    Ok(created["id"].as_str().unwrap_or_default().to_owned())
}

pub(crate) async fn read(world: &World, id: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/batches/{id}");
    Ok(world
        .request(Method::GET, &path)
        .send()
        .await?
        .json()
        .await?)
}

pub(crate) async fn finished(world: &World, id: &str) -> anyhow::Result<Value> {
    finished_within(world, id, DEADLINE).await
}

/// For a batch that is minutes of one processor's work, of which a loaded machine gives little.
pub(crate) async fn finished_within(
    world: &World,
    id: &str,
    deadline: Duration,
) -> anyhow::Result<Value> {
    until("the batch is finished", deadline, async || {
        Ok(read(world, id).await?["phase"] == "finished")
    })
    .await?;
    read(world, id).await
}

pub(crate) async fn listed(world: &World, id: &str) -> anyhow::Result<()> {
    until("the listing's end", DEADLINE, async || {
        Ok(read(world, id).await?["phase"] != "listing")
    })
    .await
}

pub(crate) async fn report(world: &World, id: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("/v1/batches/{id}/report");
    let text = world
        .request(Method::GET, &path)
        .send()
        .await?
        .text()
        .await?;
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_becomes_a_report_that_balances() -> anyhow::Result<()> {
    let mut world = World::plain("batch_prefix").await?;
    for index in 0..9 {
        let key = format!("box/{}/{index}.png", index % 2);
        world.store.put(&key, photo(24, 16)).await?;
    }
    world
        .store
        .put("box/broken.png", b"no picture".to_vec())
        .await?;
    world
        .store
        .put("box/notes.txt", b"left out".to_vec())
        .await?;
    world.store.put("boxes/other.png", photo(24, 16)).await?;
    let batch = json!({
        "prefix": world.store.uri("box/"), "include": ["**/*.png"], "labels": {"box": "12"},
        "output": world.store.uri("out/{dir}/{stem}-x4.{ext}"), "report": world.store.uri("reports/12/"),
        "upscale": {"steps": 3},
    });
    let path = "/v1/batches?validate_only=true";
    let price: Value = world
        .request(Method::POST, path)
        .json(&batch)
        .send()
        .await?
        .json()
        .await?;
    assert_eq!(
        (&price["files"], &price["skipped"]),
        (&json!(10), &json!(1)),
        "{price}"
    );
    assert_eq!(price["sampled"], 10);

    let id = create(&world, &batch).await?;
    let _worker = world.start_fake_worker_default().await?;
    let end = finished(&world, &id).await?;
    assert_eq!(
        (&end["listed"], &end["skipped"]),
        (&json!(11), &json!(1)),
        "{end}"
    );
    assert_eq!(end["counts"]["succeeded"], 9, "{end}");
    assert_eq!(end["errors"], json!({"input/unreadable": 1}), "{end}");
    assert_eq!(end["work"]["left"], 0);

    let lines = report(&world, &id).await?;
    assert_eq!(lines.len(), 10);
    for line in lines.iter().filter(|line| line["status"] == "succeeded") {
        let output = line["output"].as_str().unwrap_or_default();
        let key = output
            .strip_prefix(&world.store.uri(""))
            .unwrap_or_default();
        assert!(
            key.starts_with("out/0/") || key.starts_with("out/1/"),
            "{key}"
        );
        let stored = world.store.sha256(key).await?;
        assert_eq!(line["output_sha256"].as_str(), stored.as_deref());
        assert_eq!(line["timesteps"], json!([200, 100, 50]));
        let input = line["input"].as_str().unwrap_or_default();
        let key = input.strip_prefix(&world.store.uri("")).unwrap_or_default();
        let read = world.store.sha256(key).await?;
        assert_eq!(line["input_sha256"].as_str(), read.as_deref());
    }
    let written = world
        .store
        .get("reports/12/report.jsonl")
        .await?
        .unwrap_or_default();
    assert_eq!(String::from_utf8(written)?.lines().count(), 10);
    let table = world
        .store
        .get("reports/12/report.csv")
        .await?
        .unwrap_or_default();
    assert_eq!(String::from_utf8(table)?.lines().count(), 11);

    // The same once more: a report is not overwritten, nothing is computed again, and only what another
    // attempt can help is retried.
    let post = world.request(Method::POST, "/v1/batches").json(&batch);
    let refused = post.send().await?;
    assert_eq!(refused.status(), 409);
    let refused: Value = refused.json().await?;
    assert_eq!(refused["errors"][0]["pointer"], "/report", "{refused}");
    let mut batch = batch;
    batch["report"] = json!(world.store.uri("reports/13/"));
    let again = finished(&world, &create(&world, &batch).await?).await?;
    assert_eq!(
        again["errors"],
        json!({"input/unreadable": 1, "output/exists": 9}),
        "{again}"
    );
    let id = again["id"].as_str().unwrap_or_default();
    let lines = report(&world, id).await?;
    let attempts: i64 = lines
        .iter()
        .filter_map(|line| line["attempts"].as_i64())
        .sum();
    assert_eq!(attempts, 1, "the broken one's");
    let path = format!("/v1/batches/{id}/retry-failed");
    for (body, said) in [
        (json!({}), "9 output/exists, 1 input/unreadable"),
        (json!({"error_type": "device/"}), "failed of device/"),
    ] {
        let asked = world.request(Method::POST, &path).json(&body).send();
        let asked = asked.await?;
        assert_eq!(asked.status(), 409);
        let problem: Value = asked.json().await?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(said), "{problem}");
    }
    assert_eq!(read(&world, id).await?["phase"], "finished");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_under_a_prefix_is_no_input_of_its_next_batch() -> anyhow::Result<()> {
    let mut world = World::plain("batch_again").await?;
    let _worker = world.start_fake_worker_default().await?;
    for name in ["a", "b"] {
        let key = format!("box/{name}.png");
        world.store.put(&key, photo(24, 16)).await?;
    }
    let batch = |mark: &str| {
        let output = world.store.uri(&format!("box/x4/{{stem}}-{mark}.{{ext}}"));
        let report = world.store.uri(&format!("box/reports/{mark}"));
        json!({"prefix": world.store.uri("box/"), "output": output, "report": report})
    };
    let first = finished(&world, &create(&world, &batch("1")).await?).await?;
    assert_eq!(first["counts"]["succeeded"], 2, "{first}");
    let record = world.store.get("box/x4/a-1.png.upres.json").await?;
    assert!(record.is_some(), "records lie there, too");
    let price = world
        .request(Method::POST, "/v1/batches?validate_only=true")
        .json(&batch("2"));
    let price: Value = price.send().await?.json().await?;
    // Results, records and both reports.
    assert_eq!((&price["files"], &price["skipped"]), (&json!(2), &json!(6)));
    let second = finished(&world, &create(&world, &batch("2")).await?).await?;
    assert_eq!(second["counts"]["succeeded"], 2, "{second}");
    assert_eq!(
        (&second["listed"], &second["skipped"]),
        (&json!(8), &json!(6))
    );
    // Who names the results themselves means them.
    let output = world.store.uri("x16/{stem}.{ext}");
    let of_results = json!({
        "prefix": world.store.uri("box/x4/"), "include": ["*-1.png"], "output": output,
    });
    let third = finished(&world, &create(&world, &of_results).await?).await?;
    assert_eq!(third["counts"]["succeeded"], 2, "{third}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_followed_without_being_read_again() -> anyhow::Result<()> {
    let mut world = World::plain("batch_follow").await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let item =
        json!({"input": world.store.uri("in/a.png"), "output": world.store.uri("out/a.png")});
    let id = create(&world, &json!({"items": [item]})).await?;
    let path = format!("/v1/batches/{id}");
    let ask = async |query: &str, tag: &str| {
        let get = world.request(Method::GET, &format!("{path}{query}"));
        get.header("If-None-Match", tag).send().await
    };
    until("its only job is priced and waits", DEADLINE, async || {
        let batch = read(&world, &id).await?;
        let left = batch["work"]["left"].as_i64().unwrap_or_default();
        Ok(batch["phase"] == "queued" && left > 0)
    })
    .await?;
    let first = ask("", "\"none\"").await?;
    assert_eq!(first.status(), 200);
    let tag = first.headers()["etag"].to_str()?.to_owned();
    assert_eq!(ask("", &tag).await?.status(), 304);
    assert_eq!(ask("?wait=1", &tag).await?.status(), 304);
    assert_eq!(ask("?wait=forever", &tag).await?.status(), 422);
    let _worker = world.start_fake_worker_default().await?;
    let mut tag = tag;
    until("a wait ends with the batch", DEADLINE, async || {
        let get = world.request(Method::GET, &format!("{path}?wait=60"));
        let answer = get.header("If-None-Match", &tag).send().await?;
        anyhow::ensure!(answer.status() == 200, "woken for nothing");
        answer.headers()["etag"].to_str()?.clone_into(&mut tag);
        Ok(answer.json::<Value>().await?["phase"] == "finished")
    })
    .await?;
    let over = world.request(Method::POST, &format!("{path}/pause"));
    assert_eq!(over.send().await?.status(), 409);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_expanded_exactly_once_however_often_its_reader_dies() -> anyhow::Result<()> {
    const LINES: usize = 12_000;
    let mut world = World::plain("batch_killed").await?;
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    for line in 1..=LINES {
        // Every hundredth shares its output with the one before it, every thousandth is no item.
        let output = world
            .store
            .uri(&format!("out/{}.png", line - usize::from(line % 100 == 0)));
        let input = world.store.uri(&format!("in/{line}.png"));
        match line % 1000 {
            999 => writeln!(zipped, "not an item")?,
            _ => writeln!(zipped, "{}", json!({"input": input, "output": output}))?,
        }
    }
    world.store.put("list.jsonl.gz", zipped.finish()?).await?;
    let id = create(
        &world,
        &json!({"manifest": world.store.uri("list.jsonl.gz")}),
    )
    .await?;
    let mut deaths = 0;
    let mut seen = 0;
    while deaths < 4 {
        let batch = read(&world, &id).await?;
        let listed = batch["listed"].as_u64().unwrap_or_default();
        if batch["expanded_at"].is_string() {
            break;
        }
        if listed > seen {
            seen = listed;
            world.kill_coordinator(0);
            // What it held is free for others only after a minute: let them have it at once.
            world.start_coordinator().await?;
            let_go(&world, &id).await?;
            deaths += 1;
        }
    }
    assert!(deaths > 0, "nobody was killed in the middle");
    until("the batch is read to its end", DEADLINE, async || {
        Ok(read(&world, &id).await?["expanded_at"].is_string())
    })
    .await?;
    let batch = read(&world, &id).await?;
    // Of each thousand: one line is none, and so its neighbour, which shares its output, is alone.
    let (refused, jobs) = (LINES / 1000 * (1 + 9), LINES - LINES / 1000 * 10);
    assert_eq!(batch["listed"], json!(LINES), "{batch}");
    assert_eq!(batch["refused"], json!(refused), "{batch}");
    assert_eq!(batch["counts"]["queued"], json!(jobs), "{batch}");
    let lines = report(&world, &id).await?;
    let numbers: Vec<_> = lines
        .iter()
        .filter_map(|line| line["line"].as_u64())
        .collect();
    assert!(
        numbers.iter().copied().eq(1..=LINES as u64),
        "every line once"
    );

    let path = format!("/v1/batches/{id}/cancel");
    world
        .request(Method::POST, &path)
        .send()
        .await?
        .error_for_status()?;
    let end = finished(&world, &id).await?;
    assert_eq!(end["counts"]["cancelled"], json!(jobs), "{end}");
    Ok(())
}

async fn let_go(world: &World, id: &str) -> anyhow::Result<()> {
    let pool = sqlx::PgPool::connect(&world.database_url).await?;
    sqlx::query("update batches set expanding_until = null where batch_id = $1::uuid")
        .bind(id)
        .execute(&pool)
        .await?;
    pool.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_his_own_tenant_is_told_so() -> anyhow::Result<()> {
    let settings = vec![("UPRES_TENANT_RUNNING", "1")];
    let options = WorldOptions {
        settings,
        ..WorldOptions::default()
    };
    let world = World::new("tenant_limit", options).await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let items = |from: i32| -> Vec<_> {
        let outputs = (from..from + 3).map(|n| world.store.uri(&format!("out/{n}.png")));
        let input = world.store.uri("in/a.png");
        outputs
            .map(|output| json!({"input": input, "output": output}))
            .collect()
    };
    let first = create(&world, &json!({"items": items(0)})).await?;
    let expected = [("no_worker", 1), ("tenant_limit", 1), ("turn", 1)];
    explained(&world, &first, &expected).await?;
    // A more urgent batch goes before what is left of the first.
    let urgent = create(&world, &json!({"items": items(3), "priority": 9})).await?;
    explained(&world, &urgent, &[("tenant_limit", 1), ("turn", 2)]).await?;
    explained(&world, &first, &[("no_worker", 1), ("turn", 2)]).await?;
    Ok(())
}

/// Waits until the jobs of a batch wait for these reasons.
async fn explained(world: &World, id: &str, expected: &[(&str, i32)]) -> anyhow::Result<()> {
    let expected = expected
        .iter()
        .map(|(word, jobs)| ((*word).to_owned(), *jobs));
    let expected = BTreeMap::from_iter(expected);
    let what = format!("the jobs of the batch wait for {expected:?}");
    let are = async || Ok(reasons(world, id).await? == expected);
    until(&what, DEADLINE, are).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_explained_and_another_tenant_is_not_kept_waiting() -> anyhow::Result<()> {
    let mut world = World::new(
        "batch_shares",
        WorldOptions {
            settings: vec![
                ("UPRES_RELEASE_LIMIT", "2"),
                ("UPRES_RELEASE_AT_LEAST", "2"),
            ],
            ..WorldOptions::default()
        },
    )
    .await?;
    world.store.put("in/a.png", photo(24, 16)).await?;
    let items: Vec<_> = (0..40)
        .map(|n| json!({"input": world.store.uri("in/a.png"), "output": world.store.uri(&format!("out/{n}.png"))}))
        .collect();
    let id = create(&world, &json!({"items": items})).await?;
    explained(&world, &id, &[("no_worker", 2), ("turn", 38)]).await?;
    // Another tenant's only job of the class stands behind forty, and is among the first three that run.
    let key = world.key_of("other")?;
    let job = json!({"input": world.store.uri("in/a.png"), "output": world.store.uri("other/1.png"), "class": "bulk"});
    let url = format!("{}/v1/jobs", world.url(0));
    let client = reqwest::Client::new();
    let job = client.post(&url).bearer_auth(&key).json(&job).send();
    let job: Value = job.await?.error_for_status()?.json().await?;
    let job = format!("{url}/{}", job["id"].as_str().unwrap_or_default());
    let _worker = world
        .start_fake_worker(FakeWorker {
            tiles: 1,
            tile_ms: 50,
            ..FakeWorker::default()
        })
        .await?;
    until("the other tenant's job is done", DEADLINE, async || {
        let job: Value = client
            .get(&job)
            .bearer_auth(&key)
            .send()
            .await?
            .json()
            .await?;
        Ok(job["state"] == "succeeded")
    })
    .await?;
    let open = read(&world, &id).await?["counts"].clone();
    assert!(open["queued"].as_i64().unwrap_or_default() > 20, "{open}");
    Ok(())
}

/// Why the jobs of a batch are not running, and how many for each reason.
async fn reasons(world: &World, id: &str) -> anyhow::Result<BTreeMap<String, i32>> {
    let get = async |path: String| -> anyhow::Result<Value> {
        let answer = world.request(Method::GET, &path).send().await?;
        Ok(answer.json().await?)
    };
    let page = get(format!("/v1/jobs?batch={id}&limit=100")).await?;
    let mut reasons = BTreeMap::new();
    for job in page["jobs"].as_array().into_iter().flatten() {
        let id = job["id"].as_str().unwrap_or_default();
        let why = get(format!("/v1/jobs/{id}/explain")).await?;
        let reason = why["reason"].as_str().unwrap_or_default().to_owned();
        *reasons.entry(reason).or_insert(0) += 1;
    }
    Ok(reasons)
}
