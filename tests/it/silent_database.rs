//! Connections to the database fall silent without an end, as when a firewall forgets them.

use journey_tests::{DEADLINE, OwnPostgres, Proxy, World, WorldOptions, until};
use reqwest::{Method, StatusCode};
use sqlx::Connection as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_outlives_silent_connections_to_its_database() -> anyhow::Result<()> {
    let postgres = tokio::task::spawn_blocking(OwnPostgres::start).await??;
    let direct = postgres.url();
    let (_, host) = direct.split_once('@').expect("an account and a host");
    let (host, name) = host.split_once('/').expect("a host and a database");
    let proxy = Proxy::start(&[host]).await?;
    let options = WorldOptions {
        database_server: Some(format!("postgres://upres@{}/{name}", proxy.address())),
        ..WorldOptions::default()
    };
    let mut world = World::new("silent_database", options).await?;
    let _worker = world.start_fake_worker_default().await?;
    let before = world.submit_photo("before").await?;
    world.succeeds(&before).await?;
    // Often enough to hit the relay, the reaper and a claim in the middle of a statement.
    let mut tries = 0;
    for _ in 0..4 {
        proxy.lose_connections();
        until("a job is accepted again", DEADLINE, async || {
            // A job each: an earlier one may have been accepted although no answer came.
            tries += 1;
            Ok(world.submit_photo(&format!("during-{tries}")).await.is_ok())
        })
        .await?;
    }
    let after = world.submit_photo("after").await?;
    world.succeeds(&after).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_although_the_database_says_nothing() -> anyhow::Result<()> {
    let world = World::plain("silent_request").await?;
    let id = world.submit_photo("a").await?;
    let mut conn = world.database().await?;
    let mut tx = conn.begin().await?;
    sqlx::query("lock table jobs in access exclusive mode")
        .execute(&mut *tx)
        .await?;
    let ask = async |method: Method, path: String| -> anyhow::Result<StatusCode> {
        let answer = world.request(method, &path).send();
        Ok(tokio::time::timeout(DEADLINE, answer).await??.status())
    };
    let asked = tokio::try_join!(
        ask(Method::GET, "/v1/jobs".to_owned()),
        ask(Method::GET, format!("/v1/jobs/{id}")),
        ask(Method::GET, format!("/v1/jobs/{id}?wait=1")),
        ask(Method::POST, format!("/v1/jobs/{id}/cancel")),
        ask(Method::GET, "/metrics".to_owned()),
        ask(Method::GET, "/scaling".to_owned()),
    );
    let away = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(asked?, (away, away, away, away, away, away));
    tx.rollback().await?;
    let cancel = format!("/v1/jobs/{id}/cancel");
    until("it is cancelled after all", DEADLINE, async || {
        Ok(ask(Method::POST, cancel.clone()).await? == StatusCode::OK)
    })
    .await
}
