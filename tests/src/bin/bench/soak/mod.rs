//! Hours in minutes: a mixed load on a whole upres, and whether anything grows that should not.

mod clients;
mod series;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use journey_tests::{FakeWorker, OwnPostgres, Process, World, WorldOptions, until};
use serde_json::json;
use sqlx::{PgConnection, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::queue::SETTINGS;
use crate::table::load_average;
use clients::Clients;
use series::Series;

const COORDINATORS: usize = 2;
const WORKERS: usize = 3;
/// What is open when the load stops is done in this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);
const MIB: f64 = 1024.0 * 1024.0;

/// How long, and how much.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// Minutes of load.
    #[arg(long, env = "MINUTES", default_value_t = 30.0)]
    minutes: f64,
    /// Submissions a second.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Samples of everything; each is one line of the report.
    #[arg(long, default_value_t = 180)]
    samples: u32,
    /// Where the report goes; the numbers go beside it, as JSON.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the load, writes the report, and fails if something grows.
pub(crate) async fn run(args: &SoakArgs) -> anyhow::Result<()> {
    let postgres = OwnPostgres::start()?;
    let options = WorldOptions {
        database_server: Some(postgres.url()),
        settings: SETTINGS.to_vec(),
        ..WorldOptions::default()
    };
    let mut world = World::new("soak", options).await?;
    while world.coordinators().count() < COORDINATORS {
        world.start_coordinator().await?;
    }
    let quick = FakeWorker {
        tiles: 4,
        tile_ms: 5,
        ..FakeWorker::default()
    };
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let coordinator = number % COORDINATORS;
        workers.push(world.start_fake_worker_at(coordinator, quick).await?);
    }
    let stop = CancellationToken::new();
    let clients = Arc::new(Clients::new(&world).await?);
    let load = TaskTracker::new().spawn(Arc::clone(&clients).run(args.rate, stop.clone()));
    let series = watch(args, &world, &workers).await;
    stop.cancel();
    load.await??;
    let series = series?;
    let mut conn = world.database().await?;
    until("all jobs have ended", SETTLES_WITHIN, async || {
        let open = sqlx::query_scalar("select count(*) from jobs where finished_at is null");
        let open: i64 = open.fetch_one(&mut conn).await?;
        Ok(open == 0)
    })
    .await?;
    report(args, &series, &clients.summary())
}

/// Samples until the time is over.
async fn watch(args: &SoakArgs, world: &World, workers: &[Process]) -> anyhow::Result<Series> {
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let pause = length / args.samples.max(3);
    let mut conn = world.database().await?;
    let mut series = Series::default();
    let started = Instant::now();
    while started.elapsed() < length {
        tokio::time::sleep(pause).await;
        series.begin(started.elapsed());
        for (number, process) in world.coordinators().enumerate() {
            series.add(
                format!("coordinator {number} MiB"),
                resident(process)? / MIB,
            );
        }
        for (number, process) in workers.iter().enumerate() {
            series.add(format!("worker {number} MiB"), resident(process)? / MIB);
        }
        look_at_database(&mut conn, &mut series).await?;
        println!("{}", series.last_line());
    }
    Ok(series)
}

/// Bytes of memory that a process holds.
pub(crate) fn resident(process: &Process) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let kib = status.lines().find_map(|line| {
        let words = line.strip_prefix("VmRSS:")?;
        words.split_whitespace().next()?.parse::<f64>().ok()
    });
    ensure!(kib.is_some(), "a process has ended");
    Ok(kib.unwrap_or_default() * 1024.0)
}

/// Connections, and for each table what it takes beside its rows: dead ones, and bytes. Of a table that
/// grows with the jobs, bytes for each row.
async fn look_at_database(conn: &mut PgConnection, series: &mut Series) -> anyhow::Result<()> {
    let connections: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'upres-coordinator'",
    )
    .fetch_one(&mut *conn)
    .await?;
    series.add("connections".to_owned(), connections as f64);
    for table in ["jobs", "attempts", "outbox", "idempotency_keys"] {
        let row = sqlx::query(
            "select n_dead_tup::float8 as dead, n_live_tup::float8 as live,
                pg_total_relation_size(relid)::float8 as bytes
            from pg_stat_user_tables
            where relname = $1",
        )
        .bind(table)
        .fetch_one(&mut *conn)
        .await?;
        let (dead, live): (f64, f64) = (row.try_get("dead")?, row.try_get("live")?);
        let bytes: f64 = row.try_get("bytes")?;
        if table == "outbox" {
            series.add(format!("{table} MiB"), bytes / MIB);
            series.add(format!("{table} dead rows"), dead);
        } else {
            series.add(format!("{table} bytes/row"), bytes / live.max(1.0));
            series.add(format!("{table} dead/live %"), 100.0 * dead / live.max(1.0));
        }
    }
    Ok(())
}

fn report(args: &SoakArgs, series: &Series, summary: &str) -> anyhow::Result<()> {
    let growing = series.growing();
    let verdict = match growing.is_empty() {
        true => "verdict: flat".to_owned(),
        false => format!("verdict: GROWING: {}", growing.join(", ")),
    };
    let text = format!(
        "{} minutes, {} submissions a second wanted, {COORDINATORS} coordinators, {WORKERS} workers; load {} at the end\n{summary}\n\n{}\n{verdict}\n",
        args.minutes,
        args.rate,
        load_average(),
        series.table(),
    );
    print!("{text}");
    std::fs::write(&args.out, text)?;
    let numbers = json!({"minutes": args.minutes, "growing": growing, "samples": series.numbers()});
    std::fs::write(args.out.with_extension("json"), format!("{numbers:#}\n"))?;
    ensure!(growing.is_empty(), "{verdict}");
    Ok(())
}
