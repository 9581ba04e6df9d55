//! What nobody will come back for is removed; what somebody needs is not.

use std::process::Command;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream;
use journey_tests::{DEADLINE, FakeWorker, World, program_path, until};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::sync::Notify;
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri, S3Args};

use crate::batches::{create, finished};

/// Runs the janitor once, with no patience for uploads.
fn sweep(world: &World, more: &[&str]) -> anyhow::Result<Value> {
    let done = janitor(world)?.args(more).output()?;
    anyhow::ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(serde_json::from_slice(&done.stdout)?)
}

fn janitor(world: &World) -> anyhow::Result<Command> {
    let mut janitor = patient_janitor(world)?;
    janitor.args(["--orphan-secs", "0.001", "--retain-days", "7"]);
    Ok(janitor)
}

fn patient_janitor(world: &World) -> anyhow::Result<Command> {
    let mut janitor = Command::new(program_path("upres-coordinator")?);
    janitor.arg("janitor").envs(world.env());
    Ok(janitor)
}

/// What is known to be over needs none.
fn check_patience(world: &World) -> anyhow::Result<()> {
    let patient = patient_janitor(world)?.arg("--dry-run").output()?;
    let patient: Value = serde_json::from_slice(&patient.stdout)?;
    let found = (&patient["uploads"], &patient["hand_overs"]);
    assert_eq!(found, (&json!(0), &json!(1)));
    Ok(())
}

/// A key that was used longer than a day ago.
async fn use_key(database: &mut PgConnection, key: &str, job: &str) -> anyhow::Result<()> {
    sqlx::query(
        "insert into idempotency_keys (tenant, key, request_sha256, job_id, created_at) \
         select tenant, $2, '', job_id, now() - interval '25 hours' from jobs where job_id = $1::uuid",
    )
    .bind(job)
    .bind(key)
    .execute(database)
    .await?;
    Ok(())
}

/// Uploads of a report that nobody writes any more go, too.
async fn check_reports(world: &World) -> anyhow::Result<()> {
    let items = json!([{"input": world.store.uri("nowhere/a.png"), "output": "nonsense"}]);
    let report = world.store.uri("reports/");
    let batch = create(world, &json!({"items": items, "report": report})).await?;
    finished(world, &batch).await?;
    world.store.begin_upload("reports/report.csv").await?;
    world.store.begin_upload("reports/other.csv").await?;
    assert_eq!(sweep(world, &[])?["uploads"], 1);
    assert_eq!(
        world.store.open_uploads().await?,
        3,
        "the other one is a stranger's"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaned_uploads_old_keys_and_old_jobs_go_and_nothing_else() -> anyhow::Result<()> {
    let mut world = World::plain("janitor").await?;
    let worker = world.start_fake_worker_default().await?;
    let (old, recent) = (
        world.submit_photo("old").await?,
        world.submit_photo("recent").await?,
    );
    world.succeeds(&old).await?;
    world.succeeds(&recent).await?;
    drop(worker);
    let slow = FakeWorker {
        tiles: 2000,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _busy = world.start_fake_worker(slow).await?;
    let running = world.submit_photo("running").await?;
    world.wait_for(&running, &["running"]).await?;
    // An attempt that died between beginning its upload and its next heartbeat; the upload of the
    // job that runs; and one of somebody else.
    for key in ["out/recent.png", "out/running.png", "elsewhere/x.png"] {
        world.store.begin_upload(key).await?;
    }
    // What a drained worker left for a job that has ended without it, and for the one that runs.
    for job in [&recent, &running] {
        let key = format!("hand-over/{job}");
        world.store.put(&key, b"unfinished".to_vec()).await?;
    }
    let mut database = world.database().await?;
    sqlx::query("update jobs set finished_at = now() - interval '8 days' where job_id = $1::uuid")
        .bind(&old)
        .execute(&mut database)
        .await?;
    use_key(&mut database, "k", &recent).await?;

    let expected =
        json!({"uploads": 1, "hand_overs": 1, "idempotency_keys": 1, "jobs": 1, "batches": 0});
    assert_eq!(sweep(&world, &["--dry-run"])?, expected);
    check_patience(&world)?;
    assert_eq!(world.store.open_uploads().await?, 3);
    assert_eq!(sweep(&world, &[])?, expected);
    assert_eq!(world.store.open_uploads().await?, 2);
    let nothing =
        json!({"uploads": 0, "hand_overs": 0, "idempotency_keys": 0, "jobs": 0, "batches": 0});
    assert_eq!(sweep(&world, &[])?, nothing);
    let left = sqlx::query_scalar::<_, i64>("select count(*) from jobs");
    assert_eq!(left.fetch_one(&mut database).await?, 2);
    assert_eq!(world.job(&recent).await?["state"], "succeeded");
    assert!(world.store.get("out/old.png").await?.is_some());
    for (job, kept) in [(&recent, false), (&running, true)] {
        let left = world.store.get(&format!("hand-over/{job}")).await?;
        assert_eq!(left.is_some(), kept);
    }

    // What a running job falls back on should its attempt die is needed, what it never spoke of is not.
    let fallback = world.store.begin_upload("out/running.png").await?;
    sqlx::query(
        "update jobs set upload_id = 'its own', resume = jsonb_build_object('upload_id', $2) \
         where job_id = $1::uuid",
    )
    .bind(&running)
    .bind(&fallback)
    .execute(&mut database)
    .await?;
    assert_eq!(sweep(&world, &[])?["uploads"], 1);
    assert_eq!(world.store.open_uploads().await?, 2);

    check_reports(&world).await?;

    // An object store that is away keeps nothing else from being done, and is told of.
    use_key(&mut database, "l", &recent).await?;
    let done = janitor(&world)?
        .args(["--s3-endpoint", "http://127.0.0.1:9"])
        .output()?;
    assert_eq!(done.status.code(), Some(1));
    let swept: Value = serde_json::from_slice(&done.stdout)?;
    assert_eq!(swept["idempotency_keys"], 1, "{swept}");
    let log = String::from_utf8_lossy(&done.stderr);
    assert!(log.contains("hand-overs"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_its_writer_gives_up_is_aborted() -> anyhow::Result<()> {
    let world = World::plain("given_up").await?;
    let objects = ObjectStore::new(&S3Args {
        s3_endpoint: Some(world.s3_endpoint().to_owned()),
        s3_region: "us-east-1".to_owned(),
    })
    .await;
    let uri: ObjectUri = world.store.uri("reports/report.csv").parse()?;
    let aborted = async || {
        until("it is aborted", DEADLINE, async || {
            Ok(world.store.open_uploads().await? == 0)
        })
        .await
    };

    let fails = stream::iter([Err::<Bytes, _>(ObjectError::NotFound("a page".to_owned()))]);
    let written = objects
        .put_pieces::<ObjectError>(&uri, "text/csv", fails)
        .await;
    assert!(written.is_err());
    aborted().await?;
    // Given up once it waits for a piece: it knows by then which upload it has begun. One whose answer never
    // came is for the janitor.
    let waits = Notify::new();
    let never = stream::poll_fn(|_| -> Poll<Option<Result<Bytes, ObjectError>>> {
        waits.notify_one();
        Poll::Pending
    });
    tokio::select! {
        _ = objects.put_pieces::<ObjectError>(&uri, "text/csv", never) => unreachable!("it has no end"),
        () = waits.notified() => {}
    }
    aborted().await
}
