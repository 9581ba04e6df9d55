//! A batch is run again: only what did not succeed, or has changed since, is made. Its report's folder is a bag.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use journey_tests::{World, photo};
use reqwest::Method;
use serde_json::{Value, json};

use crate::batches::{create, finished, listed, report};

fn by_status(lines: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts
            .entry(line["status"].as_str().unwrap_or_default())
            .or_default() += 1;
    }
    counts
}

/// What is in a report's folder, or will be, is not replaced by another batch unless that is asked for.
async fn check_that_reports_are_kept(world: &World) -> anyhow::Result<()> {
    let declaration = b"BagIt-Version: 1.0".to_vec();
    world.store.put("foreign/bagit.txt", declaration).await?;
    for (folder, is_bag, if_exists, expected) in [
        ("bag", false, "fail", 409),
        ("bag/", false, "overwrite", 200),
        ("foreign/", true, "fail", 409),
        ("foreign/", true, "overwrite", 200),
        ("foreign/", false, "fail", 200),
    ] {
        let batch = json!({
            "prefix": world.store.uri("box/"), "output": world.store.uri("other/{stem}.{ext}"),
            "report": world.store.uri(folder), "bagit": is_bag, "if_exists": if_exists,
        });
        let asked = world
            .request(Method::POST, "/v1/batches?validate_only=true")
            .json(&batch)
            .send()
            .await?;
        assert_eq!(asked.status(), expected, "{batch}: {}", asked.text().await?);
    }
    // Nor is a result put where the report goes.
    let item =
        json!({"input": world.store.uri("box/1.png"), "output": world.store.uri("own/report.csv")});
    let batch = json!({"items": [item], "report": world.store.uri("own/")});
    let asked = world
        .request(Method::POST, "/v1/batches?validate_only=true")
        .json(&batch)
        .send()
        .await?;
    let price: Value = asked.json().await?;
    assert_eq!(price["refused"], 1, "{price}");
    // Of several that come at the same moment, one has it.
    let batch = json!({
        "prefix": world.store.uri("nothing/"), "output": world.store.uri("other/{stem}.{ext}"),
        "report": world.store.uri("contested/"),
    });
    let asked = (0..8).map(|_| {
        let create = world.request(Method::POST, "/v1/batches").json(&batch);
        async { anyhow::Ok(create.send().await?.status().as_u16()) }
    });
    let mut statuses = try_join_all(asked).await?;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 202, "{statuses:?}");
    assert!(
        statuses[1..].iter().all(|status| *status == 409),
        "{statuses:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_run_again_makes_only_what_failed_or_changed() -> anyhow::Result<()> {
    let mut world = World::plain("rerun").await?;
    for index in 0..6 {
        let key = format!("box/{index}.png");
        world.store.put(&key, photo(24 + index, 16)).await?;
    }
    world
        .store
        .put("box/broken.png", b"no picture".to_vec())
        .await?;
    let first = json!({
        "prefix": world.store.uri("box/"), "output": world.store.uri("bag/data/{stem}.{ext}"),
        "report": world.store.uri("bag/"), "bagit": true, "finish_by": "2100-01-01T00:00:00Z",
    });
    let parent = create(&world, &first).await?;
    let unfinished = world
        .request(Method::POST, "/v1/batches")
        .json(&json!({ "parent": parent }))
        .send()
        .await?;
    assert_eq!(unfinished.status(), 422, "it is not over");
    check_that_reports_are_kept(&world).await?;
    let _worker = world.start_fake_worker_default().await?;
    let end = finished(&world, &parent).await?;
    assert_eq!(end["counts"]["succeeded"], 6, "{end}");
    check_bag(&world, "bag/", 6).await?;

    change_things(&world).await?;
    let untouched = world.store.sha256("bag/data/3.png").await?;

    let again = json!({ "parent": parent, "report": world.store.uri("again/"), "bagit": true });
    let price: Value = world
        .request(Method::POST, "/v1/batches?validate_only=true")
        .json(&again)
        .send()
        .await?
        .json()
        .await?;
    assert_eq!(
        (&price["files"], &price["unchanged"]),
        (&json!(4), &json!(3)),
        "{price}"
    );
    let child = create(&world, &again).await?;
    let end = finished(&world, &child).await?;
    assert_eq!(
        (&end["listed"], &end["unchanged"], &end["parent"]),
        (&json!(7), &json!(3), &json!(parent)),
        "{end}"
    );
    assert_eq!(end["counts"]["succeeded"], 3, "{end}");
    assert_eq!(end["errors"], json!({"output/exists": 1}), "{end}");
    let lines = report(&world, &child).await?;
    assert_eq!(
        by_status(&lines),
        BTreeMap::from([("failed", 1), ("succeeded", 3), ("unchanged", 3)])
    );
    check_digests(&world, &lines).await?;
    assert_eq!(world.store.sha256("bag/data/3.png").await?, untouched);
    let stranger = world.store.get("bag/data/2.png").await?;
    assert_eq!(stranger.as_deref(), Some(&b"a stranger's"[..]));
    // Its results lie in the other bag's folder: this one says where to get them.
    let fetch = text(&world, "again/fetch.txt").await?;
    assert_eq!(fetch.lines().count(), 12, "six results and their records");

    // A grandchild knows what its grandparent made; with other settings all is to be made.
    let third = create(&world, &json!({ "parent": child })).await?;
    let end = finished(&world, &third).await?;
    assert_eq!(end["unchanged"], 6, "{end}");
    assert_eq!(end["errors"], json!({"output/exists": 1}), "{end}");
    let other = json!({ "parent": third, "upscale": {"seed": 7} });
    let fourth = finished(&world, &create(&world, &other).await?).await?;
    assert_eq!(fourth["unchanged"], 0, "{fourth}");
    assert_eq!(fourth["counts"]["succeeded"], 6, "{fourth}");
    assert_ne!(world.store.sha256("bag/data/3.png").await?, untouched);
    Ok(())
}

/// What a curator puts in the place of a result after the second run has listed it is his.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_there_after_listing_is_not_replaced() -> anyhow::Result<()> {
    let mut world = World::plain("curator").await?;
    for index in 0..2 {
        let key = format!("box/{index}.png");
        world.store.put(&key, photo(24 + index, 16)).await?;
    }
    let first = json!({
        "prefix": world.store.uri("box/"), "output": world.store.uri("made/{stem}.{ext}"),
    });
    let parent = create(&world, &first).await?;
    let worker = world.start_fake_worker_default().await?;
    finished(&world, &parent).await?;
    drop(worker);

    // With other settings both are to be made anew. That run comes to nothing, and the next is of it.
    let other = json!({ "parent": parent, "upscale": {"seed": 7} });
    let nothing = create(&world, &other).await?;
    listed(&world, &nothing).await?;
    let cancel = format!("/v1/batches/{nothing}/cancel");
    let cancel = world.request(Method::POST, &cancel).send().await?;
    cancel.error_for_status()?;
    finished(&world, &nothing).await?;
    let child = create(&world, &json!({ "parent": nothing })).await?;
    listed(&world, &child).await?;
    let before = world.store.sha256("made/1.png").await?;
    let by_hand = b"by hand".to_vec();
    world.store.put("made/0.png", by_hand.clone()).await?;
    let _worker = world.start_fake_worker_default().await?;
    let end = finished(&world, &child).await?;
    assert_eq!(end["counts"]["succeeded"], 1, "{end}");
    assert_eq!(end["errors"], json!({"output/exists": 1}), "{end}");
    assert_eq!(world.store.get("made/0.png").await?, Some(by_hand));
    assert_ne!(world.store.sha256("made/1.png").await?, before);
    Ok(())
}

/// One picture is mended, one is another, one result is lost, a stranger has taken the place of one.
async fn change_things(world: &World) -> anyhow::Result<()> {
    let store = &world.store;
    store.put("box/broken.png", photo(30, 20)).await?;
    store.put("box/0.png", photo(40, 24)).await?;
    store.delete("bag/data/1.png").await?;
    store.put("bag/data/2.png", b"a stranger's".to_vec()).await
}

/// What is there is what the report says.
async fn check_digests(world: &World, lines: &[Value]) -> anyhow::Result<()> {
    for line in lines.iter().filter(|line| line["status"] != "failed") {
        let output = line["output"].as_str().unwrap_or_default();
        let key = output
            .strip_prefix(&world.store.uri(""))
            .unwrap_or_default();
        let stored = world.store.sha256(key).await?;
        assert_eq!(line["output_sha256"].as_str(), stored.as_deref(), "{line}");
        assert_eq!(line["input_sha256"].as_str().map(str::len), Some(64));
    }
    Ok(())
}

async fn text(world: &World, key: &str) -> anyhow::Result<String> {
    let bytes = world.store.get(key).await?;
    let bytes = bytes.ok_or_else(|| anyhow::anyhow!("there is no {key}"))?;
    Ok(String::from_utf8(bytes)?)
}

/// Reads the bag as RFC 8493 says.
async fn check_bag(world: &World, folder: &str, results: usize) -> anyhow::Result<()> {
    let declaration = text(world, &format!("{folder}bagit.txt")).await?;
    assert!(
        declaration.starts_with("BagIt-Version: 1.0\n"),
        "{declaration}"
    );
    let mut listed = BTreeSet::new();
    for (manifest, is_payload) in [
        ("manifest-sha256.txt", true),
        ("tagmanifest-sha256.txt", false),
    ] {
        for line in text(world, &format!("{folder}{manifest}")).await?.lines() {
            let (sha256, path) = line
                .split_once("  ")
                .ok_or_else(|| anyhow::anyhow!("{line}"))?;
            let key = format!("{folder}{path}");
            let stored = world.store.sha256(&key).await?;
            assert_eq!(stored.as_deref(), Some(sha256), "{path}");
            assert_eq!(path.starts_with("data/"), is_payload, "{path}");
            assert!(listed.insert(key), "{path} twice");
        }
    }
    listed.insert(format!("{folder}tagmanifest-sha256.txt"));
    let there: BTreeSet<_> = world.store.keys(folder).await?.into_iter().collect();
    assert_eq!(listed, there, "every file is in a manifest");
    let payload: Vec<_> = there.iter().filter(|key| key.contains("/data/")).collect();
    assert_eq!(payload.len(), 2 * results, "results and their records");
    let mut bytes = 0;
    for key in &payload {
        bytes += world.store.get(key).await?.map_or(0, |bytes| bytes.len());
    }
    let info = text(world, &format!("{folder}bag-info.txt")).await?;
    let oxum = format!("Payload-Oxum: {bytes}.{}\n", payload.len());
    assert!(info.contains(&oxum), "{info}");
    let fetch = text(world, &format!("{folder}fetch.txt")).await?;
    assert_eq!(fetch, "", "the bag is complete");
    Ok(())
}
