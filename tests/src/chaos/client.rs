//! The clients: they submit, watch, cancel and retry, ask again until they are answered, and write
//! down every answer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::cast::Cast;
use super::plan::Submission;
use crate::history::{Call, History};

/// Between two looks of a reader.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two tries of a call: the longer, the more there were.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Pages of the newest jobs only, between two looks at all of them.
const SHORT_LOOKS: usize = 8;

/// What all clients write into.
#[derive(Debug)]
pub(super) struct Recorder {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: History,
    file: BufWriter<File>,
    /// The state in which each job was last seen.
    states: HashMap<String, String>,
    /// What was refused for good, of calls and of drains.
    refused: Vec<String>,
}

impl Recorder {
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            inner: Mutex::new(Inner {
                history: History::default(),
                file: BufWriter::new(File::create(folder.join("history.jsonl"))?),
                states: HashMap::new(),
                refused: Vec::new(),
            }),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: Call) {
        let mut inner = self.inner();
        if let Call::Seen { job, state, .. } = &call {
            inner.states.insert(job.clone(), state.clone());
        }
        let line = json!({"ms": self.begun.elapsed().as_millis(), "call": format!("{call:?}")});
        // The history in memory is what counts.
        let _ = writeln!(inner.file, "{line}");
        inner.history.calls.push(call);
    }

    /// A fault, into the same file, so that it can be read beside the calls.
    pub(super) fn note(&self, what: &str) {
        let line = json!({"ms": self.begun.elapsed().as_millis(), "note": what});
        let _ = writeln!(self.inner().file, "{line}");
    }

    fn refuse(&self, what: String) {
        self.note(&what);
        self.inner().refused.push(what);
    }

    /// A program did not end within the time that a drain may take.
    pub(super) fn undrained(&self, who: &str) {
        self.refuse(format!("{who} did not end after SIGTERM"));
    }

    fn state(&self, job: &str) -> Option<String> {
        self.inner().states.get(job).cloned()
    }

    /// Everything so far, and the submissions that were refused for good.
    pub(super) fn history(&self) -> (History, Vec<String>) {
        let mut inner = self.inner();
        let _ = inner.file.flush();
        (inner.history.clone(), inner.refused.clone())
    }
}

/// What a client needs.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) cast: Arc<Cast>,
    pub(super) recorder: Arc<Recorder>,
    /// Becomes true when the run is over.
    pub(super) over: watch::Receiver<bool>,
}

impl Client {
    fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// The whole life of one submission, as its client lives it.
    pub(super) async fn follow(self, submission: Submission) {
        let key = format!("k{:05}", submission.index);
        let body = self.body(&submission);
        let Some(job) = self.submit(&key, &body, submission.index).await else {
            return;
        };
        if submission.repeated {
            self.submit(&key, &body, submission.index + 1).await;
        }
        if let Some(pause) = submission.cancel_after {
            tokio::time::sleep(pause).await;
            self.cancel(&job).await;
        }
        if submission.retried {
            self.retry_when_failed(&job).await;
        }
    }

    fn body(&self, submission: &Submission) -> Value {
        let store = &self.cast.store;
        let mut body = json!({
            "input": store.uri(&self.cast.load.input(submission)),
            "output": store.uri(&output(submission.index)),
            "class": submission.class.as_str(),
            "upscale": {"sidecar": submission.index.is_multiple_of(2)},
            // Innocent jobs are to outlive all that is done to them.
            "max_attempts": 25,
        });
        if let Some(wait) = submission.not_before {
            body["not_before"] = json!(from_now(wait));
        }
        if let Some(limit) = submission.finish_by {
            body["finish_by"] = json!(from_now(limit));
        }
        body
    }

    /// Submits until there is an answer; returns the accepted job.
    async fn submit(&self, key: &str, body: &Value, first: usize) -> Option<String> {
        for try_ in 0.. {
            if self.is_over() {
                return None;
            }
            let request = self.cast.request(Method::POST, first + try_, "/v1/jobs");
            let answer = ask(request.header("idempotency-key", key).json(body)).await;
            let (words, job) = match &answer {
                Ok((status, body)) if *status == StatusCode::ACCEPTED => {
                    ("202".to_owned(), body["id"].as_str().map(str::to_owned))
                }
                Ok((status, body)) => (format!("{status} {body}"), None),
                Err(error) => (format!("{error:#}"), None),
            };
            self.recorder.call(Call::Submitted {
                key: key.to_owned(),
                job: job.clone(),
                answer: words.clone(),
            });
            if job.is_some() {
                return job;
            }
            if let Ok((status, _)) = answer
                && !worth_asking_again(status)
            {
                self.recorder.refuse(format!("{key} was refused: {words}"));
                return None;
            }
            pause_after(try_).await;
        }
        None
    }

    async fn cancel(&self, job: &str) {
        for try_ in 0.. {
            if self.is_over() {
                return;
            }
            let path = format!("/v1/jobs/{job}/cancel");
            let request = self.cast.request(Method::POST, try_, &path);
            if let Ok((status, body)) = ask(request).await
                && !status.is_server_error()
            {
                let done = status.is_success() && body["state"] == "cancelled";
                self.recorder.call(Call::Cancelled {
                    job: job.to_owned(),
                    done,
                });
                // A result is being published: it will succeed, or another try will cancel it.
                if done
                    || self
                        .recorder
                        .state(job)
                        .is_some_and(|s| crate::history::is_terminal(&s))
                {
                    return;
                }
            }
            pause_after(try_).await;
        }
    }

    async fn retry_when_failed(&self, job: &str) {
        while self.recorder.state(job).as_deref() != Some("failed") {
            if self.is_over() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        for try_ in 0.. {
            if self.is_over() {
                return;
            }
            // Noted before: it may be done although no answer comes.
            self.recorder.call(Call::Retried {
                job: job.to_owned(),
            });
            let path = format!("/v1/jobs/{job}/retry");
            let answer = ask(self.cast.request(Method::POST, try_, &path)).await;
            if answer.is_ok_and(|(status, _)| !status.is_server_error()) {
                return;
            }
            pause_after(try_).await;
        }
    }

    /// Reads lists until the run is over, and once more then.
    pub(super) async fn watch(self, reader: usize) {
        let mut seen = HashMap::new();
        for look in 1.. {
            let over = self.is_over();
            let all = over || look % SHORT_LOOKS == 0;
            let complete = self.look(reader, all, &mut seen).await.is_ok();
            if over && complete {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(
        &self,
        reader: usize,
        all: bool,
        seen: &mut HashMap<String, i64>,
    ) -> anyhow::Result<()> {
        let mut path = format!("/v1/jobs?limit={}", if all { 500 } else { 100 });
        loop {
            let (status, page) = ask(self.cast.request(Method::GET, reader, &path)).await?;
            anyhow::ensure!(status.is_success(), "{status}");
            for job in page["jobs"].as_array().into_iter().flatten() {
                let text = |name: &str| job[name].as_str().unwrap_or_default().to_owned();
                let version = job["version"].as_i64().unwrap_or_default();
                if seen.insert(text("id"), version) != Some(version) {
                    self.recorder.call(Call::Seen {
                        reader,
                        job: text("id"),
                        state: text("state"),
                        version,
                    });
                }
            }
            match page["next_cursor"].as_str().filter(|_| all) {
                Some(cursor) => path = format!("/v1/jobs?limit=500&cursor={cursor}"),
                None => return Ok(()),
            }
        }
    }
}

/// Where the result of that submission goes.
pub(super) fn output(index: usize) -> String {
    format!("out/{index:05}.png")
}

async fn pause_after(tries: usize) {
    let doublings = u32::try_from(tries.min(10)).unwrap_or_default();
    tokio::time::sleep((PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)).await;
}

async fn ask(request: reqwest::RequestBuilder) -> anyhow::Result<(StatusCode, Value)> {
    let answer = request.send().await?;
    let status = answer.status();
    Ok((status, answer.json().await?))
}

/// All submissions are valid: whatever is in the way, but for these, passes.
fn worth_asking_again(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::CONFLICT
        || status == StatusCode::TOO_MANY_REQUESTS
}

fn from_now(wait: Duration) -> String {
    let time = DateTime::from(SystemTime::now() + wait);
    time.fmt(DateTimeFormat::DateTime)
        .expect("a time of this century can be written")
}
