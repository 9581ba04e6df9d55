//! Configuration, one struct a concern. `--help` is the reference.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use upres_common::objects::{S3Args, UriPrefix};
use upres_common::telemetry::LogArgs;

/// One for each kind of work that keeps a connection, and two for all others.
const MIN_CONNECTIONS: u32 = 8;

/// Everything `serve` needs.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where the API listens: ADDRESS:PORT, such as 0.0.0.0:8080 for every network.
    #[arg(
        long,
        env = "UPRES_LISTEN",
        default_value = "127.0.0.1:8080",
        value_parser = address,
        value_name = "ADDR"
    )]
    pub listen: SocketAddr,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseConfig,
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
    /// The deployment's own place.
    #[command(flatten)]
    pub place: PlaceConfig,
    /// Leases.
    #[command(flatten)]
    pub lease: LeaseConfig,
    /// Tile-steps a second that `/scaling` takes one worker to do, as long as none was measured;
    /// `upres-worker bench` says what yours do.
    #[arg(
        long,
        env = "UPRES_SCALING_PACE",
        default_value_t = 1.0,
        value_name = "N"
    )]
    pub scaling_pace: f64,
    /// Dispatch.
    #[command(flatten)]
    pub dispatch: DispatchConfig,
    /// What one tenant may ask for.
    #[command(flatten)]
    pub limits: LimitConfig,
    /// Retries.
    #[command(flatten)]
    pub retry: RetryConfig,
    /// The janitor.
    #[command(flatten)]
    pub janitor: JanitorConfig,
    /// Webhooks.
    #[command(flatten)]
    pub webhook: WebhookConfig,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

/// A place in the object store that is the deployment's own.
#[derive(Debug, Clone, clap::Args)]
pub struct PlaceConfig {
    /// Bucket (and prefix) for the files of clients that hold no S3 keys, and for what drained workers
    /// leave to others, e.g. s3://upres/. Without it `POST /v1/uploads` is refused, and a drained job
    /// goes on behind its last uploaded part.
    #[arg(long, env = "UPRES_UPLOADS", value_name = "S3 PREFIX")]
    pub uploads: Option<String>,
}

/// The database.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseConfig {
    /// Postgres, as postgres:// URL.
    #[arg(
        long,
        env = "UPRES_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: SecretString,
    /// Most connections this process opens.
    #[arg(
        long,
        env = "UPRES_DATABASE_CONNECTIONS",
        default_value_t = 16,
        value_name = "N"
    )]
    pub database_connections: u32,
}

/// How long a claim lasts.
#[derive(Debug, Clone, clap::Args)]
pub struct LeaseConfig {
    /// Seconds a claim stays valid without a heartbeat. Workers renew three times in that time.
    #[arg(
        long,
        env = "UPRES_LEASE_TTL_SECS",
        default_value_t = 60,
        value_name = "SECS"
    )]
    pub lease_ttl_secs: u32,
    /// Seconds between looks for lapsed leases.
    #[arg(long = "reap-secs", env = "UPRES_REAP_SECS", default_value = "5", value_parser = seconds, value_name = "SECS")]
    pub reap_interval: Duration,
}

/// How wake-ups reach the broker.
#[derive(Debug, Clone, clap::Args)]
pub struct DispatchConfig {
    /// Seconds of work per class that wait on the broker, at the pace of the jobs that ended last.
    /// Everything beyond waits in Postgres, where cancelling and priorities act at once.
    #[arg(long = "release-secs", env = "UPRES_RELEASE_SECS", default_value = "120", value_parser = seconds, value_name = "SECS")]
    pub release: Duration,
    /// Unanswered wake-ups per class that go out however large their jobs are, so that no worker
    /// waits; in a pool that begins, all there are.
    #[arg(
        long,
        env = "UPRES_RELEASE_AT_LEAST",
        default_value_t = 32,
        value_name = "N"
    )]
    pub release_at_least: i64,
    /// Most unanswered wake-ups per class, however small their jobs are.
    #[arg(
        long = "release-limit",
        env = "UPRES_RELEASE_LIMIT",
        default_value_t = 1000,
        value_name = "N"
    )]
    pub release_limit: i64,
    /// Bulk wake-ups a second at most while somebody waits for an interactive job, so that bulk leaves the
    /// coordinator, its database and its object store some time; more for pools that take more.
    #[arg(
        long = "release-beside",
        env = "UPRES_RELEASE_BESIDE",
        default_value_t = 40,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        value_name = "N"
    )]
    pub release_beside: u32,
    /// Tile-steps of one tenant that are released or running at once; a larger job goes alone.
    #[arg(long = "tenant-running", env = "UPRES_TENANT_RUNNING", value_name = "TILE-STEPS", value_parser = clap::value_parser!(i64).range(1..))]
    pub of_a_tenant: Option<i64>,
    /// Seconds between looks for due jobs that another coordinator accepted.
    #[arg(long = "dispatch-secs", env = "UPRES_DISPATCH_SECS", default_value = "0.5", value_parser = seconds, value_name = "SECS")]
    pub interval: Duration,
    /// Seconds after which an unanswered wake-up that the broker no longer holds is sent again.
    #[arg(long = "resend-secs", env = "UPRES_RESEND_SECS", default_value = "30", value_parser = seconds, value_name = "SECS")]
    pub resend_after: Duration,
}

/// What one tenant may ask for; without a limit, anything.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct LimitConfig {
    /// Submissions a second of one tenant, to each coordinator; two seconds' worth may come at once.
    /// Beyond that they are answered with 429 and the time to wait.
    #[arg(long, env = "UPRES_TENANT_RATE", value_name = "N", value_parser = above_zero)]
    pub tenant_rate: Option<f64>,
    /// Single jobs of one tenant that may wait before more of them are answered with 429. Batches and their
    /// jobs do not count: they have a line of their own.
    #[arg(long, env = "UPRES_TENANT_WAITING", value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub tenant_waiting: Option<i64>,
}

/// The pause after a failed attempt: exponential with full jitter.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct RetryConfig {
    /// Seconds: the longest pause after the first failure; doubles with each.
    #[arg(long = "retry-base-secs", env = "UPRES_RETRY_BASE_SECS", default_value = "2", value_parser = seconds, value_name = "SECS")]
    pub base: Duration,
    /// Seconds: the longest pause ever.
    #[arg(long = "retry-cap-secs", env = "UPRES_RETRY_CAP_SECS", default_value = "300", value_parser = seconds, value_name = "SECS")]
    pub cap: Duration,
    /// Seconds one coordinator may take to make a result visible before another looks after it. Longer
    /// than the object store takes to assemble the largest result.
    #[arg(long = "publish-secs", env = "UPRES_PUBLISH_SECS", default_value = "300", value_parser = seconds, value_name = "SECS")]
    pub publish_again_after: Duration,
    /// Workers (or devices) that may die on a job that had begun before it is held back with
    /// `quarantine/deaths`; retrying it releases it. Deaths cost no attempt.
    #[arg(
        long,
        env = "UPRES_QUARANTINE_AFTER",
        default_value_t = 2,
        value_name = "N"
    )]
    pub quarantine_after: i64,
}

/// How the owners of jobs are told of their ends.
#[derive(Debug, Clone, clap::Args)]
pub struct WebhookConfig {
    /// Seconds between the attempts to deliver a message, separated by commas; after the last of them it
    /// is given up.
    #[arg(id = "webhook_schedule", long = "webhook-retry-secs", env = "UPRES_WEBHOOK_RETRY_SECS", value_delimiter = ',',
        default_value = "5,300,1800,7200,18000,36000,50400,72000,86400", value_parser = seconds, value_name = "SECS")]
    pub schedule: Vec<Duration>,
    /// Deliver to private addresses and over plain HTTP, too: for an intranet whose clients may all call
    /// whatever the coordinator can reach.
    #[arg(
        id = "webhook_allow_private",
        long = "webhook-allow-private",
        env = "UPRES_WEBHOOK_ALLOW_PRIVATE"
    )]
    pub allow_private: bool,
}

/// What is removed, and when.
#[derive(Debug, Clone, clap::Args)]
pub struct JanitorConfig {
    /// Seconds between sweeps for leftovers.
    #[arg(long = "janitor-secs", env = "UPRES_JANITOR_SECS", default_value = "3600", value_parser = seconds, value_name = "SECS")]
    pub sweep_interval: Duration,
    /// Seconds after which an upload that no running job knows of is aborted. Longer than any job
    /// takes.
    #[arg(long = "orphan-secs", env = "UPRES_ORPHAN_SECS", default_value = "86400", value_parser = seconds, value_name = "SECS")]
    pub orphan_after: Duration,
    /// Days to keep ended jobs; for ever, unless given. The input of a job that was removed is no
    /// longer known as a master, which guards it against being named as an output.
    #[arg(long, env = "UPRES_RETAIN_DAYS", value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub retain_days: Option<u32>,
}

impl Config {
    /// Every problem with these settings, a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.s3.problems();
        if let Err(problem) = crate::store::pool(&self.database.database_url, 1) {
            problems.push(problem);
        }
        if self.database.database_connections < MIN_CONNECTIONS {
            problems.push(format!(
                "--database-connections must be at least {MIN_CONNECTIONS}: some are kept for claims, heartbeats and the like"
            ));
        }
        let amqp = self.amqp_url.expose_secret();
        if !amqp.starts_with("amqp://") && !amqp.starts_with("amqps://") {
            problems.push("--amqp-url must begin with amqp:// or amqps://".to_owned());
        }
        problems.extend(self.place.problem());
        if self.lease.lease_ttl_secs < 3 {
            problems.push(
                "--lease-ttl-secs must be at least 3, or one slow answer loses a lease".to_owned(),
            );
        }
        if !(self.scaling_pace > 0.0 && self.scaling_pace.is_finite()) {
            problems.push("--scaling-pace must be above 0".to_owned());
        }
        if self.dispatch.release_at_least < 1 {
            problems.push("--release-at-least must be at least 1".to_owned());
        }
        if self.dispatch.release_limit < 1 {
            problems.push("--release-limit must be at least 1".to_owned());
        } else if self.dispatch.release_limit < self.dispatch.release_at_least {
            problems.push("--release-limit must not be below --release-at-least".to_owned());
        }
        if self.retry.quarantine_after < 1 {
            problems.push("--quarantine-after must be at least 1".to_owned());
        }
        if self.retry.cap < self.retry.base {
            problems.push("--retry-cap-secs must not be below --retry-base-secs".to_owned());
        }
        problems
    }
}

impl PlaceConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let uploads = self.uploads.as_ref()?;
        uploads.parse::<UriPrefix>().is_err().then(|| {
            format!(
                "--uploads `{uploads}` is no S3 prefix: write s3://bucket/ or s3://bucket/folder/"
            )
        })
    }

    /// The place, if there is one.
    #[must_use]
    pub fn prefix(&self) -> Option<UriPrefix> {
        self.uploads.as_ref()?.parse().ok()
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse();
    address.map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8080".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| format!("`{text}` is not a number above zero"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a number of seconds above zero");
    let seconds: f64 = text.parse().map_err(|_| problem())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(problem)
}
