//! How batches end: each once, with its report, and anew after a retry.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use upres_common::job::{Class, ErrorType, JobError};
use upres_common::objects::{ObjectStore, S3Args};
use upres_coordinator::batch::carry_out::Steward;
use upres_coordinator::fail::{Failed, fail};
use upres_coordinator::lease::{self, ReviveError};
use upres_coordinator::store::batches::{self, ending, report};

use super::batches::{batch_of, released, steward};
use super::{at_once, begin};

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_report_that_cannot_be_written_is_tried_again_later_and_not_over_a_later_one(
    pool: PgPool,
) {
    let mut conn = pool.acquire().await.unwrap();
    let with_report =
        |name: &str| serde_json::json!({"report": format!("s3://derivatives/{name}/")});
    let (id, jobs) = batch_of(&pool, 1, with_report("a")).await;
    let (other, others) = batch_of(&pool, 1, with_report("b")).await;
    lease::cancel(&pool, others[0]).await.unwrap();
    let lease = begin(&pool, jobs[0]).await;
    let failed = Failed::reported(JobError::new(ErrorType::InputUnreadable, "no"));
    fail(&pool, lease, &failed, &at_once()).await.unwrap();
    let take = async || steward(&pool).await.take_ended(9).await.unwrap();
    let taken = take().await;
    let of = |id| taken.iter().find(|batch| batch.id == id).unwrap();
    let row =
        async |conn: &mut PgConnection| batches::find(conn, "tenant", id).await.unwrap().unwrap();
    let mut first = of(id).clone();
    for tries in 0..12 {
        ending::not_written(&mut conn, &first, "the store is away")
            .await
            .unwrap();
        assert!(take().await.is_empty(), "it has its time");
        let secs: f64 = sqlx::query_scalar(
            "with seen as (select extract(epoch from ending_until - now())::float8 as secs from batches where batch_id = $1)
            update batches set ending_until = null from seen where batch_id = $1 returning secs",
        )
        .bind(id.0)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
        let expected = 2_f64.powi(tries).min(300.0);
        assert!((secs - expected).abs() <= expected / 2.0, "{tries}: {secs}");
        first = take().await.pop().unwrap();
    }
    let why = row(&mut conn).await.report_failure;
    assert_eq!(why.as_deref(), Some("the store is away"));
    // That of another batch is not held up.
    assert!(ending::finish(&mut conn, of(other), None).await.unwrap());

    // A retry begins anew, and whoever still writes the report from before it has lost it; until he noticed, or
    // his time is over, nobody else writes one.
    assert!(ending::keep(&mut conn, &first, 60.0).await.unwrap());
    assert_eq!(
        batches::ask_retry(&mut conn, id, Some("input/"))
            .await
            .unwrap(),
        None
    );
    while steward(&pool).await.tick().await.unwrap() {}
    assert!(!ending::keep(&mut conn, &first, 60.0).await.unwrap());
    lease::cancel(&pool, jobs[0]).await.unwrap();
    assert!(take().await.is_empty(), "the first may still write");
    assert!(!ending::finish(&mut conn, &first, None).await.unwrap());
    assert!(row(&mut conn).await.report_failure.is_none());
    let again = take().await.pop().unwrap();
    assert_eq!(again.id, id);
    let refused = Some("not allowed");
    assert!(ending::finish(&mut conn, &again, refused).await.unwrap());
    assert_eq!(row(&mut conn).await.report_failure.as_deref(), refused);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_batch_ends_once_with_its_last_job_and_again_after_a_retry(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (id, jobs) = batch_of(&pool, 4, serde_json::json!({})).await;
    let take =
        async |conn: &mut PgConnection| ending::take_ended(conn, 60.0, false, 9).await.unwrap();
    assert!(take(&mut conn).await.is_empty());
    let errors = [
        ErrorType::InputUnreadable,
        ErrorType::OutputForbidden,
        ErrorType::Quarantined,
    ];
    for (job, error_type) in jobs.iter().zip(errors) {
        let lease = begin(&pool, *job).await;
        let failed = Failed::reported(JobError::new(error_type, "no"));
        fail(&pool, lease, &failed, &at_once()).await.unwrap();
    }
    lease::cancel(&pool, jobs[3]).await.unwrap();
    let tick_ends = async || steward(&pool).await.tick_ends().await.unwrap();
    let batch = take(&mut conn).await.pop().unwrap();
    assert!(
        take(&mut conn).await.is_empty(),
        "it is in one pair of hands"
    );
    assert!(ending::finish(&mut conn, &batch, None).await.unwrap());
    assert!(
        !ending::finish(&mut conn, &batch, None).await.unwrap(),
        "it has ended before"
    );

    let states = async |conn: &mut PgConnection| {
        let lines = report::lines(conn, id, 0, 10).await.unwrap();
        lines
            .into_iter()
            .map(|line| line.status)
            .collect::<Vec<_>>()
    };
    assert_eq!(batches::ask_retry(&mut conn, id, None).await.unwrap(), None);
    tick_ends().await;
    while steward(&pool).await.tick().await.unwrap() {}
    assert_eq!(
        states(&mut conn).await,
        ["failed", "failed", "queued", "cancelled"]
    );
    let row = batches::find(&mut conn, "tenant", id)
        .await
        .unwrap()
        .unwrap();
    assert!(row.finished_at.is_none());
    assert_eq!(
        batches::ask_retry(&mut conn, id, Some("input/"))
            .await
            .unwrap(),
        None
    );
    while steward(&pool).await.tick().await.unwrap() {}
    assert_eq!(
        states(&mut conn).await,
        ["queued", "failed", "queued", "cancelled"]
    );

    // What is retried after the batch changed its class goes to the line where the batch is by now.
    let class = Some(Class::Interactive);
    batches::change(&mut conn, id, class, None).await.unwrap();
    while steward(&pool).await.tick().await.unwrap() {}
    assert_eq!(
        batches::ask_retry(&mut conn, id, Some("output/"))
            .await
            .unwrap(),
        None
    );
    while steward(&pool).await.tick().await.unwrap() {}
    let retried = released(&mut conn, Class::Interactive).await;
    assert!(retried.contains(&jobs[1]), "{retried:?}");

    // Cancelled, it takes all that is open along, and does not come back.
    assert!(batches::cancel(&mut conn, id).await.unwrap());
    while steward(&pool).await.tick().await.unwrap() {}
    tick_ends().await;
    assert_eq!(
        states(&mut conn).await,
        ["cancelled", "cancelled", "cancelled", "cancelled"]
    );
    let refused = batches::ask_retry(&mut conn, id, None).await.unwrap();
    assert!(refused.unwrap().contains("cancelled"));
    let completions: i32 =
        sqlx::query_scalar("select completions from batches where batch_id = $1")
            .bind(id.0)
            .fetch_one(&mut *conn)
            .await
            .unwrap();
    assert_eq!(completions, 2);
}

/// A job that would be cancelled or expire at once stays failed, with its error, and can be asked for elsewhere.
#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_retry_that_could_only_end_again_is_refused(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (id, jobs) = batch_of(&pool, 2, serde_json::json!({})).await;
    for job in &jobs {
        let lease = begin(&pool, *job).await;
        let failed = Failed::reported(JobError::new(ErrorType::Quarantined, "no"));
        fail(&pool, lease, &failed, &at_once()).await.unwrap();
    }
    // A second wish does not take the place of the first.
    let ask = async |conn: &mut PgConnection, of| batches::ask_retry(conn, id, of).await.unwrap();
    assert_eq!(ask(&mut conn, None).await, None);
    assert_eq!(ask(&mut conn, None).await, None);
    let busy = ask(&mut conn, Some("output/")).await.unwrap();
    assert!(busy.contains("still being carried out"), "{busy}");
    sqlx::query("update batches set retry = null")
        .execute(&mut *conn)
        .await
        .unwrap();

    let revive = async |job| match lease::revive(&pool, job).await {
        Err(ReviveError::Closed(why)) => why,
        other => panic!("{other:?}"),
    };
    for late in [
        "update jobs set finish_by = now() where job_id = $1",
        "update batches set template = template || jsonb_build_object('finish_by', now()) \
            where batch_id = (select batch_id from jobs where job_id = $1)",
    ] {
        let late = sqlx::query(late).bind(jobs[0].0).execute(&mut *conn);
        assert_eq!(late.await.unwrap().rows_affected(), 1);
    }
    assert!(revive(jobs[0]).await.contains("finish_by"));
    assert!(ask(&mut conn, None).await.unwrap().contains("finish_by"));
    assert!(batches::cancel(&mut conn, id).await.unwrap());
    assert!(revive(jobs[1]).await.contains("cancelled"));
    let states = "select count(*) from jobs where state = 'failed' and error is not null";
    let failed: i64 = sqlx::query_scalar(states)
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(failed, 2);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn only_a_cancelled_batch_ends_without_the_report_that_its_store_does_not_take(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    // Nothing listens there.
    let steward = steward(&pool).await;
    let with_report =
        |name: &str| serde_json::json!({"report": format!("s3://derivatives/{name}/")});
    let (cancelled, _) = batch_of(&pool, 1, with_report("a")).await;
    let (other, others) = batch_of(&pool, 1, with_report("b")).await;
    assert!(batches::cancel(&mut conn, cancelled).await.unwrap());
    while steward.tick().await.unwrap() {}
    lease::cancel(&pool, others[0]).await.unwrap();
    let taken = steward.take_ended(9).await.unwrap();
    assert_eq!(taken.len(), 2);
    for batch in &taken {
        steward.end(batch).await.unwrap();
    }
    for (id, has_ended) in [(cancelled, true), (other, false)] {
        let row = batches::find(&mut conn, "tenant", id)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.finished_at.is_some(), has_ended);
        let why = row.report_failure.unwrap();
        assert!(
            why.starts_with("the object store failed on s3://derivatives/"),
            "{why}"
        );
    }
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_coordinator_that_stops_leaves_its_reports_to_others_at_once(pool: PgPool) {
    // It accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = S3Args {
        s3_endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
        s3_region: "us-east-1".to_owned(),
    };
    let objects = ObjectStore::new(&args).await;
    let report = serde_json::json!({"report": "s3://derivatives/a/"});
    let (id, jobs) = batch_of(&pool, 1, report).await;
    lease::cancel(&pool, jobs[0]).await.unwrap();
    let (steward_of_it, stop) = (
        Steward {
            pool: pool.clone(),
            objects,
            bell: Arc::default(),
        },
        CancellationToken::new(),
    );
    let mut running = JoinSet::new();
    running.spawn(steward_of_it.run(stop.clone()));
    let held =
        "select ending_until > now() from batches where batch_id = $1 and ending_by is not null";
    let is_held = async || {
        let held = sqlx::query_scalar::<_, Option<bool>>(held).bind(id.0);
        held.fetch_optional(&pool).await.unwrap().flatten() == Some(true)
    };
    let taken = async {
        while !is_held().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken)
        .await
        .unwrap();
    assert!(steward(&pool).await.take_ended(9).await.unwrap().is_empty());
    stop.cancel();
    running.join_all().await;
    let left = steward(&pool).await.take_ended(9).await.unwrap();
    assert_eq!(left.first().unwrap().id, id);
}
