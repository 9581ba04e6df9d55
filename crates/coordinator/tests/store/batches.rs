//! Batches: from items to jobs, and what their owners ask for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use upres_common::batch::{BatchId, BatchRequest};
use upres_common::job::{Class, ErrorType, JobError, JobId};
use upres_common::objects::{ObjectStore, S3Args};
use upres_coordinator::appraise::Appraiser;
use upres_coordinator::batch::carry_out::Steward;
use upres_coordinator::batch::expand::Expander;
use upres_coordinator::fail::{Failed, fail};
use upres_coordinator::store::batches::{
    self, NewBatch, ending, expansion, promised, report, statistics,
};
use upres_coordinator::store::outbox::{self, Allowance};
use upres_coordinator::store::unpriced;

use super::{TTL_SECS, at_once, begin, claim};

/// A store that nobody asks: items are read from the request.
async fn nowhere() -> ObjectStore {
    let args = S3Args {
        s3_endpoint: Some("http://127.0.0.1:9".to_owned()),
        s3_region: "us-east-1".to_owned(),
    };
    ObjectStore::new(&args).await
}

async fn insert(conn: &mut PgConnection, request: serde_json::Value) -> BatchId {
    let everything = || vec!["*".parse().unwrap()];
    let request: BatchRequest = serde_json::from_value(request).unwrap();
    let new = NewBatch {
        key: None,
        id: BatchId::fresh(),
        tenant: "tenant".to_owned(),
        request,
        read_prefixes: everything(),
        write_prefixes: everything(),
    };
    batches::insert(conn, &new).await.unwrap();
    new.id
}

async fn expander(pool: &PgPool) -> Expander {
    Expander {
        pool: pool.clone(),
        objects: nowhere().await,
        bell: Arc::default(),
    }
}

async fn expand(pool: &PgPool) {
    let stop = CancellationToken::new();
    while expander(pool).await.tick(&stop).await.unwrap() {}
}

pub(super) async fn steward(pool: &PgPool) -> Steward {
    Steward {
        pool: pool.clone(),
        objects: nowhere().await,
        bell: Arc::default(),
    }
}

/// A batch of `items` jobs, expanded and priced.
pub(super) async fn batch_of(
    pool: &PgPool,
    items: usize,
    change: serde_json::Value,
) -> (BatchId, Vec<JobId>) {
    let mut conn = pool.acquire().await.unwrap();
    let items: Vec<_> = (0..items)
        .map(|n| serde_json::json!({"input": format!("s3://masters/{n}.tif")}))
        .collect();
    let mut request = serde_json::json!({"items": items, "output": "s3://derivatives/{name}"});
    for (name, value) in change.as_object().unwrap() {
        request[name] = value.clone();
    }
    let id = insert(&mut conn, request).await;
    expand(pool).await;
    let lines = report::lines(&mut conn, id, 0, 1000).await.unwrap();
    let jobs: Vec<_> = lines.iter().filter_map(|line| line.job_id).collect();
    let priced: Vec<_> = jobs.iter().map(|job| (*job, 3)).collect();
    unpriced::price(&mut conn, &priced).await.unwrap();
    (id, jobs)
}

pub(super) async fn released(conn: &mut PgConnection, class: Class) -> Vec<JobId> {
    let enough = Allowance {
        jobs: 1000,
        tile_steps: 100_000,
        jobs_at_least: 1,
        of_a_tenant: None,
    };
    let taken = outbox::take(conn, class, 100, enough).await.unwrap();
    let ids: Vec<_> = taken.rows.iter().map(|row| row.outbox_id).collect();
    outbox::mark_sent(conn, &ids).await.unwrap();
    taken
        .rows
        .iter()
        .map(|row| row.envelope.wake_up.job_id)
        .collect()
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn every_item_is_a_job_or_a_line_that_says_why_not(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let item = |input: &str| serde_json::json!({"input": input});
    let id = insert(
        &mut conn,
        serde_json::json!({
            "items": [
                item("s3://masters/1.tif"),
                item("no address"),
                item("s3://masters/2.tif"),
                item("s3://other-masters/1.tif"),
                {"input": "s3://masters/4.tif", "output": "s3://masters/1.tif"},
                {"input": "s3://masters/5.tif", "upscale": {"timesteps": [50, 250]}},
            ],
            "output": "s3://derivatives/{name}",
        }),
    )
    .await;
    expand(&pool).await;
    let lines = report::lines(&mut conn, id, 0, 100).await.unwrap();
    let statuses: Vec<_> = lines.iter().map(|line| line.status.as_str()).collect();
    assert_eq!(
        statuses,
        [
            "queued", "refused", "queued", "refused", "refused", "refused"
        ]
    );
    for (line, word) in [
        (1, "s3://"),
        (3, "earlier item"),
        (4, "master"),
        (5, "fall"),
    ] {
        let reason = lines[line].reason.as_ref().unwrap();
        assert!(reason.contains(word), "{reason}");
    }
    let row = batches::find(&mut conn, "tenant", id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.listed, row.refused), (6, 4));
    assert!(row.expanded_at.is_some() && row.failure.is_none());
    assert!(
        batches::find(&mut conn, "other", id)
            .await
            .unwrap()
            .is_none()
    );
    // In pages of any size the same lines come.
    for limit in 1..4 {
        let (mut seen, mut after) = (Vec::new(), 0);
        while let page = report::lines(&mut conn, id, after, limit).await.unwrap()
            && let Some(last) = page.last()
        {
            after = last.line;
            seen.extend(page.iter().map(|line| line.line));
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn what_is_read_twice_is_accepted_once(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let items: Vec<_> = (0..2500)
        .map(|n| serde_json::json!({"input": format!("s3://masters/{n}.tif")}))
        .collect();
    let id = insert(
        &mut conn,
        serde_json::json!({"items": items, "output": "s3://derivatives/{name}"}),
    )
    .await;
    // Somebody took it, and is slow.
    let slow = expansion::take(&mut conn, 0.0).await.unwrap().unwrap();
    assert_eq!(slow.id, id);
    expand(&pool).await;
    let step = expansion::Step {
        from: slow.position,
        to: serde_json::json!({"line": 1000}),
        listed: 1000,
        skipped: 0,
        unchanged: 0,
        end: false,
        failure: None,
    };
    assert!(
        !expansion::advance(&mut conn, id, &step, 0, 1.0)
            .await
            .unwrap()
    );
    let seen = statistics::statistics(&mut conn, id).await.unwrap();
    assert_eq!(seen.counts.queued, 2500);
    let row = batches::find(&mut conn, "tenant", id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.listed, 2500);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn of_an_atomic_batch_nothing_goes_unless_all_does(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (_, good) = batch_of(&pool, 2, serde_json::json!({"atomic": true})).await;
    assert_eq!(released(&mut conn, Class::Bulk).await, good);
    let twice = serde_json::json!({"input": "s3://masters/a.tif"});
    let change = serde_json::json!({"atomic": true, "items": [twice, twice]});
    let (bad, _) = batch_of(&pool, 0, change).await;
    assert!(released(&mut conn, Class::Bulk).await.is_empty());
    while steward(&pool).await.tick().await.unwrap() {}
    let seen = statistics::statistics(&mut conn, bad).await.unwrap();
    assert_eq!(seen.counts.cancelled, 1);
    let ended = ending::take_ended(&mut conn, 60.0, false, 9).await;
    let ended = ended.unwrap().pop().unwrap();
    assert_eq!(ended.id, bad);
    assert!(ending::finish(&mut conn, &ended, None).await.unwrap());
    let row = batches::find(&mut conn, "tenant", bad)
        .await
        .unwrap()
        .unwrap();
    assert!(row.failure.unwrap().contains("atomic"));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_paused_batch_is_passed_over_and_its_claims_are_stale(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (paused, first) = batch_of(&pool, 3, serde_json::json!({"priority": 9})).await;
    let change = serde_json::json!({"output": "s3://derivatives/b/{name}"});
    let (_, second) = batch_of(&pool, 2, change).await;
    assert_eq!(released(&mut conn, Class::Bulk).await.len(), 5);
    batches::set_paused(&mut conn, paused, true).await.unwrap();
    assert!(
        claim(&pool, "worker", &first, TTL_SECS)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        claim(&pool, "worker", &second, TTL_SECS)
            .await
            .unwrap()
            .len(),
        2
    );
    assert!(released(&mut conn, Class::Bulk).await.is_empty());
    batches::set_paused(&mut conn, paused, false).await.unwrap();
    assert_eq!(released(&mut conn, Class::Bulk).await, first);
    batches::set_paused(&mut conn, paused, false).await.unwrap();
    let again = released(&mut conn, Class::Bulk).await;
    assert!(
        again.is_empty(),
        "nothing was paused: nothing is sent again"
    );
    // Another class, and those on the broker are released anew in their line there.
    batches::change(&mut conn, paused, Some(Class::Interactive), None)
        .await
        .unwrap();
    while steward(&pool).await.tick().await.unwrap() {}
    assert_eq!(released(&mut conn, Class::Interactive).await, first);
    assert_eq!(
        claim(&pool, "worker", &first, TTL_SECS)
            .await
            .unwrap()
            .len(),
        3
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn of_a_batch_that_changes_its_class_the_next_go_first(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (id, jobs) = batch_of(&pool, 6, serde_json::json!({})).await;
    batches::change(&mut conn, id, Some(Class::Interactive), None)
        .await
        .unwrap();
    let mut order: Vec<uuid::Uuid> =
        sqlx::query_scalar("select job_id from outbox order by priority desc, place, outbox_id")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    assert_eq!(order.len(), jobs.len());
    while !order.is_empty() {
        assert_eq!(promised::reclass(&mut conn, 2).await.unwrap(), 2);
        let left: Vec<uuid::Uuid> = sqlx::query_scalar(
            "select job_id from outbox where class = 'bulk' order by priority desc, place, outbox_id",
        )
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        order.drain(..2);
        assert_eq!(left, order);
    }
    assert_eq!(promised::reclass(&mut conn, 2).await.unwrap(), 0);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn unpriced_jobs_are_not_released_and_a_silent_store_is_asked_again(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = insert(
        &mut conn,
        serde_json::json!({"items": [{"input": "s3://masters/1.tif", "output": "s3://derivatives/1.tif"}]}),
    )
    .await;
    expand(&pool).await;
    assert!(released(&mut conn, Class::Bulk).await.is_empty());
    batches::set_paused(&mut conn, id, true).await.unwrap();
    assert!(unpriced::take(&mut conn, 9).await.unwrap().is_empty());
    batches::set_paused(&mut conn, id, false).await.unwrap();
    let appraiser = Appraiser {
        pool: pool.clone(),
        objects: nowhere().await,
        bell: Arc::default(),
    };
    assert_eq!(appraiser.tick().await.unwrap(), 1);
    assert!(released(&mut conn, Class::Bulk).await.is_empty());
    assert!(
        unpriced::take(&mut conn, 9).await.unwrap().is_empty(),
        "a pause first"
    );
    sqlx::query("update outbox set taken_until = now() - interval '1 second'")
        .execute(&mut *conn)
        .await
        .unwrap();
    assert_eq!(unpriced::take(&mut conn, 9).await.unwrap().len(), 1);
}

/// A store that sends everybody elsewhere, as AWS does for buckets of another region.
async fn elsewhere(tasks: &mut JoinSet<()>) -> ObjectStore {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = S3Args {
        s3_endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        s3_region: "us-east-1".to_owned(),
    };
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer =
                b"HTTP/1.1 301 Moved Permanently\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    ObjectStore::new(&args).await
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn what_a_store_refuses_is_not_asked_for_again_and_again(pool: PgPool) {
    let (mut conn, mut tasks) = (pool.acquire().await.unwrap(), JoinSet::new());
    // The job goes to a worker, whose attempts are counted.
    insert(
        &mut conn,
        serde_json::json!({"items": [{"input": "s3://masters/1.tif", "output": "s3://derivatives/1.tif"}]}),
    )
    .await;
    expand(&pool).await;
    let appraiser = Appraiser {
        pool: pool.clone(),
        objects: elsewhere(&mut tasks).await,
        bell: Arc::default(),
    };
    assert_eq!(appraiser.tick().await.unwrap(), 1);
    assert_eq!(released(&mut conn, Class::Bulk).await.len(), 1);
    // A listing ends, and says why.
    let prefix =
        serde_json::json!({"prefix": "s3://masters/", "output": "s3://derivatives/{name}"});
    let id = insert(&mut conn, prefix).await;
    let expander = Expander {
        pool: pool.clone(),
        objects: elsewhere(&mut tasks).await,
        bell: Arc::default(),
    };
    let stop = CancellationToken::new();
    while expander.tick(&stop).await.unwrap() {}
    let batch = batches::find(&mut conn, "tenant", id).await.unwrap();
    let failure = batch.unwrap().failure.unwrap();
    assert!(failure.contains("in another region"), "{failure}");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_batch_goes_when_its_time_is_over_and_its_jobs_are_gone(pool: PgPool) {
    use upres_coordinator::store::retention;
    let mut conn = pool.acquire().await.unwrap();
    let items = serde_json::json!([
        {"input": "s3://masters/1.tif", "output": "s3://derivatives/1.tif"}, {"input": "nonsense"},
    ]);
    let id = insert(&mut conn, serde_json::json!({ "items": items })).await;
    expand(&pool).await;
    let (day, limit) = (std::time::Duration::from_secs(24 * 3600), 10);
    let week_ago =
        "update batches set finished_at = now() - interval '7 days', cancelled_at = now()";
    sqlx::query(week_ago).execute(&mut *conn).await.unwrap();
    let removed = retention::remove_batches(&mut conn, day, limit).await;
    assert_eq!(removed.unwrap(), 0, "its job is there");
    sqlx::query("delete from jobs")
        .execute(&mut *conn)
        .await
        .unwrap();
    let month = 30 * day;
    assert_eq!(
        retention::remove_batches(&mut conn, month, limit)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        retention::remove_batches(&mut conn, day, limit)
            .await
            .unwrap(),
        1
    );
    let refused: i64 = sqlx::query_scalar("select count(*) from refused_items where batch_id = $1")
        .bind(id.0)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(refused, 0);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn work_is_what_succeeded_and_a_guess_where_no_header_was_read(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (id, jobs) = batch_of(&pool, 4, serde_json::json!({})).await;
    sqlx::query("update jobs set cost = null where job_id = $1")
        .bind(jobs[3].0)
        .execute(&mut *conn)
        .await
        .unwrap();
    let seen = batches::statistics::statistics(&mut conn, id)
        .await
        .unwrap();
    assert_eq!((seen.done, seen.left), (0, 12), "3 each, and so the fourth");
    let lease = begin(&pool, jobs[0]).await;
    let failed = Failed::reported(JobError::new(ErrorType::InputUnreadable, "no"));
    fail(&pool, lease, &failed, &at_once()).await.unwrap();
    let seen = batches::statistics::statistics(&mut conn, id)
        .await
        .unwrap();
    assert_eq!((seen.done, seen.left), (0, 9));
    assert!(seen.by_minute.is_empty(), "nothing was computed");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_batch_that_was_never_begun_goes_before_one_that_takes_long(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let item =
        serde_json::json!({"input": "s3://masters/1.tif", "output": "s3://derivatives/1.tif"});
    let batch = serde_json::json!({"items": [item]});
    let (first, second) = (
        insert(&mut conn, batch.clone()).await,
        insert(&mut conn, batch.clone()).await,
    );
    let mut order = Vec::new();
    for _ in 0..2 {
        order.push(expansion::take(&mut conn, 60.0).await.unwrap().unwrap().id);
    }
    assert!(!expansion::does_one_wait(&mut conn).await.unwrap());
    // Their turn is over, and another has come.
    for id in [second, first] {
        expansion::give_back(&mut conn, id, -1.0).await.unwrap();
    }
    let third = insert(&mut conn, batch).await;
    assert!(expansion::does_one_wait(&mut conn).await.unwrap());
    for _ in 0..3 {
        order.push(expansion::take(&mut conn, 60.0).await.unwrap().unwrap().id);
    }
    assert_eq!(order, [first, second, third, second, first]);
}
