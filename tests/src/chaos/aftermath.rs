//! What is there when all is over: read from the database and the store themselves.

use anyhow::Context;
use aws_sdk_s3::Client;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use upres_common::objects::sha256_hex;

use super::cast::Cast;
use crate::history::{Aftermath, EndOfJob, Object};

/// Reads everything.
pub(super) async fn gather(cast: &Cast) -> anyhow::Result<Aftermath> {
    let mut database = cast.database().await?;
    let mut aftermath = Aftermath {
        uploads: uploads(&cast.store.client, &cast.store.bucket).await?,
        ..Aftermath::default()
    };
    jobs(&mut database, &cast.store.uri(""), &mut aftermath).await?;
    aftermath.expected = cast.expected.clone();
    for key in keys(&cast.store.client, &cast.store.bucket).await? {
        let object = object(&cast.store.client, &cast.store.bucket, &key).await?;
        aftermath.objects.insert(key, object);
    }
    Ok(aftermath)
}

/// How many jobs have not ended, and how many the outbox speaks of.
pub(super) async fn unfinished(cast: &Cast) -> anyhow::Result<(i64, i64)> {
    let mut database = cast.database().await?;
    let counts = "select
        (select count(*) from jobs where finished_at is null), (select count(*) from outbox)";
    let row = sqlx::query(counts).fetch_one(&mut database).await?;
    Ok((row.get(0), row.get(1)))
}

/// How many uploads are open, and how many objects hold what drained workers left.
pub(super) async fn unfinished_work(cast: &Cast) -> anyhow::Result<usize> {
    let uploads = uploads(&cast.store.client, &cast.store.bucket).await?;
    let keys = keys(&cast.store.client, &cast.store.bucket).await?;
    let left = keys.iter().filter(|key| key.starts_with("hand-over/"));
    Ok(uploads.len() + left.count())
}

/// How many results lie in an upload that one attempt began and another finished.
pub(super) fn shared(aftermath: &Aftermath) -> usize {
    let jobs = aftermath.jobs.values();
    let shared = jobs.filter(|job| {
        let object = aftermath.objects.get(&job.output);
        let writer = object.and_then(|object| object.writer.as_ref());
        writer.is_some_and(|(_, token)| {
            let finished = job.succeeded_tokens.last();
            finished.is_some_and(|finished| finished != token)
        })
    });
    shared.count()
}

/// How often attempts ended how, and jobs failed of what.
pub(super) async fn tallies(cast: &Cast) -> anyhow::Result<Vec<(String, i64)>> {
    let mut database = cast.database().await?;
    let tallies = "
        select 'jobs ' || state || coalesce(' of ' || (error ->> 'type'), '') as what, count(*)
        from jobs group by 1
        union all
        select 'attempts ' || outcome || coalesce(' of ' || (error ->> 'type'), ''), count(*)
        from attempts group by 1
        order by 1 desc";
    let rows = sqlx::query(tallies).fetch_all(&mut database).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn jobs(
    database: &mut PgConnection,
    bucket: &str,
    aftermath: &mut Aftermath,
) -> anyhow::Result<()> {
    let query = "
        select job_id::text, state, output, result, input, error ->> 'type', (upscale ->> 'sidecar')::boolean
        from jobs";
    for row in sqlx::query(query).fetch_all(&mut *database).await? {
        let output: String = row.get(2);
        let result: Option<Json<Value>> = row.get(3);
        let recorded = result.and_then(|Json(result)| {
            let sha256 = result["sha256"].as_str()?.to_owned();
            Some((sha256, result["bytes"].as_u64()?))
        });
        let input: String = row.get(4);
        let input = input.trim_start_matches(bucket);
        let job = EndOfJob {
            state: row.get(1),
            is_poison: input.starts_with("in/poison-"),
            error: row.get(5),
            has_record: row.get::<Option<bool>, _>(6).unwrap_or_default(),
            input: input.to_owned(),
            output: output.trim_start_matches(bucket).to_owned(),
            result: recorded,
            ..EndOfJob::default()
        };
        aftermath.jobs.insert(row.get(0), job);
    }
    let query = "select job_id::text, state from chaos_ends order by seq";
    for row in sqlx::query(query).fetch_all(&mut *database).await? {
        let job = aftermath.jobs.get_mut(&row.get::<String, _>(0));
        job.context("an end of a job that is gone")?
            .ends
            .push(row.get(1));
    }
    let query = "select job_id::text, outcome, lease_token from attempts order by job_id, attempt";
    for row in sqlx::query(query).fetch_all(&mut *database).await? {
        let job = aftermath.jobs.get_mut(&row.get::<String, _>(0));
        let job = job.context("an attempt of a job that is gone")?;
        let (outcome, token): (String, i64) = (row.get(1), row.get(2));
        job.tokens.push(token);
        match outcome.as_str() {
            "running" => job.running_attempts += 1,
            "succeeded" => job.succeeded_tokens.push(token),
            _ => {}
        }
    }
    let query = "select job_id::text from outbox";
    for row in sqlx::query(query).fetch_all(&mut *database).await? {
        aftermath.outbox.push(row.get(0));
    }
    Ok(())
}

/// All but the inputs.
async fn keys(store: &Client, bucket: &str) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut pages = store
        .list_objects_v2()
        .bucket(bucket)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.context("list the objects")?;
        let here = page.contents().iter().filter_map(|object| object.key());
        keys.extend(
            here.filter(|key| !key.starts_with("in/"))
                .map(str::to_owned),
        );
    }
    Ok(keys)
}

async fn object(store: &Client, bucket: &str, key: &str) -> anyhow::Result<Object> {
    let object = store.get_object().bucket(bucket).key(key).send().await?;
    let metadata = |name: &str| {
        let metadata = object.metadata.as_ref()?;
        metadata.get(name).cloned()
    };
    let writer = metadata("upres-job-id")
        .zip(metadata("upres-lease-token").and_then(|token| token.parse().ok()));
    let bytes = object.body.collect().await?.to_vec();
    Ok(Object {
        sha256: sha256_hex(&bytes),
        bytes: u64::try_from(bytes.len())?,
        writer,
    })
}

async fn uploads(store: &Client, bucket: &str) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let page = store
            .list_multipart_uploads()
            .bucket(bucket)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .context("list the uploads")?;
        let here = page.uploads().iter();
        keys.extend(here.filter_map(|upload| upload.key().map(str::to_owned)));
        if page.is_truncated() != Some(true) {
            return Ok(keys);
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_upload_id_marker().map(str::to_owned);
    }
}
