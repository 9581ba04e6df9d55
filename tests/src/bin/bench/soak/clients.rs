//! The clients of a soak: submissions of every kind, readers, and those who change their minds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use journey_tests::{World, photo};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Requests under way at once; beyond that the rate is not kept.
const AT_ONCE: usize = 64;
/// Different inputs, used in turn.
const INPUTS: u64 = 50;

/// Whoever sends requests.
#[derive(Debug)]
pub(super) struct Clients {
    http: Client,
    urls: Vec<String>,
    key: String,
    inputs: String,
    outputs: String,
    submitted: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

impl Clients {
    pub(super) async fn new(world: &World) -> anyhow::Result<Self> {
        for number in 0..INPUTS {
            world
                .store
                .put(&format!("in/{number}.png"), photo(24, 16))
                .await?;
        }
        world.store.put("in/none.png", b"no image".to_vec()).await?;
        let urls = 0..world.coordinators().count();
        Ok(Self {
            http: Client::new(),
            urls: urls.map(|index| world.url(index).to_owned()).collect(),
            key: world.key.clone(),
            inputs: world.store.uri("in/"),
            outputs: world.store.uri("out/"),
            submitted: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            refused: AtomicU64::default(),
        })
    }

    /// What was done.
    pub(super) fn summary(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} jobs submitted, {} of them cancelled, {} requests refused",
            count(&self.submitted),
            count(&self.cancelled),
            count(&self.refused)
        )
    }

    /// Sends `rate` submissions a second, and what goes with them, until `stop`.
    pub(super) async fn run(
        self: Arc<Self>,
        rate: f64,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut beat = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let tasks = TaskTracker::new();
        let mut number = 0;
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = stop.cancelled() => break,
            }
            if tasks.len() >= AT_ONCE {
                continue;
            }
            let clients = Arc::clone(&self);
            tasks.spawn(async move {
                if clients.one(number).await.is_err() {
                    clients.refused.fetch_add(1, Ordering::Relaxed);
                }
            });
            number += 1;
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    /// One submission, and what its number says goes with it.
    async fn one(&self, number: u64) -> anyhow::Result<()> {
        let input = match number % 25 {
            0 => "none".to_owned(),
            _ => (number % INPUTS).to_string(),
        };
        let job = json!({
            "input": format!("{}{input}.png", self.inputs),
            "output": format!("{}{number}.png", self.outputs),
            "class": if number.is_multiple_of(3) { "interactive" } else { "bulk" },
            "priority": number % 3,
            "labels": {"box": (number / 100).to_string()},
        });
        let key = (number % 10 == 1).then(|| format!("soak-{number}"));
        let id = self.submit(number, &job, key.as_deref()).await?;
        self.submitted.fetch_add(1, Ordering::Relaxed);
        match number % 10 {
            1 => {
                self.submit(number + 1, &job, key.as_deref()).await?;
            }
            2 => {
                let path = format!("/v1/jobs/{id}/cancel");
                // It may have ended by then.
                if self.send(number, Method::POST, &path).await?.0.is_success() {
                    self.cancelled.fetch_add(1, Ordering::Relaxed);
                }
            }
            3..=5 => {
                let path = format!("/v1/jobs/{id}?wait=10");
                self.send(number, Method::GET, &path).await?;
            }
            6 => {
                let path = "/v1/jobs?state=queued&limit=50";
                self.send(number, Method::GET, path).await?;
            }
            7 => {
                self.send(number, Method::GET, "/metrics").await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn submit(&self, number: u64, job: &Value, key: Option<&str>) -> anyhow::Result<String> {
        let mut request = self.request(number, Method::POST, "/v1/jobs").json(job);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    async fn send(
        &self,
        number: u64,
        method: Method,
        path: &str,
    ) -> anyhow::Result<(StatusCode, String)> {
        let answer = self.request(number, method, path).send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    fn request(&self, number: u64, method: Method, path: &str) -> reqwest::RequestBuilder {
        let index = usize::try_from(number).unwrap_or_default() % self.urls.len();
        let url = format!("{}{path}", self.urls[index]);
        self.http.request(method, url).bearer_auth(&self.key)
    }
}
