//! `upres workers`: who works.

use std::process::ExitCode;

use reqwest::Method;
use upres_common::lease::WorkerView;

use crate::api::{Api, ApiArgs, block_on};

/// List the workers of the last ten minutes; needs a key with `admin`.
#[derive(Debug, clap::Args)]
pub struct WorkersArgs {
    /// Print JSON, one worker a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Runs `upres workers`.
///
/// # Errors
/// What the coordinator answers, in sentences.
pub fn run(args: WorkersArgs) -> anyhow::Result<ExitCode> {
    let api = Api::new(args.api)?;
    let done = block_on(async {
        let workers: Vec<WorkerView> = api.send(api.request(Method::GET, "workers")).await?;
        for worker in &workers {
            match args.json {
                true => println!("{}", serde_json::to_string(worker)?),
                false => println!("{}", line(worker)),
            }
        }
        if workers.is_empty() {
            eprintln!("no worker was heard of in the last ten minutes");
        }
        Ok(ExitCode::SUCCESS)
    })?;
    Ok(done.unwrap_or(ExitCode::from(130)))
}

fn line(worker: &WorkerView) -> String {
    let known = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".to_owned());
    format!(
        "{}  {} {}  {}  {} leases  {:.1} tile-steps/s  last heard of {}",
        worker.id,
        known(&worker.device),
        known(&worker.dtype),
        known(&worker.model),
        worker.leases,
        worker.tile_steps_per_second,
        worker.last_seen.format("%F %T UTC"),
    )
}
