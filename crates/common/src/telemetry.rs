//! Logs: one set-up and one set of field names for all programs.
//!
//! Fields, the same everywhere: `job.id`, `job.attempt`, `worker.id`, `object.key`, `duration_ms`.
//! `error` wakes someone, `warn` is degraded service, `info` is one line a step of the journey.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Log settings, the same for every program.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// What is logged, e.g. `info`, `debug` or `info,upres_worker=debug`.
    #[arg(long, env = "UPRES_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// `text` for people, `json` for machines.
    #[arg(long, env = "UPRES_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// What is wrong with these settings, a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.filter().err().into_iter().collect()
    }

    fn filter(&self) -> Result<EnvFilter, String> {
        EnvFilter::try_new(&self.log)
            .map_err(|error| format!("--log `{}` is not a log filter: {error}", self.log))
    }
}

/// Sends the program's logs to standard error.
///
/// # Errors
/// A sentence when the filter cannot be read.
pub fn init(args: &LogArgs) -> Result<(), String> {
    let registry = tracing_subscriber::registry().with(args.filter()?);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let installed = match args.log_format {
        LogFormat::Text => registry
            .with(layer.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
    // A second call in one process keeps the first set-up.
    let _ = installed;
    Ok(())
}
