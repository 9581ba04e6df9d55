//! Connections that are kept for work that comes again and again.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use upres_coordinator::store::kept::Kept;

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn however_many_keep_one_others_find_connections(pool: PgPool) {
    let options = pool.connect_options().as_ref().clone();
    let small = PgPoolOptions::new()
        .max_connections(6)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options);
    let keepers: Vec<_> = (0..9).map(|_| Kept::new(&small)).collect();
    for kept in &keepers {
        let conn = kept.take().await.unwrap();
        kept.keep(conn);
    }
    let first = small.acquire().await;
    let second = small.acquire().await;
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    // What was kept serves again.
    let conn = keepers[0].take().await.unwrap();
    keepers[0].keep(conn);
}
