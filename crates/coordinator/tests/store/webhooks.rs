//! Webhooks: whose turn it is, and how long they are kept.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::time::Duration;

use sqlx::PgPool;
use upres_coordinator::store::{retention, webhooks};

use super::submit;

/// `count` messages of a tenant, due since `minutes`.
async fn due(pool: &PgPool, tenant: &str, count: i32, minutes: i32) {
    let insert = "insert into webhook_deliveries (delivery_id, tenant, url, event_type, payload, due_at) \
        select $1 || '_' || n, $1, 'https://example.org/', 'job.succeeded', '{}', \
            now() - make_interval(mins => $3) + n * interval '1 millisecond' \
        from generate_series(1, $2) as n";
    let insert = sqlx::query(insert).bind(tenant).bind(count).bind(minutes);
    insert.execute(pool).await.unwrap();
}

/// Who is taken, when `under_way` are on their way already.
async fn taken(pool: &PgPool, limit: i64, under_way: &[(&str, usize)]) -> HashMap<String, usize> {
    let mut conn = pool.acquire().await.unwrap();
    let under_way: HashMap<_, _> = under_way
        .iter()
        .map(|(tenant, count)| ((*tenant).to_owned(), *count))
        .collect();
    let taken = webhooks::take(&mut conn, limit, 16, &under_way).await;
    let mut tenants = HashMap::new();
    for delivery in taken.unwrap() {
        *tenants.entry(delivery.tenant).or_default() += 1;
    }
    tenants
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_backlog_holds_up_nobody_else(pool: PgPool) {
    for tenant in ["a", "b", "c", "d"] {
        due(&pool, tenant, 2000, 60).await;
    }
    due(&pool, "z", 3, 1).await;
    // One slot is free again, and whose it was is not the first to have it.
    let others = [("a", 15), ("b", 16), ("c", 16), ("d", 16)];
    assert_eq!(taken(&pool, 1, &others).await["z"], 1);
    // What is under way counts towards the share.
    let next = taken(&pool, 64, &others).await;
    assert_eq!(
        next,
        HashMap::from([("a".to_owned(), 1), ("z".to_owned(), 2)])
    );
    // Nobody is in the way: all have the same.
    let next = taken(&pool, 8, &[]).await;
    assert_eq!(next.values().copied().collect::<Vec<_>>(), [2; 4]);
    assert!(!next.contains_key("z"), "its three are taken");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_first_come_first_within_a_tenant_and_what_is_not_due_waits(pool: PgPool) {
    due(&pool, "late", 1, -5).await;
    due(&pool, "a", 3, 10).await;
    let mut conn = pool.acquire().await.unwrap();
    for expected in ["a_1", "a_2", "a_3"] {
        let taken = webhooks::take(&mut conn, 1, 16, &HashMap::new()).await;
        assert_eq!(taken.unwrap()[0].delivery_id, expected);
    }
    let taken = webhooks::take(&mut conn, 1, 16, &HashMap::new()).await;
    assert!(taken.unwrap().is_empty());
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_job_that_is_forgotten_is_still_told_of(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let wish = "insert into job_webhooks values ($1, 'https://example.org/')";
    let wish = sqlx::query(wish).bind(id.0).execute(&mut *conn);
    wish.await.unwrap();
    let cancelled = upres_coordinator::lease::cancel(&pool, id).await;
    cancelled.unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    let later = "update jobs set finished_at = now() - interval '8 days'";
    sqlx::query(later).execute(&mut *conn).await.unwrap();
    assert_eq!(
        retention::remove_ended(&mut conn, week, 10).await.unwrap(),
        1
    );
    let filter = webhooks::Filter {
        job_id: Some(id.0),
        ..webhooks::Filter::default()
    };
    let shown = webhooks::page(&mut conn, "tenant", &filter, 10).await;
    assert_eq!(shown.unwrap()[0].state, "pending");
    assert_eq!(taken(&pool, 1, &[]).await["tenant"], 1);
}
