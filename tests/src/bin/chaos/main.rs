//! `make chaos`: one run under faults, or several, one seed after the other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use journey_tests::chaos::{FAULTS, Load, Options, run};

/// Of programs and links; the servers stay up.
const SMALLER_FAULTS: [&str; 8] = [
    "kill",
    "terminate",
    "pause",
    "connections",
    "store-503",
    "black-hole",
    "slow",
    "hang",
];

#[derive(Debug, Parser)]
struct Args {
    /// Replays the submissions and faults of an earlier run; drawn from the clock unless given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Runs; each takes the next seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    runs: u64,
    /// Jobs to submit in each; 2000 unless given, with the real engine 40.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// `fake`: an engine that only enlarges. `real`: the bundled model on crops of the sample photos, and
    /// smaller faults.
    #[arg(long, default_value = "fake", value_parser = PossibleValuesParser::new(["fake", "real"]))]
    engine: String,
    /// Seconds of faults in each; the submissions are spread over them.
    #[arg(long, default_value_t = 150, value_name = "SECS")]
    seconds: u64,
    /// Faults to draw from; all unless given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(FAULTS))]
    faults: Vec<String>,
    /// Seconds a lease lasts.
    #[arg(long, default_value_t = 4, value_name = "SECS")]
    lease_secs: u64,
    /// Logs, history and report of each run go into a folder here, named after its seed.
    #[arg(long, default_value = "target/chaos", value_name = "DIR")]
    out: PathBuf,
}

// More threads than cores: the proxies must not wait for the clients.
#[tokio::main(worker_threads = 4)]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let first = match args.seed {
        Some(seed) => seed,
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs(),
    };
    let (load, usual, faults) = match args.engine.as_str() {
        "real" => (Load::Real, 40, &SMALLER_FAULTS[..]),
        _ => (Load::Fake, 2000, &FAULTS[..]),
    };
    let faults = match args.faults.is_empty() {
        true => faults.iter().map(|name| (*name).to_owned()).collect(),
        false => args.faults,
    };
    let out = std::path::absolute(&args.out)?;
    let mut clean = true;
    for seed in first..first + args.runs {
        let folder = out.join(seed.to_string());
        println!("seed {seed}: logs in {}", folder.display());
        let options = Options {
            seed,
            jobs: args.jobs.unwrap_or(usual),
            duration: Duration::from_secs(args.seconds),
            faults: faults.clone(),
            lease: Duration::from_secs(args.lease_secs),
            load,
            folder,
        };
        let report = run(&options)
            .await
            .with_context(|| format!("the run with seed {seed} could not be made"))?;
        println!("{report}");
        clean &= report.is_clean();
    }
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
