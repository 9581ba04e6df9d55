//! Connections to the database fall silent without an end, as when a firewall forgets them.

use anyhow::Context;
use journey_tests::{DEADLINE, FakeWorker, Fault, OwnPostgres, Proxy, World, WorldOptions, until};
use reqwest::{Method, StatusCode};
use sqlx::{Connection as _, PgConnection};

/// A coordinator whose link to its database can be broken.
async fn behind_a_proxy(name: &str) -> anyhow::Result<(World, Proxy, OwnPostgres)> {
    let postgres = tokio::task::spawn_blocking(OwnPostgres::start).await??;
    let host = host(&postgres)?;
    let proxy = Proxy::start(&[&host]).await?;
    let server = postgres.url().replace(&host, &proxy.address().to_string());
    let options = WorldOptions {
        database_server: Some(server),
        ..WorldOptions::default()
    };
    Ok((World::new(name, options).await?, proxy, postgres))
}

/// With its port.
fn host(postgres: &OwnPostgres) -> anyhow::Result<String> {
    let url = postgres.url();
    let (_, host) = url.split_once('@').context("an account and a host")?;
    let (host, _) = host.split_once('/').context("a host and a database")?;
    Ok(host.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_longer_than_a_lease_costs_no_attempt() -> anyhow::Result<()> {
    let (mut world, proxy, postgres) = behind_a_proxy("silent_lease").await?;
    let slow = FakeWorker {
        tiles: 80,
        tile_ms: 100,
        ..FakeWorker::default()
    };
    let _worker = world.start_fake_worker(slow).await?;
    let id = world.submit_photo("a").await?;
    world.wait_for(&id, &["running"]).await?;
    let env = world.env().into_iter();
    let mut urls = env.filter(|(name, _)| name == "UPRES_DATABASE_URL");
    let (_, through) = urls.next().context("the database's address")?;
    let direct = through.replace(&proxy.address().to_string(), &host(&postgres)?);
    let mut direct = PgConnection::connect(&direct).await?;
    proxy.set(Fault::BlackHole);
    until("the lease has lapsed", DEADLINE, async || {
        let lapsed =
            sqlx::query_scalar::<_, bool>("select bool_and(lease_until < now()) from jobs");
        Ok(lapsed.fetch_one(&mut direct).await?)
    })
    .await?;
    // What was asked meanwhile is never answered: heartbeats have to be sent again.
    proxy.reset();
    proxy.set(Fault::Pass);
    let done = world.succeeds(&id).await?;
    let attempts = done["attempts"].as_array().map(Vec::len);
    assert_eq!(attempts, Some(1), "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_outlives_silent_connections_to_its_database() -> anyhow::Result<()> {
    let (mut world, proxy, _postgres) = behind_a_proxy("silent_database").await?;
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
    until("changes are heard of again", DEADLINE, async || {
        let metrics = world.request(Method::GET, "/metrics").send().await?;
        let metrics = metrics.text().await?;
        let mut begun = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("upres_listening_begun_total "));
        Ok(begun.any(|count| count != "1"))
    })
    .await
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
