//! The command line of `upres`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{batch, evaluate, inspect, jobs, keys, models, submit, upscale, workers};

/// Exit status for wrong usage or configuration.
pub const USAGE: u8 = 2;

/// Wrong usage or configuration, found by more than the parser: exit status [`USAGE`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Upscales images four times in each direction with InvSR: here, or by a queue of workers.
#[derive(Debug, Parser)]
#[command(name = "upres", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Upscale images on this machine, without any service
    Upscale(Box<upscale::UpscaleArgs>),
    /// Say what is in image files, and what upscaling them would take
    Inspect(inspect::InspectArgs),
    /// Measure a model and its schedules on pictures whose truth is known
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Submit an image to the queue
    Submit(Box<submit::SubmitArgs>),
    /// Submit many images at once, follow and steer them
    Batch(batch::BatchArgs),
    /// Ask why a job is not running yet, or how it ended
    Explain(batch::ExplainArgs),
    /// Look at jobs, fetch their results, cancel or retry them
    Jobs(jobs::JobsArgs),
    /// List the workers of the queue
    Workers(workers::WorkersArgs),
    /// Make, list, rotate and revoke API keys
    Keys(keys::KeysArgs),
    /// Fetch, make, check and list model folders
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Print a script that completes the commands in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where models are found; the same for every command that uses one.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelRootArgs {
    /// A model folder, or a folder of model folders, that is looked at first
    #[arg(long, value_name = "DIR", env = "UPRES_MODEL_DIR")]
    pub model_dir: Option<PathBuf>,
}

/// Carries out the command; a failure that ends everything is an error, one of a file a status.
///
/// # Errors
/// What stops the command before or between its files.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Upscale(args) => upscale::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Submit(args) => submit::run(*args),
        Command::Batch(args) => batch::run(args),
        Command::Explain(args) => batch::explain(args),
        Command::Jobs(args) => jobs::run(args),
        Command::Workers(args) => workers::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Models(command) => models::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "upres", &mut script);
            // Whoever reads it may want its beginning only.
            let _ = std::io::stdout().write_all(&script);
            Ok(ExitCode::SUCCESS)
        }
    }
}
