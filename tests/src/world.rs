//! A story's private world: database, virtual host, bucket, coordinators, workers.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use lapin::options::{BasicPublishOptions, QueueDeleteOptions};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;
use upres_common::broker::{EXCHANGE, queue_name};
use upres_common::job::Class;

use crate::pictures::photo;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::services::{self, Services};
use crate::store::Store;

/// Nothing in a story takes longer, on the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `condition` holds.
///
/// # Errors
/// When it does not within `deadline`, or the condition itself fails.
pub async fn until(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + deadline;
    while !condition().await? {
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain until {what}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What differs between stories.
#[derive(Debug, Clone, Default)]
pub struct WorldOptions {
    /// A broker of its own, to be killed.
    pub amqp_url: Option<String>,
    /// A database server of its own, to be killed.
    pub database_server: Option<String>,
    /// Variables that its programs find instead of the stories' own.
    pub settings: Vec<(&'static str, &'static str)>,
    /// How its programs, not the story itself, reach the object store.
    pub s3_endpoint: Option<String>,
}

/// A fake engine's manners.
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeWorker {
    /// Tiles of every image.
    pub tiles: u32,
    /// Milliseconds a tile takes.
    pub tile_ms: u32,
    /// Images that fail before the first succeeds.
    pub fail_first: u32,
    /// Production's tiles, with networks that only enlarge; `tiles` is ignored.
    pub identity: bool,
    /// It cannot go on with what others began.
    pub foreign: bool,
    /// It fails after [`World::let_engines_fail`].
    pub fails_when_told: bool,
}

/// One story's world. Dropping it kills its processes.
#[derive(Debug)]
pub struct World {
    /// The bucket.
    pub store: Store,
    /// The story's database.
    pub database_url: String,
    /// An admin key.
    pub key: String,
    folder: PathBuf,
    amqp_url: String,
    s3_endpoint: String,
    env: Vec<(String, String)>,
    coordinators: Vec<(String, Process)>,
    started: usize,
}

impl World {
    /// Makes the world and starts one coordinator.
    ///
    /// # Errors
    /// When a service does not answer.
    pub async fn new(story: &str, options: WorldOptions) -> anyhow::Result<Self> {
        // Fails only when another story was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let services = Services::from_env()?;
        let name = format!("{story}_{}", uuid::Uuid::now_v7().simple());
        let folder = services::build_folder()?.join("stories").join(&name);
        std::fs::create_dir_all(&folder)?;
        let server = options
            .database_server
            .as_ref()
            .unwrap_or(&services.database_url);
        let database_url = create_database(server, &name).await?;
        let amqp_url = match options.amqp_url {
            Some(own) => own,
            None => services.create_virtual_host(&name).await?,
        };
        let bucket = name.replace('_', "-");
        let store = Store::create(&services.s3_endpoint, &bucket[..bucket.len().min(63)]).await?;
        let s3_endpoint = options.s3_endpoint.as_ref();
        let s3_endpoint = s3_endpoint.unwrap_or(&services.s3_endpoint);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut env = vec![
            pair("UPRES_DATABASE_URL", &database_url),
            pair("UPRES_AMQP_URL", &amqp_url),
            pair("UPRES_S3_ENDPOINT", s3_endpoint),
            pair("UPRES_UPLOADS", &store.uri("")),
            pair(
                "UPRES_LOG",
                "info,upres_coordinator=debug,upres_worker=debug",
            ),
            // Short, so that stories about lapsed leases need not wait.
            pair("UPRES_LEASE_TTL_SECS", "3"),
            pair("UPRES_REAP_SECS", "0.3"),
            pair("UPRES_RETRY_BASE_SECS", "0.2"),
            pair("UPRES_RESEND_SECS", "2"),
            pair("UPRES_PUBLISH_SECS", "20"),
        ];
        // What comes later wins.
        env.extend(
            options
                .settings
                .iter()
                .map(|(name, value)| pair(name, value)),
        );
        let mut world = Self {
            store,
            database_url,
            key: String::new(),
            folder,
            amqp_url,
            s3_endpoint: services.s3_endpoint,
            env,
            coordinators: Vec::new(),
            started: 0,
        };
        world.key = first_key(&world.env)?;
        world.start_coordinator().await?;
        Ok(world)
    }

    /// A world whose programs reach the object store through a proxy.
    ///
    /// # Errors
    /// As [`World::new`].
    pub async fn with_store_behind_a_proxy(story: &str) -> anyhow::Result<(Self, Proxy)> {
        let endpoint = Services::from_env()?.s3_endpoint;
        let host = endpoint.strip_prefix("http://").unwrap_or(&endpoint);
        let proxy = Proxy::start(&[host]).await?;
        let options = WorldOptions {
            s3_endpoint: Some(format!("http://{}", proxy.address())),
            ..WorldOptions::default()
        };
        Ok((Self::new(story, options).await?, proxy))
    }

    /// A world with nothing of its own.
    ///
    /// # Errors
    /// As [`World::new`].
    pub async fn plain(story: &str) -> anyhow::Result<Self> {
        Self::new(story, WorldOptions::default()).await
    }

    /// What a program needs to know to work in this world.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        self.env.clone()
    }

    /// Starts one more coordinator and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_coordinator(&mut self) -> anyhow::Result<()> {
        let address = services::free_address()?;
        let mut env = self.env.clone();
        env.push(("UPRES_LISTEN".to_owned(), address.clone()));
        let name = self.next_name("coordinator");
        let process = Process::start(&self.folder, &name, "upres-coordinator", &["serve"], &env)?;
        let url = format!("http://{address}");
        self.coordinators.push((url.clone(), process));
        let ready = format!("{url}/readyz");
        until("the coordinator is ready", DEADLINE, async || {
            Ok(reqwest::get(&ready)
                .await
                .is_ok_and(|answer| answer.status().is_success()))
        })
        .await
    }

    /// `kill -9` for the coordinator of that number, counted from the oldest that lives.
    pub fn kill_coordinator(&mut self, index: usize) {
        self.coordinators.remove(index).1.kill();
    }

    /// SIGTERM for the first coordinator; waits for its end.
    ///
    /// # Errors
    /// When it does not end within `deadline`.
    pub async fn terminate_coordinator(
        &mut self,
        deadline: Duration,
    ) -> anyhow::Result<ExitStatus> {
        self.coordinators.remove(0).1.terminate(deadline).await
    }

    /// The coordinators that run, the oldest first.
    pub fn coordinators(&self) -> impl Iterator<Item = &Process> {
        self.coordinators.iter().map(|(_, process)| process)
    }

    /// What the first coordinator has logged.
    #[must_use]
    pub fn coordinator_log(&self) -> String {
        self.coordinators[0].1.log()
    }

    /// The object store's address.
    #[must_use]
    pub fn s3_endpoint(&self) -> &str {
        &self.s3_endpoint
    }

    /// The broker's address, virtual host included.
    #[must_use]
    pub fn amqp_url(&self) -> &str {
        &self.amqp_url
    }

    /// Deletes both wake-up queues, as an operator's accident would.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_queues(&self) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        for class in Class::ALL {
            channel
                .queue_delete(queue_name(class).into(), QueueDeleteOptions::default())
                .await?;
        }
        Ok(())
    }

    /// Publishes anything at all as a wake-up.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn publish_raw(&self, payload: &str) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let key = Class::Interactive.as_str();
        let options = BasicPublishOptions::default();
        let properties = lapin::BasicProperties::default();
        channel
            .basic_publish(
                EXCHANGE.into(),
                key.into(),
                options,
                payload.as_bytes(),
                properties,
            )
            .await?
            .await?;
        Ok(())
    }

    async fn channel(&self) -> anyhow::Result<lapin::Channel> {
        let connection =
            lapin::Connection::connect(&self.amqp_url, lapin::ConnectionProperties::default());
        Ok(connection.await?.create_channel().await?)
    }

    /// The address of the coordinator of that number.
    #[must_use]
    pub fn url(&self, index: usize) -> &str {
        &self.coordinators[index].0
    }

    /// Starts a worker with a fake engine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_fake_worker(&mut self, manners: FakeWorker) -> anyhow::Result<Process> {
        self.start_fake_worker_at(0, manners).await
    }

    /// The same, bound to the coordinator of that number.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_fake_worker_at(
        &mut self,
        coordinator: usize,
        manners: FakeWorker,
    ) -> anyhow::Result<Process> {
        let url = self.url(coordinator).to_owned();
        self.start_fake_worker_through(&url, manners).await
    }

    /// The same, bound to whatever leads to a coordinator.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_fake_worker_through(
        &mut self,
        api_url: &str,
        manners: FakeWorker,
    ) -> anyhow::Result<Process> {
        let tiles = manners.tiles.max(1).to_string();
        let (tile_ms, fail_first) = (manners.tile_ms.to_string(), manners.fail_first.to_string());
        let mut args = vec![
            "--tiles",
            &tiles,
            "--tile-ms",
            &tile_ms,
            "--fail-first",
            &fail_first,
            "--drain-secs",
            "1",
            "--stall-secs",
            "6",
        ];
        if manners.identity {
            args.push("--identity");
        }
        if manners.foreign {
            args.extend(["--called", "foreign"]);
        }
        let told = self.failure_file();
        if let Some(told) = told.to_str().filter(|_| manners.fails_when_told) {
            args.extend(["--fail-when", told]);
        }
        self.start_worker(api_url, "fake-worker", &args, &[]).await
    }

    fn failure_file(&self) -> PathBuf {
        self.folder.join("fail")
    }

    /// From now on those engines fail that wait for this.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn let_engines_fail(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.failure_file(), b"")?)
    }

    /// Starts a worker with a quick and faultless fake engine.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_fake_worker_default(&mut self) -> anyhow::Result<Process> {
        self.start_fake_worker(FakeWorker::default()).await
    }

    /// Starts the worker of production with the model in `model_dir`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_real_worker(&mut self, model_dir: &str) -> anyhow::Result<Process> {
        let model = ("UPRES_MODEL_DIR".to_owned(), model_dir.to_owned());
        let url = self.url(0).to_owned();
        self.start_worker(&url, "upres-worker", &["run"], &[model])
            .await
    }

    async fn start_worker(
        &mut self,
        api_url: &str,
        program: &str,
        args: &[&str],
        more: &[(String, String)],
    ) -> anyhow::Result<Process> {
        let mut env = self.env.clone();
        env.extend_from_slice(more);
        env.push(("UPRES_API_URL".to_owned(), api_url.to_owned()));
        env.push(("UPRES_API_KEY".to_owned(), self.worker_key().await?));
        let name = self.next_name("worker");
        Process::start(&self.folder, &name, program, args, &env)
    }

    /// A key of another tenant that may do all that a tenant's key may, with every object.
    ///
    /// # Errors
    /// When none is made.
    pub fn key_of(&self, tenant: &str) -> anyhow::Result<String> {
        let program = crate::process::program_path("upres-coordinator")?;
        let made = std::process::Command::new(program)
            .args([
                "create-key",
                "--tenant",
                tenant,
                "--read",
                "*",
                "--write",
                "*",
            ])
            .envs(self.env.iter().cloned())
            .output()?;
        let key = String::from_utf8(made.stdout)?.trim().to_owned();
        if !key.starts_with("upres_") {
            bail!("no key: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(key)
    }

    /// A key that may do nothing but a worker's work.
    async fn worker_key(&self) -> anyhow::Result<String> {
        let request = self
            .request(Method::POST, "/v1/keys")
            .json(&json!({"scopes": ["worker"]}));
        let answer: Value = request.send().await?.json().await?;
        Ok(answer["key"].as_str().context("a key")?.to_owned())
    }

    fn next_name(&mut self, kind: &str) -> String {
        self.started += 1;
        format!("{:02}-{kind}", self.started)
    }

    /// The story's folder, for files.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// A request to the first coordinator, with the admin key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_to(0, method, path)
    }

    /// A request to any coordinator.
    pub fn request_to(&self, index: usize, method: Method, path: &str) -> RequestBuilder {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client
            .build()
            .expect("a client without settings can be built");
        client
            .request(method, format!("{}{path}", self.url(index)))
            .bearer_auth(&self.key)
    }

    /// Sends a job; returns status and body.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn post_job(&self, job: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let answer = self
            .request(Method::POST, "/v1/jobs")
            .json(job)
            .send()
            .await?;
        Ok((answer.status(), answer.json().await?))
    }

    /// Submits a job that must be accepted; returns its id.
    ///
    /// # Errors
    /// When it is not.
    pub async fn submit(&self, job: &Value) -> anyhow::Result<String> {
        let (status, body) = self.post_job(job).await?;
        if status != StatusCode::ACCEPTED {
            bail!("not accepted: {body}");
        }
        Ok(body["id"].as_str().context("an id")?.to_owned())
    }

    /// Stores a small photo as `in/<name>.png` and submits it; the result goes to `out/<name>.png`.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn submit_photo(&self, name: &str) -> anyhow::Result<String> {
        let key = format!("in/{name}.png");
        self.store.put(&key, photo(24, 16)).await?;
        let output = self.store.uri(&format!("out/{name}.png"));
        self.submit(&json!({"input": self.store.uri(&key), "output": output}))
            .await
    }

    /// Reads a job.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn job(&self, id: &str) -> anyhow::Result<Value> {
        let answer = self
            .request(Method::GET, &format!("/v1/jobs/{id}"))
            .send()
            .await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Waits until the job is in one of `states`; returns it. A coordinator that is away is awaited.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn wait_for(&self, id: &str, states: &[&str]) -> anyhow::Result<Value> {
        let mut job = Value::Null;
        let waited = until("the job's state", DEADLINE, async || {
            if let Ok(read) = self.job(id).await {
                job = read;
            }
            Ok(states.iter().any(|state| job["state"] == *state))
        })
        .await;
        waited.with_context(|| format!("waiting for {states:?}: {job}"))?;
        Ok(job)
    }

    /// Waits for success and checks it from outside: the object is there, with the recorded digest
    /// and size, and no upload is left over.
    ///
    /// # Errors
    /// When any of it is not so.
    pub async fn succeeds(&self, id: &str) -> anyhow::Result<Value> {
        let job = self
            .wait_for(id, &["succeeded", "failed", "cancelled", "expired"])
            .await?;
        if job["state"] != "succeeded" {
            bail!("the job did not succeed: {job}");
        }
        let key = job["result"]["uri"]
            .as_str()
            .context("a result")?
            .to_owned();
        let key = key.trim_start_matches(&self.store.uri("")).to_owned();
        let stored = self
            .store
            .get(&key)
            .await?
            .context("the result is visible")?;
        let digest = upres_common::objects::sha256_hex(&stored);
        if job["result"]["sha256"] != digest.as_str() || job["result"]["bytes"] != stored.len() {
            bail!("the object is not what was recorded: {job}");
        }
        Ok(job)
    }

    /// A connection to the story's database, to look at what the API does not show.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn database(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.database_url).await?)
    }
}

/// Makes the tables; returns the first key, an admin's.
pub(crate) fn first_key(env: &[(String, String)]) -> anyhow::Result<String> {
    let mut migrate =
        std::process::Command::new(crate::process::program_path("upres-coordinator")?);
    let done = migrate.arg("migrate").envs(env.iter().cloned()).output()?;
    let key = String::from_utf8(done.stdout)?.trim().to_owned();
    if !done.status.success() || !key.starts_with("upres_") {
        bail!(
            "migrate printed no key: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(key)
}

async fn create_database(server: &str, name: &str) -> anyhow::Result<String> {
    let mut conn = PgConnection::connect(server)
        .await
        .context("connect to PostgreSQL")?;
    // A name made of letters, digits and underscores needs no quoting.
    sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}")))
        .execute(&mut conn)
        .await?;
    let (head, _) = server
        .rsplit_once('/')
        .context("the address names a database")?;
    Ok(format!("{head}/{name}"))
}
