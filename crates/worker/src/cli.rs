//! The command line of `upres-worker`.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use invsr::{InvSr, MemoryLimit};
use upres_common::config::Refused;
use upres_common::telemetry;

use crate::bench::{self, BenchConfig};
use crate::compare;
use crate::config::{Config, EngineConfig};
use crate::engine::{Engine, Loaded, MadeBy};

/// Takes jobs through the engine: one process per GPU.
#[derive(Debug, Parser)]
#[command(name = "upres-worker", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pulls jobs until SIGTERM, then finishes or hands back what it holds.
    Run(Box<Config>),
    /// Prints every problem with the configuration and ends.
    CheckConfig(Box<Config>),
    /// Measures how long each stage of a tile takes on this machine, without any service.
    Bench(BenchConfig),
}

/// Runs the program. Exit status 2: wrong usage or configuration; `refused` is what `check-config`
/// is to tell beside its own findings.
///
/// # Errors
/// What cannot be mended by waiting: a model that does not load, a device that is lost.
pub async fn run(cli: Cli, refused: Refused) -> anyhow::Result<ExitCode> {
    let (config, only_check) = match cli.command {
        Command::Run(config) => (config, false),
        Command::CheckConfig(config) => (config, true),
        Command::Bench(config) => return measure(&config),
    };
    let mut problems = config.services.problems();
    problems.extend(config.engine.problems());
    problems.extend(config.log.problems());
    if any_printed(&refused.and(problems)) {
        return Ok(ExitCode::from(2));
    }
    if only_check {
        println!("the configuration is valid");
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init(&config.log).map_err(anyhow::Error::msg)?;
    let room = config.engine.room().map_err(anyhow::Error::msg)?;
    let engine = Engine::start(load(config.engine.clone(), room.memory)).await?;
    tracing::info!(memory_limit = %room.memory, tile_batch = room.tile_batch, "room");
    crate::run(config.services, engine, room).await
}

/// Stays on this thread, which from then on owns the device; nobody else waits for it.
fn measure(config: &BenchConfig) -> anyhow::Result<ExitCode> {
    if any_printed(&config.problems()) {
        return Ok(ExitCode::from(2));
    }
    let model = open(&config.engine, MemoryLimit::default())?;
    if let Some(against) = &config.against {
        let near = compare::run(&model, config, against)?;
        return Ok(if near {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    bench::run(model, config)?;
    Ok(ExitCode::SUCCESS)
}

fn any_printed(problems: &[String]) -> bool {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    !problems.is_empty()
}

fn open(config: &EngineConfig, limit: MemoryLimit) -> anyhow::Result<InvSr> {
    let device = config.device.parse().context("--device")?;
    let dtype = config.dtype.parse().context("--dtype")?;
    InvSr::load_within(limit, &config.model_dir, &device, dtype)
        .with_context(|| format!("cannot load the model {}", config.model_dir.display()))
}

/// Loads the model on the thread that will own it.
fn load(
    config: EngineConfig,
    limit: MemoryLimit,
) -> impl FnOnce() -> anyhow::Result<Loaded> + Send {
    move || {
        let model = open(&config, limit)?;
        let info = model.info();
        tracing::info!(
            model = info.name,
            trained = info.trained,
            device = config.device,
            "model loaded"
        );
        if !info.trained {
            tracing::warn!(
                model = info.name,
                "this network is untrained: its pictures are noise"
            );
        }
        let device = config.device.split(':').next().unwrap_or_default();
        let weights = info.digest.as_deref().unwrap_or(&info.name);
        let (version, revision) = (env!("CARGO_PKG_VERSION"), invsr::REVISION);
        Ok(Loaded {
            identity: format!("{version} r{revision} {weights} {device} {}", config.dtype),
            made_by: MadeBy {
                model: info.name.clone(),
                model_sha256: info.digest.clone(),
                device: config.device.clone(),
                dtype: config.dtype.clone(),
            },
            upscale: Box::new(model),
        })
    }
}
