//! Configuration, one struct a concern. `--help` is the reference.

use std::path::PathBuf;
use std::time::Duration;

use invsr::{MemoryLimit, ParseMemoryLimitError};
use secrecy::{ExposeSecret, SecretString};
use upres_common::objects::S3Args;
use upres_common::telemetry::LogArgs;

use crate::room::Room;

/// Everything `run` needs.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// The services.
    #[command(flatten)]
    pub services: ServiceConfig,
    /// The engine.
    #[command(flatten)]
    pub engine: EngineConfig,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The services a worker talks to.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceConfig {
    /// The coordinator's address.
    #[arg(
        long,
        env = "UPRES_API_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub api_url: String,
    /// An API key with the scope `worker`.
    #[arg(
        long,
        env = "UPRES_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: SecretString,
    /// RabbitMQ, as amqp:// or amqps:// URL.
    #[arg(
        long,
        env = "UPRES_AMQP_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub amqp_url: SecretString,
    /// The object store.
    #[command(flatten)]
    pub s3: S3Args,
    /// Jobs at once: while one is on the device, others are fetched, encoded and written back.
    #[arg(
        long,
        env = "UPRES_JOBS_IN_FLIGHT",
        default_value_t = 2,
        value_name = "N"
    )]
    pub jobs_in_flight: usize,
    /// Largest input file, in bytes.
    #[arg(
        long,
        env = "UPRES_MAX_INPUT_BYTES",
        default_value_t = imaging::Limits::DEFAULT.max_bytes,
        value_name = "BYTES"
    )]
    pub max_input_bytes: u64,
    /// Largest input picture, in pixels of a page.
    #[arg(
        long,
        env = "UPRES_MAX_PIXELS",
        default_value_t = imaging::Limits::DEFAULT.max_pixels,
        value_name = "PIXELS"
    )]
    pub max_pixels: u64,
    /// Seconds after SIGTERM in which a running job may still finish; then it is handed back.
    #[arg(long = "drain-secs", env = "UPRES_DRAIN_SECS", default_value = "12", value_parser = seconds, value_name = "SECS")]
    pub drain: Duration,
    /// Seconds in which the engine must finish a tile. One that does not is stuck: its jobs go to
    /// other workers and this process ends with an error, to be restarted.
    #[arg(long = "stall-secs", env = "UPRES_STALL_SECS", default_value = "600", value_parser = seconds, value_name = "SECS")]
    pub stall: Duration,
}

/// The engine and its device.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineConfig {
    /// The model's folder.
    #[arg(long, env = "UPRES_MODEL_DIR", value_name = "DIR")]
    pub model_dir: PathBuf,
    /// `cpu` or `cuda:0`.
    #[arg(long, env = "UPRES_DEVICE", default_value = "cpu")]
    pub device: String,
    /// `f32`, `bf16` or `f16`; on the CPU `f32` only.
    #[arg(long, env = "UPRES_DTYPE", default_value = "f32")]
    pub dtype: String,
    /// Tiles computed at once. Does not show in the result.
    #[arg(long, env = "UPRES_TILE_BATCH", default_value_t = 4, value_name = "N")]
    pub tile_batch: usize,
    /// Main memory that the process may take, such as 6GiB: fewer tiles at once where it is little; a
    /// job that does not fit at all fails with `capacity/out_of_memory`. `none` for no limit; three
    /// quarters of the machine's, or of the control group's, if nothing is said.
    #[arg(long, env = "UPRES_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<String>,
}

impl ServiceConfig {
    /// Every problem with these settings, a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.s3.problems();
        if !self.api_url.starts_with("http://") && !self.api_url.starts_with("https://") {
            problems.push(format!(
                "--api-url `{}` must begin with http:// or https://",
                self.api_url
            ));
        }
        let amqp = self.amqp_url.expose_secret();
        if !amqp.starts_with("amqp://") && !amqp.starts_with("amqps://") {
            problems.push("--amqp-url must begin with amqp:// or amqps://".to_owned());
        }
        if !self.api_key.expose_secret().starts_with("upres_") {
            problems.push("--api-key is no API key: expected upres_<id>_<secret>".to_owned());
        }
        if self.jobs_in_flight == 0 {
            problems.push("--jobs-in-flight must be at least 1".to_owned());
        }
        if self.max_input_bytes == 0 || self.max_pixels == 0 {
            problems.push("--max-input-bytes and --max-pixels must be above zero".to_owned());
        }
        if self.stall.is_zero() {
            problems.push("--stall-secs must be above zero".to_owned());
        }
        if self.drain > Duration::from_secs(15) {
            problems.push("--drain-secs must be at most 15: a drain ends within 30 s".to_owned());
        }
        problems
    }
}

impl EngineConfig {
    /// How much the engine may take.
    ///
    /// # Errors
    /// A sentence, when the memory limit is no size.
    pub fn room(&self) -> Result<Room, String> {
        let memory = match &self.memory_limit {
            Some(text) => text
                .parse()
                .map_err(|error: ParseMemoryLimitError| format!("--memory-limit: {error}")),
            None => Ok(MemoryLimit::of_this_machine()),
        };
        Ok(Room {
            tile_batch: self.tile_batch,
            memory: memory?,
        })
    }

    /// Every problem with these settings, a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.model_dir.join("unet/config.json").is_file() {
            problems.push(format!(
                "--model-dir {} is not a model folder: it has no unet/config.json",
                self.model_dir.display()
            ));
        }
        let device = self.device.parse::<invsr::DeviceSpec>();
        let dtype = self.dtype.parse::<invsr::Dtype>();
        if let (Ok(device), Ok(dtype)) = (&device, &dtype)
            && let Err(error) = device.check(*dtype)
        {
            problems.push(format!("--device {device}: {error}"));
        }
        problems.extend(device.err().map(|error| format!("--device: {error}")));
        problems.extend(dtype.err().map(|error| format!("--dtype: {error}")));
        problems.extend(self.room().err());
        if self.tile_batch == 0 {
            problems.push("--tile-batch must be at least 1".to_owned());
        }
        problems
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds.ok_or_else(|| format!("`{text}` is not a number of seconds"))
}
