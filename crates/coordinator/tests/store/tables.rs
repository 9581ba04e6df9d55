//! What the tables themselves see to.

use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Executor as _, PgPool, SqlSafeStr as _,
};
use upres_common::job::JobEvent;
use upres_common::job::state::LeaseToken;
use upres_coordinator::store::jobs::{TransitionError, transition};

use super::submit;

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_table_itself_refuses_what_cannot_be(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    for impossible in [
        "update jobs set state = 'running'",
        "update jobs set state = 'succeeded', finished_at = now()",
        "update jobs set state = 'failed', finished_at = now()",
        "update jobs set state = 'cancelled'",
        "update jobs set lease_token = 1",
        "update jobs set publishing = true",
        "update jobs set output = input",
    ] {
        assert!(
            sqlx::query(impossible).execute(&mut *conn).await.is_err(),
            "{impossible}"
        );
    }
    let refused = transition(
        &mut conn,
        id,
        &JobEvent::Completed {
            token: LeaseToken(1),
        },
    )
    .await;
    assert!(matches!(refused, Err(TransitionError::Refused(_))));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_first_key_is_made_once(pool: PgPool) {
    let mut first = pool.begin().await.unwrap();
    assert!(
        upres_coordinator::auth::create_first(&mut first)
            .await
            .unwrap()
            .is_some()
    );
    first.commit().await.unwrap();
    let mut second = pool.begin().await.unwrap();
    assert!(
        upres_coordinator::auth::create_first(&mut second)
            .await
            .unwrap()
            .is_none()
    );
}

/// The build trusts `.sqlx/`; a migration that changes a column must change it too.
#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_offline_query_data_describe_the_migrated_database(pool: PgPool) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.sqlx");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let query = AssertSqlSafe(file["query"].as_str().unwrap()).into_sql_str();
        let live = pool.describe(query).await.unwrap();
        let live: Vec<_> = live
            .columns()
            .iter()
            .map(|column| (column.name(), format!("{:?}", column.type_info())))
            .collect();
        let stored: Vec<_> = file["describe"]["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| {
                let kind = column["type_info"].as_str().unwrap();
                (
                    column["name"].as_str().unwrap(),
                    format!("PgTypeInfo({kind})"),
                )
            })
            .collect();
        assert_eq!(stored, live, "{}: run cargo sqlx prepare", path.display());
        checked += 1;
    }
    assert!(checked > 0, "{folder} is empty");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_client_that_falls_silent_in_a_transaction_loses_its_locks(pool: PgPool) {
    let url = pool.connect_options().to_url_lossy().to_string();
    let ours = upres_coordinator::store::pool(&url.into(), 1).unwrap();
    let mut silent = ours.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(7)";
    sqlx::query(lock).execute(&mut *silent).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let locked = sqlx::query(lock).execute(&mut *conn);
    let deadline = std::time::Duration::from_secs(60);
    let locked = tokio::time::timeout(deadline, locked).await;
    locked.expect("the lock is let go").unwrap();
    assert!(sqlx::query("select 1").execute(&mut *silent).await.is_err());
}
