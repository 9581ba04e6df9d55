//! Whose turn it is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};
use upres_common::job::{Class, JobId};
use upres_coordinator::store::outbox::{self, Allowance};

use super::submit_for;

/// Releases up to `jobs` more, and returns them with their costs in the order in which they go.
async fn release(conn: &mut PgConnection, jobs: i64) -> Vec<(JobId, i64)> {
    let sent = outbox::count_sent(conn, Class::Interactive).await.unwrap();
    let allowance = Allowance {
        jobs: sent + jobs,
        tile_steps: i64::MAX / 2,
        jobs_at_least: 1,
        of_a_tenant: None,
    };
    let taken = outbox::take(conn, Class::Interactive, 100, allowance);
    let taken = taken.await.unwrap();
    let ids: Vec<_> = taken.rows.iter().map(|row| row.outbox_id).collect();
    outbox::mark_sent(conn, &ids).await.unwrap();
    let rows = taken.rows.iter().map(|row| {
        let wake_up = &row.envelope.wake_up;
        (wake_up.job_id, wake_up.cost)
    });
    rows.collect()
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn tenants_share_by_work_and_not_by_jobs(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut tenants = BTreeMap::new();
    for (tenant, cost, jobs) in [("maps", 40, 20), ("stamps", 2, 200)] {
        for _ in 0..jobs {
            tenants.insert(submit_for(&mut conn, tenant, cost, |_| {}).await, tenant);
        }
    }
    let mut served = BTreeMap::from([("maps", 0), ("stamps", 0)]);
    let mut jobs = BTreeMap::from([("maps", 0), ("stamps", 0)]);
    // As long as both have work, however much is let out at once.
    for some in [1, 3, 50, 7, 60] {
        for (id, cost) in release(&mut conn, some).await {
            *served.get_mut(tenants[&id]).unwrap() += cost;
            *jobs.get_mut(tenants[&id]).unwrap() += 1;
        }
        let apart: i64 = served["maps"] - served["stamps"];
        assert!(apart.abs() <= 40, "{served:?} tile-steps");
    }
    assert!(jobs["stamps"] > 10 * jobs["maps"], "{jobs:?}");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn who_comes_late_gets_a_share_and_no_arrears(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut tenants = BTreeMap::new();
    for _ in 0..60 {
        tenants.insert(submit_for(&mut conn, "first", 10, |_| {}).await, 'f');
    }
    release(&mut conn, 40).await;
    for _ in 0..20 {
        tenants.insert(submit_for(&mut conn, "late", 10, |_| {}).await, 'l');
    }
    let order: String = release(&mut conn, 20)
        .await
        .iter()
        .map(|(id, _)| tenants[id])
        .collect();
    let of_late = order.matches('l').count();
    assert!((9..=11).contains(&of_late), "{order}");
    assert!(!order.contains("lll") && !order.contains("fff"), "{order}");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn small_work_goes_first_and_large_work_ages(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let map = submit_for(&mut conn, "tenant", 1000, |_| {}).await;
    let old_map = submit_for(&mut conn, "tenant", 1000, |_| {}).await;
    let wall = submit_for(&mut conn, "tenant", u32::MAX, |_| {}).await;
    let stamp = submit_for(&mut conn, "tenant", 1, |_| {}).await;
    // 1,000 tile-steps are worth 500 minutes of waiting; no job waits longer than a day for smaller ones.
    for (id, minutes) in [(old_map, 501), (wall, 24 * 60 + 1)] {
        sqlx::query(
            "update outbox set place = place - make_interval(mins => $2) where job_id = $1",
        )
        .bind(id.0)
        .bind(minutes)
        .execute(&mut *conn)
        .await
        .unwrap();
    }
    let order: Vec<_> = release(&mut conn, 9)
        .await
        .iter()
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(order.len(), 4);
    assert_eq!(order[2..], [stamp, map]);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_tenants_work_at_once_is_bounded_and_a_large_job_goes_alone(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    for cost in [10, 10, 10, 10] {
        submit_for(&mut conn, "bounded", cost, |_| {}).await;
    }
    submit_for(&mut conn, "large", 500, |_| {}).await;
    let allowance = Allowance {
        jobs: 100,
        tile_steps: i64::MAX / 2,
        jobs_at_least: 1,
        of_a_tenant: Some(25),
    };
    let mut take = async || {
        let taken = outbox::take(&mut conn, Class::Interactive, 100, allowance);
        let taken = taken.await.unwrap();
        let ids: Vec<_> = taken.rows.iter().map(|row| row.outbox_id).collect();
        outbox::mark_sent(&mut conn, &ids).await.unwrap();
        let jobs = taken.rows.iter().map(|row| row.envelope.wake_up.job_id);
        (jobs.collect::<Vec<_>>(), taken.held_back)
    };
    let (first, _) = take().await;
    assert_eq!(first.len(), 3, "two of ten, and the large one");
    assert!(take().await.0.is_empty());
    let claimed = super::claim(&pool, "worker", &first, 60).await.unwrap();
    assert_eq!(claimed.len(), 3);
    assert!(take().await.0.is_empty(), "what runs counts");
    for lease in claimed {
        upres_coordinator::lease::cancel(&pool, lease.job_id)
            .await
            .unwrap();
    }
    assert_eq!(take().await.0.len(), 2);
}
