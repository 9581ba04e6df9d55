//! Fetches files from a model hub that speaks Hugging Face's paths: `/{repo}/resolve/{revision}/{file}`.
//!
//! A download goes on where it broke off, within one run and in the next. The token goes to the
//! hub's own host and to none that it redirects to. A file gets its name when its digest is right.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::import::sha256_of;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a connection counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 10;
/// Attempts in a row that brought no byte.
const MOST_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Where the hub is and who asks.
#[derive(Debug, Clone, clap::Args)]
pub struct HubArgs {
    /// The hub's address
    #[arg(
        long,
        env = "HF_ENDPOINT",
        default_value = "https://huggingface.co",
        value_name = "URL"
    )]
    pub hub: Url,
    /// Your access token, for models that want an account; sent to the hub's host only
    #[arg(long, env = "HF_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub hub_token: Option<SecretString>,
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// `owner/name`.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{repo} has no file {file} at revision {revision}")]
    NotFound {
        repo: String,
        file: String,
        revision: String,
    },
    #[error(
        "{page} answered {status}: accept the model's terms on that page with your account, and give its access token in HF_TOKEN"
    )]
    Forbidden { page: String, status: StatusCode },
    #[error("{host} answered {status} for {file}")]
    Status {
        host: String,
        file: String,
        status: StatusCode,
    },
    #[error("{file} leads in circles, or from https to plain http")]
    Redirect { file: String },
    #[error(
        "{file} arrived with SHA-256 {found}, the hub states {stated}: what arrived is deleted, run the command again"
    )]
    Digest {
        file: String,
        found: String,
        stated: String,
    },
    #[error("fetch {file}: the connection broke {MOST_FAILURES} times in a row without a new byte; what arrived is kept, run the command again to go on")]
    Broken {
        file: String,
        #[source]
        source: Option<reqwest::Error>,
    },
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What the hub says of a file, and where its bytes came from last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The entity tag of the file's content: for large files their SHA-256.
    pub etag: Option<String>,
    pub size: Option<u64>,
    /// The commit that the revision stands for.
    pub commit: Option<String>,
    /// The entity tag of the server that sent the bytes, to go on there.
    serving_etag: Option<String>,
}

impl Identity {
    /// The SHA-256 that the content must have, where the hub states one.
    pub fn sha256(&self) -> Option<&str> {
        let etag = self.etag.as_deref()?;
        let is_sha256 = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha256.then_some(etag)
    }

    /// Whether both speak of the same content.
    fn same_content(&self, other: &Self) -> bool {
        self.etag.is_some() && self.etag == other.etag && self.size == other.size
    }
}

/// A client of a hub.
pub struct Hub {
    client: Client,
    args: HubArgs,
}

/// How an attempt to fetch bytes ended.
enum Attempt {
    Whole,
    /// Broken off; some bytes arrived.
    Partly(Option<reqwest::Error>),
    /// Broken off without a byte, or the server is busy.
    Nothing(Option<reqwest::Error>),
}

impl Hub {
    /// A client; does not connect yet.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(args: HubArgs) -> reqwest::Result<Self> {
        // Fails only when the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("upres/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, args })
    }

    /// Where a person reads about a repository.
    pub fn page(&self, repo: &str) -> String {
        format!("{}/{repo}", self.args.hub.as_str().trim_end_matches('/'))
    }

    /// Brings `file` to the path `to`, unless it lies there already. `progress` is told the bytes
    /// there and, where known, of all.
    ///
    /// # Errors
    /// [`HubError`]; what arrived is kept for the next run unless its digest was wrong.
    pub async fn fetch(
        &self,
        repo: &Repo,
        file: &str,
        to: &Path,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Identity, HubError> {
        let stated = self.ask(repo, file).await?;
        let done = Beside::of(to, ".hub.json");
        if to.is_file() && done.read().is_some_and(|old| old.same_content(&stated)) {
            return Ok(stated);
        }
        let part = Beside::of(to, ".part").path;
        let noted = Beside::of(to, ".part.json");
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|source| write_failed(folder, source))?;
        }
        let mut identity = stated.clone();
        match noted.read() {
            Some(old) if old.same_content(&stated) => identity.serving_etag = old.serving_etag,
            _ => remove(&part)?,
        }
        let mut went_on = length(&part) > 0;
        loop {
            noted.write(&identity)?;
            self.fetch_bytes(repo, file, &part, (&noted, &mut identity), progress)
                .await?;
            let found = sha256_of(&part).map_err(|source| write_failed(&part, source))?;
            match identity.sha256() {
                Some(stated) if stated != found => {
                    remove(&part)?;
                    // Bytes of an earlier run may be to blame; fresh ones are not tried twice.
                    if std::mem::take(&mut went_on) {
                        identity.serving_etag = None;
                        continue;
                    }
                    return Err(HubError::Digest {
                        file: file.to_owned(),
                        stated: stated.to_owned(),
                        found,
                    });
                }
                _ => break,
            }
        }
        done.write(&identity)?;
        fs::rename(&part, to).map_err(|source| write_failed(to, source))?;
        remove(&noted.path)?;
        Ok(identity)
    }

    /// What the hub says of a file.
    async fn ask(&self, repo: &Repo, file: &str) -> Result<Identity, HubError> {
        let mut failures = 0;
        loop {
            let (identity, answer) = match self.follow(repo, file, &Method::HEAD, |r| r).await? {
                Ok(answered) => answered,
                Err(source) => {
                    self.pause(file, &mut failures, Some(source)).await?;
                    continue;
                }
            };
            if is_passing(answer.status()) {
                self.pause(file, &mut failures, None).await?;
                continue;
            }
            self.refuse(repo, file, &answer)?;
            return Ok(identity);
        }
    }

    /// Attempts until the part is whole.
    async fn fetch_bytes(
        &self,
        repo: &Repo,
        file: &str,
        part: &Path,
        (noted, identity): (&Beside, &mut Identity),
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), HubError> {
        let mut failures = 0;
        loop {
            let have = length(part);
            if identity.size.is_some_and(|size| have == size) && have > 0 {
                return Ok(());
            }
            let resume = |request: RequestBuilder| match have {
                0 => request,
                _ => {
                    let request = request.header(header::RANGE, format!("bytes={have}-"));
                    match &identity.serving_etag {
                        Some(etag) => request.header(header::IF_RANGE, etag),
                        None => request,
                    }
                }
            };
            let answered = self.follow(repo, file, &Method::GET, resume).await?;
            let attempt = match answered {
                Err(source) => Attempt::Nothing(Some(source)),
                Ok((_, answer)) if is_passing(answer.status()) => Attempt::Nothing(None),
                Ok((_, answer)) if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE => {
                    remove(part)?;
                    Attempt::Nothing(None)
                }
                Ok((_, answer)) => {
                    self.refuse(repo, file, &answer)?;
                    let serving = strong_etag(answer.headers());
                    if serving.is_some() && serving != identity.serving_etag {
                        identity.serving_etag = serving;
                        noted.write(identity)?;
                    }
                    save(answer, part, have, identity.size, progress).await?
                }
            };
            match attempt {
                Attempt::Whole => return Ok(()),
                Attempt::Partly(source) => {
                    failures = 0;
                    tracing_of(source.as_ref());
                }
                Attempt::Nothing(source) => self.pause(file, &mut failures, source).await?,
            }
        }
    }
}
