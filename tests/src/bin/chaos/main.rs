//! `make chaos`: one run under faults, or several, one seed after the other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Parser;
use clap::builder::PossibleValuesParser;
use journey_tests::chaos::{FAULTS, Options, run};

#[derive(Debug, Parser)]
struct Args {
    /// Replays the submissions and faults of an earlier run; drawn from the clock unless given.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Runs; each takes the next seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    runs: u64,
    /// Jobs to submit in each.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    jobs: usize,
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
    let faults = match args.faults.is_empty() {
        true => FAULTS.map(str::to_owned).to_vec(),
        false => args.faults,
    };
    let out = std::path::absolute(&args.out)?;
    let mut clean = true;
    for seed in first..first + args.runs {
        let folder = out.join(seed.to_string());
        println!("seed {seed}: logs in {}", folder.display());
        let options = Options {
            seed,
            jobs: args.jobs,
            duration: Duration::from_secs(args.seconds),
            faults: faults.clone(),
            lease: Duration::from_secs(args.lease_secs),
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
