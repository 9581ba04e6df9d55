//! `serve`: the API, the relay, the reaper and the janitor in one process, until SIGTERM.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use upres_common::job::Class;
use upres_common::lease::{Beat, ClaimRequest, Lease, Verdict};
use upres_common::objects::ObjectStore;

use crate::api::{self, App, Parts};
use crate::appraise::Appraiser;
use crate::batch::carry_out::Steward;
use crate::batch::expand::Expander;
use crate::changes::Changes;
use crate::config::{Config, WebhookConfig};
use crate::dispatch::Bell;
use crate::estimate::Estimate;
use crate::group::Group;
use crate::limits::Limits;
use crate::publish::Door;
use crate::reap::Reaper;
use crate::store::kept::Kept;
use crate::webhook::{self, Courier};
use crate::{accept, cli, dispatch, fail, janitor, lease, metrics, store};

/// Requests that are being answered get this long at the end.
const GRACE: Duration = Duration::from_secs(10);
/// A database that is away at the start is awaited this long.
const DATABASE_WAIT: Duration = Duration::from_secs(60);
/// Batches that become jobs at once, for each coordinator: one that takes long, and one beside it.
const EXPANDERS: usize = 2;

pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    let metrics = metrics::install()?;
    let pool = store::pool(
        &config.database.database_url,
        config.database.database_connections,
    )
    .map_err(anyhow::Error::msg)?;
    migrate(&pool).await?;
    cli::print_first_key(&pool).await?;
    let objects = ObjectStore::new(&config.s3).await;
    let bell = Arc::new(Bell::default());
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let changes = listen(&tasks, &pool, &stop);

    start_relays(&tasks, &pool, &config, &bell, &stop);
    let door = Door::new(&tasks, &pool, &objects, config.retry);
    let reaper = Reaper {
        pool: pool.clone(),
        objects: objects.clone(),
        door: door.clone(),
        retry: config.retry,
        lease_ttl: Duration::from_secs(config.lease.lease_ttl_secs.into()),
    };
    tasks.spawn(reaper.run(config.lease.reap_interval, stop.clone()));
    start_janitor(&tasks, &pool, &objects, &config, &stop);
    start_batches(&tasks, &pool, &objects, &bell, &stop);
    start_webhooks(&tasks, &pool, &config.webhook, &stop)?;
    let app = App::new(Parts {
        figures: Arc::default(),
        changes,
        estimate: Estimate::new(&pool),
        limits: Arc::new(Limits::new(config.limits)),
        of_a_tenant: config.dispatch.of_a_tenant,
        accept: accept::group(&tasks, &pool, &bell),
        claims: group_claims(&tasks, &pool, config.lease.lease_ttl_secs),
        bulk_claims: group_claims(&tasks, &pool, config.lease.lease_ttl_secs),
        heartbeats: group_heartbeats(&tasks, &pool, config.lease.lease_ttl_secs),
        failures: fail::group(&tasks, &pool, config.retry),
        door,
        keys: Arc::default(),
        pool,
        objects,
        bell,
        metrics,
        assumed_pace: config.scaling_pace,
        private_webhooks: config.webhook.allow_private,
        content_policy: api::content_policy(config.s3.s3_endpoint.as_deref().unwrap_or_default()),
        uploads: config.place.prefix(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    });
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    tracing::info!(address = %listener.local_addr()?, "coordinator listens");
    let server = axum::serve(listener, api::router(app));
    let server = server.with_graceful_shutdown(stop.clone().cancelled_owned());
    tasks.spawn(async move { server.await });

    told_to_stop().await?;
    tracing::info!("coordinator stops");
    stop.cancel();
    tasks.close();
    let ended = tokio::time::timeout(GRACE, tasks.wait()).await;
    ended.unwrap_or_else(|_| tracing::warn!("some requests were cut off"));
    Ok(())
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn start_relays(
    tasks: &TaskTracker,
    pool: &PgPool,
    config: &Config,
    bell: &Arc<Bell>,
    stop: &CancellationToken,
) {
    for class in Class::ALL {
        tasks.spawn(dispatch::run(
            class,
            pool.clone(),
            config.amqp_url.clone(),
            config.dispatch.clone(),
            Arc::clone(bell),
            stop.clone(),
        ));
    }
}

/// What turns batches into jobs and jobs into the ends of batches.
fn start_batches(
    tasks: &TaskTracker,
    pool: &PgPool,
    objects: &ObjectStore,
    bell: &Arc<Bell>,
    stop: &CancellationToken,
) {
    let (pool, objects, bell) = (pool.clone(), objects.clone(), Arc::clone(bell));
    let expander = Expander {
        pool: pool.clone(),
        objects: objects.clone(),
        bell: Arc::clone(&bell),
    };
    let appraiser = Appraiser {
        pool: pool.clone(),
        objects: objects.clone(),
        bell: Arc::clone(&bell),
    };
    let steward = Steward {
        pool,
        objects,
        bell,
    };
    for _ in 0..EXPANDERS {
        tasks.spawn(expander.clone().run(stop.clone()));
    }
    tasks.spawn(appraiser.run(stop.clone()));
    tasks.spawn(steward.run(stop.clone()));
}

fn start_janitor(
    tasks: &TaskTracker,
    pool: &PgPool,
    objects: &ObjectStore,
    config: &Config,
    stop: &CancellationToken,
) {
    tasks.spawn(janitor::run(
        pool.clone(),
        objects.clone(),
        config.place.prefix(),
        config.janitor.clone(),
        stop.clone(),
    ));
}

fn start_webhooks(
    tasks: &TaskTracker,
    pool: &PgPool,
    config: &WebhookConfig,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let courier = Courier::new(pool, config)?;
    tasks.spawn(webhook::run(courier, stop.clone()));
    Ok(())
}

/// Hears of changes as long as the process lives.
fn listen(tasks: &TaskTracker, pool: &PgPool, stop: &CancellationToken) -> Arc<Changes> {
    let changes = Arc::new(Changes::default());
    tasks.spawn(Arc::clone(&changes).listen(pool.clone(), stop.clone()));
    changes
}

fn group_claims(
    tasks: &TaskTracker,
    pool: &PgPool,
    ttl_secs: u32,
) -> Group<ClaimRequest, Vec<Lease>> {
    let kept = Arc::new(Kept::new(pool));
    Group::start(tasks, move |requests: Vec<ClaimRequest>| {
        let kept = Arc::clone(&kept);
        async move {
            let mut conn = kept.take().await?;
            let leases = lease::claim(&mut conn, &requests, ttl_secs).await?;
            kept.keep(conn);
            Ok(leases)
        }
    })
}

fn group_heartbeats(
    tasks: &TaskTracker,
    pool: &PgPool,
    ttl_secs: u32,
) -> Group<Vec<Beat>, Vec<Verdict>> {
    let kept = Arc::new(Kept::new(pool));
    Group::start(tasks, move |requests: Vec<Vec<Beat>>| {
        let kept = Arc::clone(&kept);
        async move {
            let beats = requests.concat();
            let mut conn = kept.take().await?;
            let verdicts = lease::heartbeat(&mut conn, &beats, ttl_secs).await?;
            kept.keep(conn);
            let mut verdicts = verdicts.into_iter();
            let answers = requests
                .iter()
                .map(|beats| verdicts.by_ref().take(beats.len()).collect());
            Ok(answers.collect())
        }
    })
}

async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    let answers = async {
        while let Err(error) = sqlx::query("select 1").execute(pool).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "waiting for the database"
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let answered = tokio::time::timeout(DATABASE_WAIT, answers).await;
    answered.context("the database did not answer for a minute")?;
    // An index over millions of jobs takes as long as it takes; another coordinator that is at it is waited for.
    let migrated = store::MIGRATOR.run(pool).await;
    migrated.context("cannot apply migrations")
}
