//! Fetches files from a model hub that speaks Hugging Face's paths: `/{repo}/resolve/{revision}/{file}`.
//!
//! A download goes on where it broke off, within one run and in the next. The token goes to the
//! hub's own host and to none that it redirects to. A file gets its name when its digest is right.

mod beside;
mod transfer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use self::beside::{Beside, length, remove, write_failed};
pub use self::beside::{note_of, with_suffix};
use self::transfer::MOST_FAILURES;
use super::import::sha256_of;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a connection counts as broken.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

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
    #[error("{file}: the hub answers {status} again and again, try later")]
    Busy { file: String, status: StatusCode },
    #[error("{file} leads in circles, or from https to plain http")]
    Redirect { file: String },
    #[error(
        "{file} arrived with {found}, the hub states {stated}: what arrived is deleted, run the command again"
    )]
    Content {
        file: String,
        found: String,
        stated: String,
    },
    #[error(
        "fetch {file}: the connection broke {MOST_FAILURES} times in a row without a new byte; what arrived is kept, run the command again to go on"
    )]
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
    etag: Option<String>,
    size: Option<u64>,
    /// The commit that the revision stands for.
    commit: Option<String>,
    /// The entity tag of the server that sent the bytes, to go on there.
    serving_etag: Option<String>,
}

impl Identity {
    /// The commit that the revision stood for, where the hub says so.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// The SHA-256 that the content must have, where the hub states one.
    pub fn sha256(&self) -> Option<&str> {
        let etag = self.etag.as_deref()?;
        let is_sha256 = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha256.then_some(etag)
    }

    /// The SHA-1 that Git gives the content, which hubs state for small files.
    fn git_blob(&self) -> Option<&str> {
        let etag = self.etag.as_deref()?;
        let is_sha1 = etag.len() == 40 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sha1.then_some(etag)
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
        let done = Beside { path: note_of(to) };
        if to.is_file() && done.read().is_some_and(|old| old.same_content(&stated)) {
            return Ok(stated);
        }
        let part = with_suffix(to, ".part");
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
            let known = (&noted, &mut identity);
            self.fetch_bytes((repo, file), &part, known, progress)
                .await?;
            let Some((stated, found)) = difference(&identity, &part)? else {
                break;
            };
            remove(&part)?;
            // Bytes of an earlier run may be to blame; fresh ones are not tried twice.
            if !std::mem::take(&mut went_on) {
                let file = file.to_owned();
                return Err(HubError::Content {
                    file,
                    stated,
                    found,
                });
            }
            identity.serving_etag = None;
        }
        // What lies there is another content, which the note must not vouch for, not even if this run dies.
        remove(to)?;
        done.write(&identity)?;
        fs::rename(&part, to).map_err(|source| write_failed(to, source))?;
        remove(&noted.path)?;
        Ok(identity)
    }
}

/// What is stated and what was found, where content and statement differ. Other hubs than Git's may state no
/// digest for small files, only a length.
fn difference(identity: &Identity, part: &Path) -> Result<Option<(String, String)>, HubError> {
    let length = length(part);
    if let Some(size) = identity.size
        && size != length
    {
        return Ok(Some((format!("{size} bytes"), format!("{length} bytes"))));
    }
    let (kind, stated, found) = match (identity.sha256(), identity.git_blob()) {
        (Some(stated), _) => ("SHA-256", stated, sha256_of(part)),
        (None, Some(stated)) => ("Git's SHA-1", stated, git_blob_of(part)),
        (None, None) => return Ok(None),
    };
    let found = found.map_err(|source| write_failed(part, source))?;
    let differs = !found.eq_ignore_ascii_case(stated);
    Ok(differs.then(|| (format!("{kind} {stated}"), format!("{kind} {found}"))))
}

/// As Git names a file's content.
fn git_blob_of(path: &Path) -> io::Result<String> {
    let bytes = fs::read(path)?;
    let head = format!("blob {}\0", bytes.len());
    Ok(hex::encode(
        Sha1::new()
            .chain_update(head)
            .chain_update(bytes)
            .finalize(),
    ))
}
