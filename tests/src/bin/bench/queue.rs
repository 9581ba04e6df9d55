//! No-op jobs: how many a second go in and come out, and how long one waits in an idle queue.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use journey_tests::{OwnPostgres, World, WorldOptions};
use serde_json::{Value, json};

use crate::leases::Leases;
use crate::table::{self, median, row};
use crate::{peer, whole};

/// Jobs in the hands of each side at once: as many as a coordinator has database connections.
pub(crate) const AT_ONCE: usize = 16;

/// What production has where the stories are in a hurry.
pub(crate) const SETTINGS: [(&str, &str); 6] = [
    ("UPRES_LOG", "info"),
    ("UPRES_LEASE_TTL_SECS", "60"),
    ("UPRES_REAP_SECS", "5"),
    ("UPRES_RETRY_BASE_SECS", "2"),
    ("UPRES_RESEND_SECS", "30"),
    ("UPRES_JOBS_IN_FLIGHT", whole::JOBS_IN_FLIGHT),
];

/// What to measure, and against whom.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// How often each side has its turn.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Jobs through the queue alone in a turn.
    #[arg(long, default_value_t = 1500)]
    jobs: usize,
    /// Whole jobs in a turn, from upload to published result.
    #[arg(long, default_value_t = 400)]
    whole_jobs: usize,
    /// Single jobs into an idle queue in a turn.
    #[arg(long, default_value_t = 100)]
    singles: usize,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
    /// A program for graphile-worker that takes --jobs, --singles, --at-once and --mode and the variable
    /// DATABASE_URL, and prints the numbers of one side as JSON. Ends with `;`.
    #[arg(long, num_args = 1.., value_terminator = ";")]
    graphile: Vec<String>,
    /// The same for Celery, without --mode and with AMQP_URL.
    #[arg(long, num_args = 1.., value_terminator = ";")]
    celery: Vec<String>,
}

/// One side's numbers of one turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) enqueue_per_s: f64,
    pub(crate) drain_per_s: f64,
    pub(crate) pickup_p50_ms: f64,
    pub(crate) pickup_p99_ms: f64,
}

const LEASES: &str = "upres: queue alone";
const WHOLE: &str = "upres: whole job";
const ONE_BY_ONE: &str = "graphile-worker: job by job";
const BATCHES: &str = "graphile-worker: batches";
const CELERY: &str = "Celery: task by task";

type Sides = BTreeMap<&'static str, Vec<Turn>>;

/// Measures, prints the table, writes the numbers.
pub(crate) async fn run(args: &QueueArgs) -> anyhow::Result<()> {
    // Both sides use this one server, which writes through to the disk as in production.
    let postgres = OwnPostgres::start()?;
    let options = WorldOptions {
        database_server: Some(postgres.url()),
        settings: SETTINGS.to_vec(),
        ..WorldOptions::default()
    };
    let mut world = World::new("bench", options).await?;
    Leases::store_inputs(&world).await?;
    let mut sides = Sides::new();
    for turn in 0..args.turns {
        let leases = Leases::new(&world, &format!("leases-{turn}"));
        let mut add = |side, turn| sides.entry(side).or_default().push(turn);
        add(LEASES, leases.measure(args.jobs, args.singles).await?);
        for (side, mode, jobs) in [
            (ONE_BY_ONE, "one", args.jobs),
            (BATCHES, "batch", 10 * args.jobs),
        ] {
            if let Some(mut command) = peer::command(&args.graphile) {
                command.args(["--mode", mode]);
                command.env("DATABASE_URL", postgres.url());
                add(side, measure_peer(command, args, jobs)?);
            }
        }
        if let Some(mut command) = peer::command(&args.celery) {
            command.env("AMQP_URL", world.amqp_url());
            add(CELERY, measure_peer(command, args, args.jobs)?);
        }
        let leases = Leases::new(&world, &format!("whole-{turn}"));
        add(
            WHOLE,
            whole::measure(&mut world, leases, args.whole_jobs, args.singles / 2).await?,
        );
    }
    let numbers: Value = sides
        .iter()
        .map(|(side, turns)| (*side, numbers(turns)))
        .collect();
    let numbers = json!({"at_once": AT_ONCE, "jobs": args.jobs, "whole_jobs": args.whole_jobs, "sides": numbers});
    std::fs::write(&args.out, format!("{numbers:#}\n"))?;
    print_table(&sides);
    Ok(())
}

fn measure_peer(mut command: Command, args: &QueueArgs, jobs: usize) -> anyhow::Result<Turn> {
    command.args(["--jobs", &jobs.to_string()]);
    command.args(["--singles", &args.singles.to_string()]);
    command.args(["--at-once", &AT_ONCE.to_string()]);
    let printed = peer::measure(&mut command)?;
    let number = |name: &str| {
        let number = printed[name].as_f64();
        number.ok_or_else(|| anyhow::anyhow!("the other program printed no {name}: {printed}"))
    };
    Ok(Turn {
        enqueue_per_s: number("enqueue_per_s")?,
        drain_per_s: number("drain_per_s")?,
        pickup_p50_ms: number("pickup_p50_ms")?,
        pickup_p99_ms: number("pickup_p99_ms")?,
    })
}

/// Its name in the file, its title in the table, and where it is.
type Column = (&'static str, &'static str, fn(&Turn) -> f64);

const COLUMNS: [Column; 4] = [
    ("enqueue_per_s", "enqueue/s", |turn| turn.enqueue_per_s),
    ("drain_per_s", "drain/s", |turn| turn.drain_per_s),
    ("pickup_p50_ms", "pick-up p50 ms", |turn| turn.pickup_p50_ms),
    ("pickup_p99_ms", "p99 ms", |turn| turn.pickup_p99_ms),
];

fn values(turns: &[Turn], column: fn(&Turn) -> f64) -> Vec<f64> {
    turns.iter().map(column).collect()
}

fn numbers(turns: &[Turn]) -> Value {
    let columns = COLUMNS.into_iter().map(|(name, _, column)| {
        let values = values(turns, column);
        (name, json!({"median": median(&values), "turns": values}))
    });
    columns.collect()
}

fn print_table(sides: &Sides) {
    println!("No-op jobs, {AT_ONCE} at once, one PostgreSQL with fsync: medians of the turns");
    let mut head = row(["side"]);
    head.extend(COLUMNS.map(|(_, title, _)| title.to_owned()));
    let mut rows = vec![head];
    for side in [LEASES, WHOLE, ONE_BY_ONE, BATCHES, CELERY] {
        if let Some(turns) = sides.get(side) {
            rows.push(line(
                side,
                COLUMNS.map(|(_, _, column)| show(median(&values(turns, column)))),
            ));
        }
    }
    for peer in [ONE_BY_ONE, BATCHES, CELERY] {
        if let Some((own, other)) = sides.get(LEASES).zip(sides.get(peer)) {
            // Of each turn, because the machine changes between turns.
            let ratio = |column: fn(&Turn) -> f64| {
                let pairs = own.iter().zip(other);
                let ratios: Vec<f64> = pairs
                    .map(|(own, other)| column(own) / column(other))
                    .collect();
                median(&ratios)
            };
            let ratios = COLUMNS.map(|(_, _, column)| format!("{:.3}x", ratio(column)));
            rows.push(line(&format!("queue alone / {peer}"), ratios));
        }
    }
    table::print(&rows);
}

fn line(name: &str, cells: [String; 4]) -> Vec<String> {
    let mut line = row([name]);
    line.extend(cells);
    line
}

fn show(number: f64) -> String {
    match number {
        ..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
