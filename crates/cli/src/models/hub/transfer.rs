//! The exchange with the hub: redirects, answers, and bytes that may stop coming.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret as _;

use super::beside::{Beside, length, remove, write_failed};
use super::{Hub, HubError, Identity, Repo};

const MOST_REDIRECTS: usize = 10;
/// Attempts in a row that bring no byte before a download is given up.
pub(super) const MOST_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A request for a file's content from byte `from` on.
struct Resume<'a> {
    from: u64,
    /// The content's tag at the server that sent the bytes before.
    serving_etag: Option<&'a str>,
}

/// How an attempt to fetch bytes ended.
enum Attempt {
    Whole,
    Failed(Trouble),
}

/// What may be otherwise in a moment.
enum Trouble {
    /// The connection broke, or what came does not continue what is there.
    Broken(Option<reqwest::Error>),
    /// The server said so.
    Busy(StatusCode),
}

impl Hub {
    /// What the hub says of a file.
    pub(super) async fn ask(&self, repo: &Repo, file: &str) -> Result<Identity, HubError> {
        let mut failures = 0;
        loop {
            match self.follow(repo, file, Method::HEAD, None).await? {
                Ok((_, answer)) if is_passing(answer.status()) => {
                    pause(file, &mut failures, Trouble::Busy(answer.status())).await?;
                }
                Ok((identity, answer)) => {
                    self.refuse(repo, file, &answer)?;
                    return Ok(identity);
                }
                Err(error) => pause(file, &mut failures, Trouble::Broken(Some(error))).await?,
            }
        }
    }

    /// Attempts until the part is as long as the file.
    pub(super) async fn fetch_bytes(
        &self,
        (repo, file): (&Repo, &str),
        part: &Path,
        (noted, identity): (&Beside, &mut Identity),
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), HubError> {
        let mut failures = 0;
        let mut furthest = length(part);
        loop {
            let from = length(part);
            if from > 0 && identity.size == Some(from) {
                return Ok(());
            }
            let serving_etag = identity.serving_etag.as_deref();
            let resume = Resume { from, serving_etag };
            let attempt = match self.follow(repo, file, Method::GET, Some(resume)).await? {
                Err(error) => Attempt::Failed(Trouble::Broken(Some(error))),
                Ok((_, answer)) if is_passing(answer.status()) => {
                    Attempt::Failed(Trouble::Busy(answer.status()))
                }
                Ok((_, answer)) if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE => {
                    remove(part)?;
                    Attempt::Failed(Trouble::Broken(None))
                }
                Ok((_, answer)) => {
                    self.refuse(repo, file, &answer)?;
                    identity.serving_etag = strong_etag(answer.headers());
                    noted.write(identity)?;
                    save(answer, part, identity.size, progress).await?
                }
            };
            let Attempt::Failed(trouble) = attempt else {
                return Ok(());
            };
            // A server that starts again each time makes no way, however much it sends.
            let have = length(part);
            if have > furthest {
                (furthest, failures) = (have, 0);
            } else {
                pause(file, &mut failures, trouble).await?;
            }
        }
    }

    /// Sends a request and follows where it leads. A HEAD request goes no further than the hub's
    /// own host, which knows the file's digest. The inner error is one of the connection.
    async fn follow(
        &self,
        repo: &Repo,
        file: &str,
        method: Method,
        resume: Option<Resume<'_>>,
    ) -> Result<reqwest::Result<(Identity, Response)>, HubError> {
        let circular = || HubError::Redirect {
            file: file.to_owned(),
        };
        let mut url = self.address(repo, file);
        let mut identity = Identity::default();
        for _ in 0..MOST_REDIRECTS {
            let own = url.origin() == self.args.hub.origin();
            let mut request = self
                .client
                .request(method.clone(), url.clone())
                .header(header::ACCEPT_ENCODING, "identity");
            let token = self.args.hub_token.as_ref();
            let token = token
                .map(|token| token.expose_secret())
                .filter(|token| !token.is_empty());
            if let (true, Some(token)) = (own, token) {
                request = request.bearer_auth(token);
            }
            if let Some(Resume { from, serving_etag }) = &resume
                && *from > 0
            {
                request = request.header(header::RANGE, format!("bytes={from}-"));
                if let Some(etag) = serving_etag {
                    request = request.header(header::IF_RANGE, *etag);
                }
            }
            let answer = match request.send().await {
                Ok(answer) => answer,
                // A redirect's address may hold a signature, which is nobody's business.
                Err(error) => return Ok(Err(error.without_url())),
            };
            if own {
                identity.learn(&answer);
            }
            let Some(next) = next_address(&url, &answer) else {
                return Ok(Ok((identity, answer)));
            };
            let next = next.ok_or_else(circular)?;
            if method == Method::HEAD && next.origin() != self.args.hub.origin() {
                return Ok(Ok((identity, answer)));
            }
            url = next;
        }
        Err(circular())
    }

    fn address(&self, repo: &Repo, file: &str) -> Url {
        let mut url = self.args.hub.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            path.extend(repo.name.split('/'));
            path.extend(["resolve", repo.revision.as_str()]);
            path.extend(file.split('/'));
        }
        url
    }

    /// Turns an answer without the file into a sentence.
    fn refuse(&self, repo: &Repo, file: &str, answer: &Response) -> Result<(), HubError> {
        let file = file.to_owned();
        let status = answer.status();
        match status {
            StatusCode::NOT_FOUND => Err(HubError::NotFound {
                repo: repo.name.clone(),
                file,
                revision: repo.revision.clone(),
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(HubError::Forbidden {
                page: self.page(&repo.name),
                status,
            }),
            _ if status.is_success() || status.is_redirection() => Ok(()),
            _ => Err(HubError::Status {
                host: answer.url().host_str().unwrap_or_default().to_owned(),
                file,
                status,
            }),
        }
    }
}

/// Where a redirect leads: `None` for another answer, `Some(None)` for a redirect that is not
/// followed.
fn next_address(from: &Url, answer: &Response) -> Option<Option<Url>> {
    if !answer.status().is_redirection() {
        return None;
    }
    Some(text(answer.headers(), header::LOCATION).and_then(|location| joined(from, &location)))
}

/// The address that `location` names at `from`; none that would give up encryption.
fn joined(from: &Url, location: &str) -> Option<Url> {
    let next = from.join(location).ok()?;
    let kept = next.scheme() == "https" || (from.scheme(), next.scheme()) == ("http", "http");
    kept.then_some(next)
}

/// Writes an answer's bytes behind those that are there, or in their place when the server sends
/// the file from its start.
async fn save(
    mut answer: Response,
    part: &Path,
    size: Option<u64>,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<Attempt, HubError> {
    let failed = |source| write_failed(part, source);
    let mut have = length(part);
    let mut file = if answer.status() == StatusCode::PARTIAL_CONTENT {
        if first_byte(answer.headers()) != Some(have) {
            remove(part)?;
            return Ok(Attempt::Failed(Trouble::Broken(None)));
        }
        let opened = OpenOptions::new().append(true).create(true).open(part);
        opened.map_err(failed)?
    } else {
        have = 0;
        File::create(part).map_err(failed)?
    };
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                file.write_all(&chunk).map_err(failed)?;
                have += chunk.len() as u64;
                progress(have, size);
            }
            Ok(None) => break None,
            Err(error) => break Some(error.without_url()),
        }
    };
    file.sync_all().map_err(failed)?;
    Ok(match broken {
        None if size.is_none_or(|size| have >= size) => Attempt::Whole,
        source => Attempt::Failed(Trouble::Broken(source)),
    })
}

/// Waits before the next attempt, longer each time; gives up in the end.
async fn pause(file: &str, failures: &mut u32, trouble: Trouble) -> Result<(), HubError> {
    *failures += 1;
    if *failures >= MOST_FAILURES {
        let file = file.to_owned();
        return Err(match trouble {
            Trouble::Broken(source) => HubError::Broken { file, source },
            Trouble::Busy(status) => HubError::Busy { file, status },
        });
    }
    tokio::time::sleep(FIRST_PAUSE * 2u32.pow(*failures - 1)).await;
    Ok(())
}

/// Whether the server may answer otherwise in a moment.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

impl Identity {
    /// Takes what an answer says of the file. What it says of the file that it leads to counts more
    /// than what it says of its own content, and a redirect's own content does not count at all.
    fn learn(&mut self, answer: &Response) {
        const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
        const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
        const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
        let headers = answer.headers();
        let own = |name| answer.status().is_success().then(|| text(headers, name))?;
        let plain = |etag: String| {
            let etag = etag.strip_prefix("W/").unwrap_or(&etag);
            etag.trim_matches('"').to_owned()
        };
        let number = |size: String| size.parse().ok();
        let etag = text(headers, LINKED_ETAG).map(plain);
        self.etag = etag.or_else(|| self.etag.take().or_else(|| own(header::ETAG).map(plain)));
        let size = text(headers, LINKED_SIZE).and_then(number);
        self.size = size.or_else(|| {
            self.size
                .or_else(|| own(header::CONTENT_LENGTH).and_then(number))
        });
        self.commit = text(headers, COMMIT).or(self.commit.take());
    }
}

/// The tag of exactly these bytes; a weak one does not do.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    text(headers, header::ETAG).filter(|etag| etag.starts_with('"'))
}

/// The first byte's place of an answer that holds a part.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, header::CONTENT_RANGE)?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_gives_up_encryption() {
        let leads = |from: &str, to: &str| {
            let next = joined(&from.parse().unwrap(), to);
            next.map(|url| url.to_string())
        };
        let secure = "https://hub.example/a/b";
        assert_eq!(
            leads(secure, "/c").as_deref(),
            Some("https://hub.example/c")
        );
        assert_eq!(
            leads(secure, "https://b.example/").as_deref(),
            Some("https://b.example/")
        );
        assert_eq!(leads(secure, "http://hub.example/c"), None);
        assert_eq!(leads(secure, "file:///etc/passwd"), None);
        let plain = "http://127.0.0.1:80/";
        assert_eq!(
            leads(plain, "http://127.0.0.1:81/").as_deref(),
            Some("http://127.0.0.1:81/")
        );
        assert_eq!(leads(plain, "ftp://127.0.0.1/"), None);
    }
}
