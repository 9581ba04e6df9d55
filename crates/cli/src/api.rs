//! The coordinator's public API, as the command line uses it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use upres_common::job::JobId;
use upres_common::job::request::FieldError;
use upres_common::job::view::JobView;

use crate::cli::Usage;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than a long poll.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// One long poll, in seconds.
const WAIT_SECS: u32 = 30;
/// A coordinator that restarts is asked again for this long while following a job.
const PATIENCE: u32 = 60;

/// A store that falls silent in the middle of a result is given up after this long.
const SILENCE: Duration = Duration::from_secs(60);
/// So often is a result fetched that breaks off.
const TRIES: u32 = 3;

/// What is uploaded.
#[derive(Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    /// Read as it is sent.
    File(PathBuf),
}

/// Where the coordinator is and who asks.
#[derive(Debug, Clone, clap::Args)]
pub struct ApiArgs {
    /// The coordinator's address.
    #[arg(
        long,
        env = "UPRES_API_URL",
        default_value = "http://127.0.0.1:8080",
        value_parser = url,
        value_name = "URL"
    )]
    pub api_url: String,
    /// Your API key. `make up` writes one for the local stack into .upres/upres.toml.
    #[arg(
        long,
        env = "UPRES_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: Option<SecretString>,
}

/// A client of the API.
#[derive(Debug)]
pub struct Api {
    client: Client,
    args: ApiArgs,
}

/// What a problem document tells.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

impl Api {
    /// A client; does not connect yet.
    ///
    /// # Errors
    /// [`Usage`] when no key was given.
    pub fn new(args: ApiArgs) -> anyhow::Result<Self> {
        let key = args.api_key.as_ref();
        if key.is_none_or(|key| key.expose_secret().is_empty()) {
            let problem =
                "no API key: set UPRES_API_KEY, give --api-key, or put `api_key` into upres.toml";
            bail!(Usage(problem.to_owned()));
        }
        // Fails only when the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, args })
    }

    /// A request under `/v1`, signed with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/v1/{path}", self.args.api_url.trim_end_matches('/'));
        let key = self
            .args
            .api_key
            .as_ref()
            .map_or("", |key| key.expose_secret());
        self.client
            .request(method, url)
            .bearer_auth(key)
            .timeout(ANSWER_TIMEOUT)
    }

    /// Sends a request and reads its JSON answer.
    ///
    /// # Errors
    /// What the coordinator's problem document says, in sentences.
    pub async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let answer = self.ask(request).await?;
        answer
            .json()
            .await
            .context("the coordinator's answer cannot be read")
    }

    /// Sends a request; an answer that is neither a success nor a redirect is an error.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.map_err(|error| {
            anyhow!(error.without_url()).context(format!(
                "the coordinator at {} does not answer",
                self.args.api_url
            ))
        })?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(answer);
        }
        let body = answer.bytes().await.unwrap_or_default();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            bail!(
                "{} answered {status}: is that a coordinator?",
                self.args.api_url
            );
        };
        bail!("{}", problem.sentences())
    }

    /// Sends a request whose answer may take as long as it takes: a long report, a large listing.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn ask_at_leisure(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        self.ask(request.timeout(Duration::from_secs(24 * 3600)))
            .await
    }

    /// Reads a job.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn job(&self, id: &str) -> anyhow::Result<JobView> {
        self.send(self.request(Method::GET, &format!("jobs/{id}")))
            .await
    }

    /// Follows a job to its end by long polls, showing each change to `changed`. A coordinator that
    /// restarts meanwhile is asked again.
    ///
    /// # Errors
    /// When the coordinator stays away, or does not know the job.
    pub async fn follow(
        &self,
        id: &str,
        mut changed: impl FnMut(&JobView),
    ) -> anyhow::Result<JobView> {
        let mut version: Option<i64> = None;
        let mut failures = 0;
        loop {
            let mut request = self
                .request(Method::GET, &format!("jobs/{id}"))
                .query(&[("wait", WAIT_SECS)]);
            if let Some(version) = version {
                request = request.header(header::IF_NONE_MATCH, format!("\"{version}\""));
            } else {
                request = self.request(Method::GET, &format!("jobs/{id}"));
            }
            let answer = match self.ask(request).await {
                Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED => continue,
                Ok(answer) => answer,
                Err(error) if version.is_some() && failures < PATIENCE => {
                    failures += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let job: JobView = answer
                .json()
                .await
                .context("the coordinator's answer cannot be read")?;
            failures = 0;
            version = Some(job.version);
            changed(&job);
            if job.is_terminal() {
                return Ok(job);
            }
        }
    }

    /// Uploads to a presigned address; the key is not sent there.
    ///
    /// # Errors
    /// When the store does not take it, or the file cannot be read.
    pub async fn put(&self, url: &str, content: Content) -> anyhow::Result<()> {
        let put = self.client.put(url);
        let put = match content {
            Content::Bytes(bytes) => put.body(bytes),
            Content::File(path) => {
                let unreadable = || format!("cannot read {}", path.display());
                let file = tokio::fs::File::open(&path)
                    .await
                    .with_context(unreadable)?;
                let length = file.metadata().await.with_context(unreadable)?.len();
                // Stores take no upload of unknown length.
                put.header(header::CONTENT_LENGTH, length).body(file)
            }
        };
        let answer = put.send().await.map_err(reqwest::Error::without_url);
        let status = answer.context("the object store does not answer")?.status();
        if !status.is_success() {
            bail!("the object store refused the upload with {status}");
        }
        Ok(())
    }

    /// Downloads a job's result into an empty file; returns its SHA-256 in lower-case hex. One that breaks off
    /// is fetched again.
    ///
    /// # Errors
    /// When there is none, the store does not hand it out, or the file cannot be written.
    pub async fn download(&self, job: JobId, file: &mut File) -> anyhow::Result<String> {
        let mut tries = 1;
        loop {
            let path = format!("jobs/{job}/result");
            let answer = self.ask(self.request(Method::GET, &path)).await?;
            let link = answer.headers().get(header::LOCATION);
            let link = link.and_then(|link| link.to_str().ok());
            let link = link.context("the coordinator gave no link to the result")?;
            match self.copy(link, file).await {
                Err(_) if tries < TRIES => tokio::time::sleep(Duration::from_secs(1)).await,
                ended => return ended,
            }
            tries += 1;
            file.set_len(0)?;
            file.rewind()?;
        }
    }

    async fn copy(&self, link: &str, file: &mut File) -> anyhow::Result<String> {
        let silent = "the object store does not answer";
        let sending = tokio::time::timeout(SILENCE, self.client.get(link).send());
        let sent = sending.await.context(silent)?;
        let mut answer = sent.map_err(reqwest::Error::without_url).context(silent)?;
        if !answer.status().is_success() {
            bail!(
                "the object store refused the result with {}",
                answer.status()
            );
        }
        let mut digest = Sha256::new();
        loop {
            let piece = tokio::time::timeout(SILENCE, answer.chunk()).await;
            let piece = piece.context("the object store fell silent")?;
            let piece = piece.map_err(reqwest::Error::without_url);
            let Some(piece) = piece.context("the result broke off")? else {
                return Ok(hex::encode(digest.finalize()));
            };
            digest.update(&piece);
            file.write_all(&piece).context("cannot write it")?;
        }
    }
}

/// SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// It cannot be read.
pub fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut digest) = (File::open(path)?, Sha256::new());
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(&piece[..read]),
        }
    }
}

impl Problem {
    fn sentences(&self) -> String {
        let mut text = self.title.clone();
        if !self.detail.is_empty() && self.errors.is_empty() {
            text = format!("{text}: {}", self.detail);
        }
        for error in &self.errors {
            text = format!("{text}\n  {}: {}", error.pointer, error.detail);
        }
        text
    }
}

fn url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).ok();
    let valid = url.is_some_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    match valid {
        true => Ok(text.to_owned()),
        false => Err("not a URL: write http://host:port or https://host".to_owned()),
    }
}

/// Runs `work` to its end, or until Ctrl-C: then exit status 130, and what was submitted goes on.
///
/// # Errors
/// Those of `work`.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            done = work => done.map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    })
}
