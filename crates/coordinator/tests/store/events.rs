//! What is kept, and told, of a job's changes.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use upres_common::job::{ErrorType, JobError, JobEvent};
use upres_coordinator::changes::Changes;
use upres_coordinator::fail::{Failed, fail};
use upres_coordinator::lease;
use upres_coordinator::store::events::{Stage, glance, since};
use upres_coordinator::store::jobs::transition;
use uuid::Uuid;

use super::{at_once, beat, begin, submit};

const DEADLINE: Duration = Duration::from_secs(60);

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn every_change_of_state_is_kept_and_nothing_else(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    for error in [ErrorType::Engine, ErrorType::InputUnreadable] {
        let lease = begin(&pool, id).await;
        beat(&pool, lease).await;
        let failed = Failed::reported(JobError::new(error, "as told"));
        fail(&pool, lease, &failed, &at_once()).await.unwrap();
    }
    lease::revive(&pool, id).await.unwrap();
    lease::cancel(&pool, id).await.unwrap();
    let events = since(&mut conn, "tenant", id, 0).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.state.as_str(), event.attempt))
        .collect();
    let expected = [
        ("queued", 0),
        ("running", 1),
        ("queued", 1),
        ("running", 2),
        ("failed", 2),
        ("queued", 2),
        ("cancelled", 2),
    ];
    assert_eq!(told, expected);
    assert!(events.is_sorted_by(|a, b| a.version < b.version));

    let last = glance(&mut conn, "tenant", id).await.unwrap().unwrap();
    assert_eq!(last.version, events[6].version);
    assert_eq!((last.ended, last.stage), (true, Stage::Ended));
    let rest = since(&mut conn, "tenant", id, events[4].version).await;
    assert_eq!(rest.unwrap(), events[5..]);
    let foreign = since(&mut conn, "other", id, 0).await.unwrap();
    assert!(foreign.is_empty() && glance(&mut conn, "other", id).await.unwrap().is_none());

    sqlx::query("delete from jobs")
        .execute(&pool)
        .await
        .unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from job_events")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_job_that_ended_before_events_were_kept_shows_its_end(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    lease::cancel(&pool, id).await.unwrap();
    let delete = sqlx::query("delete from job_events");
    delete.execute(&pool).await.unwrap();
    let events = since(&mut conn, "tenant", id, 0).await.unwrap();
    let states: Vec<_> = events.iter().map(|event| event.state.as_str()).collect();
    assert_eq!(states, ["queued", "cancelled"]);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn who_waits_is_woken_by_a_commit_and_by_nothing_before(pool: PgPool) {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let changes = Arc::new(Changes::default());
    let anything = changes.watch(Uuid::now_v7());
    let first = anything.change();
    tasks.spawn(Arc::clone(&changes).listen(pool.clone(), stop.clone()));
    // The listener tells everybody once, when it begins.
    tokio::time::timeout(DEADLINE, first).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let watch = changes.watch(id.0);

    let lease = begin(&pool, id).await;
    let change = watch.change();
    tokio::pin!(change);
    let mut tx = pool.begin().await.unwrap();
    let handed_back = JobEvent::HandedBack { token: lease.token };
    transition(&mut tx, id, &handed_back).await.unwrap();
    // What was told by the claim may still be on its way; a rollback tells nothing.
    tx.rollback().await.unwrap();
    beat(&pool, lease).await;
    tokio::time::timeout(DEADLINE, change.as_mut())
        .await
        .unwrap();

    let change = watch.change();
    lease::cancel(&pool, id).await.unwrap();
    tokio::time::timeout(DEADLINE, change).await.unwrap();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
