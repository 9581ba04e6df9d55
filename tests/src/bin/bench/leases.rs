//! The queue without the work: jobs go in through `POST /v1/jobs`, pass outbox, relay and broker, are
//! claimed through the lease API, and end at once. They end refused, because success would need an
//! upload; the database does the same either way. Nothing is fetched, nothing written back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use journey_tests::{World, photo};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use upres_common::broker::{Consumer, WakeUp, WakeUpDelivery};
use upres_common::job::{Class, ErrorType, JobError, JobId};
use upres_common::lease::{ClaimAnswer, ClaimRequest, FailRequest, Lease, LeaseRef};

use crate::queue::{AT_ONCE, Turn};
use crate::table::percentile;

/// A pause between single jobs, in which the queue becomes idle.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Different inputs, as in life; the jobs use them in turn.
const INPUTS: usize = 100;

/// A client of one coordinator, for the jobs of one phase.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    http: Client,
    url: String,
    key: String,
    amqp_url: String,
    inputs: String,
    outputs: String,
}

impl Leases {
    /// The results go under `out/<phase>/`.
    pub(crate) fn new(world: &World, phase: &str) -> Self {
        Self {
            http: Client::new(),
            url: world.url(0).to_owned(),
            key: world.key.clone(),
            amqp_url: world.amqp_url().to_owned(),
            inputs: world.store.uri("in/"),
            outputs: world.store.uri(&format!("out/{phase}/")),
        }
    }

    /// The same for another key.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// The same for another phase.
    pub(crate) fn with_outputs(&self, phase: &str) -> Self {
        let mut other = self.clone();
        other.outputs = format!("{}{phase}/", self.outputs);
        other
    }

    /// Puts the inputs of every phase into the store.
    pub(crate) async fn store_inputs(world: &World) -> anyhow::Result<()> {
        for number in 0..INPUTS {
            let key = format!("in/{number}.png");
            world.store.put(&key, photo(24, 16)).await?;
        }
        Ok(())
    }

    /// Where all results of the phase go.
    pub(crate) fn outputs(&self) -> &str {
        &self.outputs
    }

    pub(crate) async fn measure(&self, jobs: usize, singles: usize) -> anyhow::Result<Turn> {
        let enqueue_per_s = self.enqueue(jobs).await?;
        let mut consumer = self.consume().await?;
        let drain_per_s = self.drain(&mut consumer, jobs).await?;
        let mut waits = Vec::with_capacity(singles);
        for single in 0..singles {
            tokio::time::sleep(PAUSE).await;
            waits.push(self.single(&mut consumer, single).await?);
        }
        consumer.close(None).await;
        Ok(Turn {
            enqueue_per_s,
            drain_per_s,
            pickup_p50_ms: percentile(&waits, 0.5),
            pickup_p99_ms: percentile(&waits, 0.99),
        })
    }

    /// Submits jobs, [`AT_ONCE`] requests under way; returns how many were accepted a second.
    pub(crate) async fn enqueue(&self, jobs: usize) -> anyhow::Result<f64> {
        let next = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let mut senders = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (client, next) = (self.clone(), Arc::clone(&next));
            senders.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        return anyhow::Ok(());
                    }
                    client.submit("many", number).await?;
                }
            });
        }
        while let Some(ended) = senders.join_next().await {
            ended??;
        }
        Ok(jobs as f64 / started.elapsed().as_secs_f64())
    }

    /// Submits one job; its result is to be `<outputs><kind>-<number>.png`.
    pub(crate) async fn submit(&self, kind: &str, number: usize) -> anyhow::Result<JobId> {
        let input = format!("{}{}.png", self.inputs, number % INPUTS);
        let output = format!("{}{kind}-{number}.png", self.outputs);
        let job = json!({"input": input, "output": output});
        let answer = self.post("/v1/jobs", &job).await?;
        Ok(serde_json::from_value(answer["id"].clone())?)
    }

    /// Connects, and takes everything that waits.
    pub(crate) async fn drain_all(&self, jobs: usize) -> anyhow::Result<f64> {
        let mut consumer = self.consume().await?;
        let drain_per_s = self.drain(&mut consumer, jobs).await?;
        consumer.close(None).await;
        Ok(drain_per_s)
    }

    pub(crate) async fn consume(&self) -> anyhow::Result<Consumer> {
        let prefetch = u16::try_from(AT_ONCE)?;
        Ok(Consumer::connect(&self.amqp_url, "bench", prefetch).await?)
    }

    /// Takes everything that waits, [`AT_ONCE`] jobs in hand; returns how many ended a second,
    /// counted from the first wake-up to the last job's end in the database.
    async fn drain(&self, consumer: &mut Consumer, jobs: usize) -> anyhow::Result<f64> {
        let (mut started, mut ended) = (None, 0);
        let mut in_hand = JoinSet::new();
        while ended < jobs {
            tokio::select! {
                Some(done) = in_hand.join_next() => ended += usize::from(done??),
                delivery = consumer.next(), if in_hand.len() < AT_ONCE => {
                    started.get_or_insert_with(Instant::now);
                    let delivery = delivery?.context("the broker hung up")?;
                    let client = self.clone();
                    in_hand.spawn(async move { client.work(&delivery).await });
                }
            }
        }
        let seconds = started.context("a first wake-up")?.elapsed().as_secs_f64();
        Ok(jobs as f64 / seconds)
    }

    /// One job into an idle queue: milliseconds from before its submission until somebody owns it.
    async fn single(&self, consumer: &mut Consumer, number: usize) -> anyhow::Result<f64> {
        let started = Instant::now();
        let picked_up = async {
            let delivery = consumer.next().await?.context("the broker hung up")?;
            let WakeUp { job_id, class, .. } = delivery.envelope()?.wake_up;
            let lease = self.claim(job_id, class).await?.context("a lease")?;
            let waited = started.elapsed();
            delivery.ack().await?;
            anyhow::Ok((waited, lease))
        };
        let (_, (waited, lease)) = tokio::try_join!(self.submit("single", number), picked_up)?;
        self.end(&lease).await?;
        Ok(waited.as_secs_f64() * 1e3)
    }

    /// As a worker would: claim, ack, report. False: the wake-up was stale.
    async fn work(&self, delivery: &WakeUpDelivery) -> anyhow::Result<bool> {
        let WakeUp { job_id, class, .. } = delivery.envelope()?.wake_up;
        let lease = self.claim(job_id, class).await?;
        delivery.ack().await?;
        match lease {
            Some(lease) => self.end(&lease).await.map(|()| true),
            None => Ok(false),
        }
    }

    pub(crate) async fn claim(&self, job_id: JobId, class: Class) -> anyhow::Result<Option<Lease>> {
        let request = ClaimRequest {
            worker_id: "bench".to_owned(),
            job_ids: vec![job_id],
            class,
        };
        let answer: ClaimAnswer =
            serde_json::from_value(self.post("/v1/leases/claim", &json!(request)).await?)?;
        Ok(answer.leases.into_iter().next())
    }

    pub(crate) async fn end(&self, lease: &Lease) -> anyhow::Result<()> {
        let request = FailRequest {
            lease: LeaseRef {
                job_id: lease.job_id,
                token: lease.token,
            },
            error: JobError::new(ErrorType::InputUnsupported, "a measurement, not a job"),
            tile_batch: None,
        };
        self.post("/v1/leases/fail", &json!(request)).await?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.url));
        let answer = request.bearer_auth(&self.key).json(body).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        anyhow::ensure!(status.is_success(), "{path} answered {status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }
}
