//! A large number of jobs through the queue, and a claim beside millions of jobs that have ended.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use journey_tests::{OwnPostgres, Process, World, WorldOptions};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use upres_common::job::Class;

use crate::leases::Leases;
use crate::queue::{AT_ONCE, SETTINGS};
use crate::table::{self, load_average, median, percentile, row};

/// How often the outbox is looked at while jobs are drained.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Claims on each side before the other has its turn.
const CLAIMS_IN_A_TURN: usize = 50;
/// Jobs that ended longer ago are removed by the janitor in the last measurement.
const RETAIN_DAYS: u32 = 30;

/// How much of everything.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Jobs that are submitted, then drained.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Ended jobs in the large table; half of them past their retention.
    #[arg(long, default_value_t = 5_000_000)]
    rows: i64,
    /// Ended jobs in the small table.
    #[arg(long, default_value_t = 10_000)]
    few_rows: i64,
    /// Turns of each table.
    #[arg(long, default_value_t = 10)]
    turns: usize,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
}

/// Measures, prints, writes the numbers.
pub(crate) async fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let postgres = OwnPostgres::start()?;
    let through = through(args, &postgres).await?;
    let beside = beside(args, &postgres).await?;
    let numbers = json!({"at_once": AT_ONCE, "through": through, "beside": beside});
    std::fs::write(&args.out, format!("{numbers:#}\n"))?;
    Ok(())
}

async fn world(name: &str, postgres: &OwnPostgres) -> anyhow::Result<World> {
    let options = WorldOptions {
        database_server: Some(postgres.url()),
        settings: SETTINGS.to_vec(),
        ..WorldOptions::default()
    };
    let world = World::new(name, options).await?;
    Leases::store_inputs(&world).await?;
    Ok(world)
}

/// In, and out again.
async fn through(args: &LoadArgs, postgres: &OwnPostgres) -> anyhow::Result<Value> {
    if args.jobs == 0 {
        return Ok(Value::Null);
    }
    let world = world("load", postgres).await?;
    let leases = Leases::new(&world, "load");
    let enqueue_load = load_average();
    let enqueue_per_s = leases.enqueue(args.jobs).await?;
    println!(
        "{} no-op jobs, {AT_ONCE} at once, one coordinator\nin:  {enqueue_per_s:.0} a second (load {enqueue_load})",
        args.jobs
    );
    let drain_load = load_average();
    let done = CancellationToken::new();
    let watch = TaskTracker::new().spawn(most_released(world.database().await?, done.clone()));
    let drain_per_s = leases.drain_all(args.jobs).await?;
    done.cancel();
    let most_released = watch.await??;
    println!("out: {drain_per_s:.0} a second (load {drain_load})");
    println!("wake-ups on the broker at once: {most_released} at most\n");
    Ok(json!({
        "jobs": args.jobs, "enqueue_per_s": enqueue_per_s, "drain_per_s": drain_per_s,
        "most_released": most_released,
        "load_average": {"enqueue": enqueue_load, "drain": drain_load},
    }))
}

/// The largest number of unanswered wake-ups that was seen.
async fn most_released(mut conn: PgConnection, done: CancellationToken) -> anyhow::Result<i64> {
    let mut most = 0;
    while tokio::time::timeout(LOOK_EVERY, done.cancelled())
        .await
        .is_err()
    {
        let sent = sqlx::query_scalar("select count(*) from outbox where sent_at is not null");
        most = most.max(sent.fetch_one(&mut conn).await?);
    }
    Ok(most)
}

/// Claims beside few and beside many jobs that have ended, in turns, and while those are removed.
async fn beside(args: &LoadArgs, postgres: &OwnPostgres) -> anyhow::Result<Value> {
    if args.rows == 0 {
        return Ok(Value::Null);
    }
    let mut few = Table::new("few", args.few_rows, postgres).await?;
    let mut many = Table::new("many", args.rows, postgres).await?;
    let load = load_average();
    for _ in 0..args.turns {
        few.turn().await?;
        many.turn().await?;
    }
    let (few_ms, many_ms) = (std::mem::take(&mut few.ms), std::mem::take(&mut many.ms));
    let mut janitor = many.start_janitor()?;
    let before = many.rows().await?;
    for _ in 0..args.turns {
        many.turn().await?;
    }
    let still_at_it = janitor.is_running();
    janitor.kill();
    let removed = before - many.rows().await?;
    let swept_ms = many.ms;

    let ratio = |ms: &[f64], fraction| percentile(ms, fraction) / percentile(&few_ms, fraction);
    let line = |name: &str, ms: &[f64]| {
        let mut line = row([name]);
        line.extend([0.5, 0.99].map(|fraction| format!("{:.2}", percentile(ms, fraction))));
        line.extend([0.5, 0.99].map(|fraction| format!("{:.2}x", ratio(ms, fraction))));
        line
    };
    println!("A claim over HTTP, milliseconds, and times as long as beside few (load {load})");
    table::print(&[
        row(["beside", "p50", "p99", "p50", "p99"]),
        line(&format!("{} ended jobs", args.few_rows), &few_ms),
        line(&format!("{} ended jobs", args.rows), &many_ms),
        line(&format!("{removed} of them being removed"), &swept_ms),
    ]);
    let numbers = |ms: &[f64]| json!({"median_ms": median(ms), "p99_ms": percentile(ms, 0.99)});
    Ok(json!({
        "few_rows": args.few_rows, "rows": args.rows, "load_average": load,
        "few": numbers(&few_ms), "many": numbers(&many_ms), "swept": numbers(&swept_ms),
        "removed": removed, "janitor_outlasted_the_claims": still_at_it,
    }))
}

/// A database with jobs that have ended, and claims beside them.
struct Table {
    world: World,
    leases: Leases,
    ms: Vec<f64>,
    submitted: usize,
}

impl Table {
    async fn new(name: &str, rows: i64, postgres: &OwnPostgres) -> anyhow::Result<Self> {
        let world = world(name, postgres).await?;
        let mut conn = world.database().await?;
        let started = Instant::now();
        sqlx::raw_sql(ENDED_JOBS).execute(&mut conn).await?;
        sqlx::query("call make_ended_jobs($1)")
            .bind(rows)
            .execute(&mut conn)
            .await?;
        sqlx::raw_sql("vacuum (analyze) jobs, attempts")
            .execute(&mut conn)
            .await?;
        println!(
            "{rows} ended jobs made in {:.0} s",
            started.elapsed().as_secs_f64()
        );
        Ok(Self {
            leases: Leases::new(&world, name),
            world,
            ms: Vec::new(),
            submitted: 0,
        })
    }

    /// Submits some jobs, then claims them one by one.
    async fn turn(&mut self) -> anyhow::Result<()> {
        let mut ids = Vec::new();
        for _ in 0..CLAIMS_IN_A_TURN {
            self.submitted += 1;
            ids.push(self.leases.submit("claim", self.submitted).await?);
        }
        for id in ids {
            let started = Instant::now();
            let lease = self
                .leases
                .claim(id, Class::Interactive)
                .await?
                .context("a lease")?;
            self.ms.push(started.elapsed().as_secs_f64() * 1e3);
            self.leases.end(&lease).await?;
        }
        Ok(())
    }

    async fn rows(&self) -> anyhow::Result<i64> {
        let mut conn = self.world.database().await?;
        let rows = sqlx::query_scalar("select count(*) from jobs");
        Ok(rows.fetch_one(&mut conn).await?)
    }

    fn start_janitor(&self) -> anyhow::Result<Process> {
        let days = RETAIN_DAYS.to_string();
        Process::start(
            self.world.folder(),
            "janitor",
            "upres-coordinator",
            &["janitor", "--retain-days", &days],
            &self.world.env(),
        )
    }
}

/// Jobs of the last sixty days, each with its attempt, one in fifty failed. Their ids sort by time.
const ENDED_JOBS: &str = r#"
create procedure make_ended_jobs(jobs_wanted bigint) language plpgsql as $$
begin
    for low in 0 .. jobs_wanted - 1 by 100000 loop
        with new as (
            select n, now() - interval '60 days' * (1 - n / jobs_wanted::float8) as ended
            from generate_series(low, least(low + 100000, jobs_wanted) - 1) as n
        ), made as (
            insert into jobs (job_id, tenant, input, output, if_exists, upscale, class, priority,
                max_attempts, labels, created_at, state, version, attempt, failures, progress, cost,
                timings, result, error, started_at, finished_at)
            select (lpad(to_hex((extract(epoch from ended) * 1000)::bigint), 12, '0') || '7'
                    || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
                'default',
                format('s3://masters/box-%s/%s.tif', n / 1000, n),
                format('s3://derivatives/box-%s/%s.tif', n / 1000, n),
                'fail',
                '{"timesteps": [250, 150, 50], "seed": 12345, "color_fix": "wavelet", "tile": 128, "model": "default", "format": "keep"}',
                case when n % 20 = 0 then 'interactive' else 'bulk' end, 0, 5,
                jsonb_build_object('box', (n / 1000)::text),
                ended - interval '10 min',
                case when n % 50 = 0 then 'failed' else 'succeeded' end, 5, 1, 0,
                '{"tiles": 713, "tiles_total": 713, "tile_steps_total": 2139}', 2139,
                '{"fetch": 120, "decode": 340, "predictor": 4100, "unet": 9000, "upload": 800}',
                case when n % 50 > 0 then jsonb_build_object(
                    'uri', format('s3://derivatives/box-%s/%s.tif', n / 1000, n),
                    'sha256', md5(n::text) || md5((n + 1)::text),
                    'bytes', 150000000, 'width', 8192, 'height', 6144) end,
                case when n % 50 = 0
                    then '{"error_type": "input/unreadable", "detail": "it is plain text"}'::jsonb end,
                ended - interval '3 min', ended
            from new
            returning job_id, state, started_at, finished_at
        )
        insert into attempts (job_id, attempt, lease_token, worker_id, outcome, started_at, ended_at)
        select job_id, 1, nextval('lease_tokens'), '01938e2a-7b3c-7def-8000-0123456789ab', state,
            started_at, finished_at
        from made;
        commit;
    end loop;
end $$"#;
