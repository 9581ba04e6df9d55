//! The services of a run, and services of a story's own that it may kill.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// The services that all stories share.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) database_url: String,
    pub(crate) s3_endpoint: String,
    amqp_url: String,
    management_url: String,
}

impl Services {
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let read = |name: &str| {
            let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
            value.with_context(|| {
                format!("{name} is not set: run the stories with `make test`, or under deploy/local/with-services.sh")
            })
        };
        Ok(Self {
            database_url: read("UPRES_TEST_DATABASE_URL")?,
            s3_endpoint: read("UPRES_TEST_S3_ENDPOINT")?,
            amqp_url: read("UPRES_TEST_AMQP_URL")?,
            management_url: read("UPRES_TEST_AMQP_MANAGEMENT_URL")?,
        })
    }

    /// Makes a virtual host and returns its address.
    pub(crate) async fn create_virtual_host(&self, name: &str) -> anyhow::Result<String> {
        let url = format!(
            "{}/api/vhosts/{name}",
            self.management_url.trim_end_matches('/')
        );
        // The address holds name and password.
        let create = reqwest::Client::new().put(&url);
        let made = create.json(&serde_json::json!({})).send().await?;
        made.error_for_status()?;
        Ok(format!(
            "{}/{name}",
            self.amqp_url.trim_end_matches("/%2f").trim_end_matches('/')
        ))
    }
}

/// A program of others that a test needs and `make test` installs: its path is in the environment under
/// `name`. Without it the test says so, and has nothing to do.
#[must_use]
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {name} is not set (make test installs what it names)");
    }
    path
}

/// `target/<profile>`, where the programs are: this one lies there too, or, a test, in its `deps`.
pub(crate) fn build_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.parent().context("a program lies in a folder")?;
    let built = match beside.ends_with("deps") {
        true => beside.parent().context("deps lies in target/<profile>")?,
        false => beside,
    };
    Ok(built.to_owned())
}

/// A fresh folder for the files of a story.
///
/// # Errors
/// When the build's folder is not known.
pub fn story_folder(story: &str) -> anyhow::Result<PathBuf> {
    let name = format!("{story}_{}", uuid::Uuid::now_v7().simple());
    Ok(build_folder()?.join("stories").join(name))
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A port below those that outgoing connections get, so that it is still free when a program that was
/// killed comes back to it. Taken as long as the listener is held.
pub(crate) fn lasting_port() -> anyhow::Result<TcpListener> {
    for _ in 0..200 {
        let random = uuid::Uuid::now_v7().as_u128() % 12_000;
        let port = 20_000 + u16::try_from(random)?;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener);
        }
    }
    bail!("no free port found between 20000 and 32000")
}

/// A private server, driven through the same script as the local stack.
#[derive(Debug)]
struct OwnService {
    kind: &'static str,
    dir: PathBuf,
    port: u16,
    more: Vec<String>,
}

impl OwnService {
    fn start(kind: &'static str, more: &[&str]) -> anyhow::Result<Self> {
        let scratch = std::env::var_os("UPRES_TEST_SCRATCH")
            .context("UPRES_TEST_SCRATCH is not set: run the stories with `make test`")?;
        let dir = PathBuf::from(scratch).join(format!("{kind}-{}", uuid::Uuid::now_v7().simple()));
        let port = lasting_port()?.local_addr()?.port();
        let more = more.iter().map(|word| (*word).to_owned()).collect();
        let service = Self {
            kind,
            dir,
            port,
            more,
        };
        service.run("start")?;
        Ok(service)
    }

    /// Returns what the script printed: where the service is.
    fn run(&self, verb: &str) -> anyhow::Result<String> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/service.sh");
        let done = Command::new(script)
            .args([verb, self.kind, "--dir"])
            .arg(&self.dir)
            .args(["--port", &self.port.to_string()])
            .args(&self.more)
            .output()?;
        if !done.status.success() {
            bail!(
                "{verb} {}: {}",
                self.kind,
                String::from_utf8_lossy(&done.stderr)
            );
        }
        Ok(String::from_utf8(done.stdout)?)
    }
}

impl Drop for OwnService {
    fn drop(&mut self) {
        if let Err(error) = self.run("stop").or_else(|_| self.run("kill")) {
            eprintln!(
                "{} on port {} is still there: {error:#}",
                self.kind, self.port
            );
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A RabbitMQ node that a story may restart.
#[derive(Debug)]
pub struct OwnBroker(OwnService);

impl OwnBroker {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self(OwnService::start("rabbitmq", &[])?))
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.0.port)
    }

    /// The address of its HTTP management, account included.
    ///
    /// # Errors
    /// When it does not run.
    pub fn management_url(&self) -> anyhow::Result<String> {
        let endpoints = self.0.run("status")?;
        let url = endpoints
            .lines()
            .find_map(|line| line.strip_prefix("AMQP_MANAGEMENT_URL="));
        Ok(url.context("the broker has a management")?.to_owned())
    }

    /// An orderly stop, then a new start on the same data.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.0.run("stop")?;
        self.0.run("start").map(drop)
    }

    /// `kill -9`, then a new start on the same data. A node that dies within a second of declaring a
    /// queue comes back without that queue's leader (3.10, not ours to mend), so not the first thing
    /// to do to a new one.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash_and_restart(&self) -> anyhow::Result<()> {
        self.0.run("kill")?;
        self.0.run("start").map(drop)
    }
}

/// A PostgreSQL server that a story may kill and restart; it writes through to the disk.
#[derive(Debug)]
pub struct OwnPostgres(OwnService);

impl OwnPostgres {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self(OwnService::start("postgres", &["--fsync", "on"])?))
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://upres@127.0.0.1:{}/upres", self.0.port)
    }

    /// `kill -9`, then a new start on the same data.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash_and_restart(&self) -> anyhow::Result<()> {
        self.0.run("kill")?;
        self.0.run("start").map(drop)
    }
}
