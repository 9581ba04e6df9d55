//! Pull: consume wake-ups, claim leases, ack, and work off what was granted; until SIGTERM, or until
//! the device is lost.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use imaging::Limits;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use upres_common::broker::{BrokerError, Consumer, WakeUpDelivery};
use upres_common::job::{Consequence, ErrorType, JobError};
use upres_common::lease::{AboutWorker, SettledAnswer};
use upres_common::objects::ObjectStore;
use uuid::Uuid;

use crate::ahead::Ahead;
use crate::config::ServiceConfig;
use crate::coordinator::{CallError, Coordinator};
use crate::engine::Engine;
use crate::lease::{self, Held, Stopped};
use crate::process::{Workshop, process};
use crate::room::Room;
use crate::{report, spec, write_back};

/// Wake-ups held unclaimed, per class.
const PREFETCH: u16 = 1;
/// A worker that can claim nothing for so long takes no wake-ups either: even one in its hands would wait for
/// it, while other workers are idle.
const BUSY_AFTER: Duration = Duration::from_secs(1);
const RECONNECT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_secs(5);
/// How often a worker says that it is here.
const INTRODUCE_EVERY: Duration = Duration::from_secs(10);
/// After a job was told to stop, time to hand it back.
const HAND_BACK: Duration = Duration::from_secs(14);

/// One running worker.
struct Worker {
    shop: Workshop,
    coordinator: Coordinator,
    id: String,
    /// No new work from here on.
    stop: CancellationToken,
    /// Running work is to be handed back.
    drain: CancellationToken,
    /// The device is gone: the process must end with an error.
    device_lost: CancellationToken,
    slots: Arc<Semaphore>,
    ahead: Arc<Ahead>,
    tasks: TaskTracker,
    /// An engine that makes no progress for so long is stuck.
    stall: Duration,
}

/// Runs a worker until SIGTERM or SIGINT, with whatever engine it is given.
///
/// # Errors
/// What cannot be mended by waiting.
pub async fn run(config: ServiceConfig, engine: Engine, room: Room) -> anyhow::Result<ExitCode> {
    // Fails only when the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let id = Uuid::now_v7().to_string();
    let coordinator = Coordinator::new(&config.api_url, config.api_key.clone(), id.clone())?;
    let limits = Limits {
        max_bytes: config.max_input_bytes,
        max_pixels: config.max_pixels,
        ..Limits::default()
    };
    let objects = ObjectStore::new(&config.s3).await;
    let worker = Arc::new(Worker {
        shop: Workshop {
            objects,
            engine,
            limits,
            room,
            jobs_in_flight: config.jobs_in_flight,
        },
        coordinator,
        id,
        stop: CancellationToken::new(),
        drain: CancellationToken::new(),
        device_lost: CancellationToken::new(),
        slots: Arc::new(Semaphore::new(config.jobs_in_flight)),
        ahead: Arc::default(),
        tasks: TaskTracker::new(),
        stall: config.stall,
    });
    tracing::info!(worker.id = worker.id, "worker starts");
    worker.tasks.spawn({
        let worker = Arc::clone(&worker);
        async move { worker.introduce_itself().await }
    });
    let pulling = worker.tasks.spawn({
        let worker = Arc::clone(&worker);
        async move { worker.pull(config.amqp_url.expose_secret()).await }
    });
    wait_for_the_end(&worker).await?;
    tracing::info!(worker.id = worker.id, "worker drains");
    worker.stop.cancel();
    worker.tasks.close();
    if tokio::time::timeout(config.drain, worker.tasks.wait())
        .await
        .is_err()
    {
        worker.drain.cancel();
        let _ = tokio::time::timeout(HAND_BACK, worker.tasks.wait()).await;
    }
    drop(pulling);
    if worker.device_lost.is_cancelled() {
        tracing::error!(
            worker.id = worker.id,
            "the device is lost, this worker ends"
        );
        return Ok(ExitCode::FAILURE);
    }
    tracing::info!(worker.id = worker.id, "worker stopped");
    Ok(ExitCode::SUCCESS)
}

async fn wait_for_the_end(worker: &Worker) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = worker.device_lost.cancelled() => {}
    }
    Ok(())
}

impl Worker {
    /// Tells the coordinator what works here, again and again until `stop`. For people: nothing depends on it.
    async fn introduce_itself(&self) {
        let made_by = self.shop.engine.made_by();
        let about = AboutWorker {
            software: spec::SOFTWARE.to_owned(),
            device: made_by.device.clone(),
            dtype: made_by.dtype.clone(),
            model: made_by.model.clone(),
        };
        while !self.stop.is_cancelled() {
            if let Err(error) = self.coordinator.introduce(about.clone()).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "not heard");
            }
            let _ = tokio::time::timeout(INTRODUCE_EVERY, self.stop.cancelled()).await;
        }
    }

    /// Consumes until `stop`, reconnecting to the broker as often as it takes.
    async fn pull(self: Arc<Self>, amqp_url: &str) {
        let mut pause = *RECONNECT.start();
        while !self.stop.is_cancelled() {
            match Consumer::connect(amqp_url, &self.id, PREFETCH).await {
                Ok(consumer) => {
                    tracing::info!(worker.id = self.id, "worker connected to the broker");
                    pause = *RECONNECT.start();
                    match self.consume(consumer).await {
                        Ok(()) if self.stop.is_cancelled() => return,
                        Ok(()) => tracing::warn!("the broker cancelled the consumer"),
                        Err(error) => {
                            tracing::warn!(
                                error = &error as &dyn std::error::Error,
                                "worker lost the broker"
                            );
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "worker cannot reach the broker"
                    );
                }
            }
            let _ = tokio::time::timeout(pause, self.stop.cancelled()).await;
            pause = (pause * 2).min(*RECONNECT.end());
        }
    }

    async fn consume(self: &Arc<Self>, mut consumer: Consumer) -> Result<(), BrokerError> {
        let mut answered = None;
        loop {
            let slot = self.room_for_another(&mut consumer, &mut answered).await?;
            let Some(slot) = slot else {
                break;
            };
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery?,
                () = self.stop.cancelled() => break,
            };
            let Some(delivery) = delivery else {
                return Ok(());
            };
            answered = self.answer(delivery, slot).await?;
        }
        consumer.close(answered).await;
        Ok(())
    }

    /// A slot for the next job, once the engine will be free for it soon; `None` when the worker is to stop.
    ///
    /// Only then is the wake-up `answered` acknowledged: sooner, the next would come and wait in these hands.
    async fn room_for_another(
        &self,
        consumer: &mut Consumer,
        answered: &mut Option<WakeUpDelivery>,
    ) -> Result<Option<OwnedSemaphorePermit>, BrokerError> {
        let slot = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            self.ahead.is_short(&self.shop.engine).await;
            slot.expect("the semaphore is never closed")
        };
        tokio::pin!(slot);
        tokio::select! {
            slot = &mut slot => {
                if let Some(answered) = answered.take() {
                    answered.ack().await?;
                }
                return Ok(Some(slot));
            }
            () = self.stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(BUSY_AFTER) => {}
        }
        consumer.pause(answered.take()).await?;
        let slot = tokio::select! {
            slot = &mut slot => slot,
            () = self.stop.cancelled() => return Ok(None),
        };
        consumer.resume().await?;
        Ok(Some(slot))
    }

    /// Claims what the wake-up speaks of, and starts the work. Returns the message if it is still to be
    /// acknowledged.
    async fn answer(
        self: &Arc<Self>,
        delivery: WakeUpDelivery,
        slot: OwnedSemaphorePermit,
    ) -> Result<Option<WakeUpDelivery>, BrokerError> {
        let envelope = match delivery.envelope() {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "message parked in the dead-letter queue"
                );
                return delivery.park().await.map(|()| None);
            }
        };
        let mut pause = *RECONNECT.start();
        let lease = loop {
            match self.coordinator.claim(&envelope.wake_up).await {
                Ok(lease) => break lease,
                Err(error) => {
                    // Also when the key is refused: an operator may be about to mend it, and the
                    // wake-up must not be lost meanwhile.
                    log_refusal(&error);
                    if tokio::time::timeout(pause, self.stop.cancelled())
                        .await
                        .is_ok()
                    {
                        return delivery.hand_back().await.map(|()| None);
                    }
                    pause = (pause * 2).min(*RECONNECT.end());
                }
            }
        };
        if let Some(lease) = lease {
            let trace = lease.traceparent.clone().unwrap_or_default();
            let span = tracing::info_span!("attempt", job.id = %lease.job_id, job.attempt = lease.attempt, trace);
            let worker = Arc::clone(self);
            let held = Arc::new(Held::new(lease, &self.drain));
            let counted = self.ahead.enter(Arc::clone(&held));
            let work = async move {
                worker.work(&held).await;
                drop((slot, counted));
            };
            self.tasks.spawn(work.instrument(span));
        }
        // The lease is committed, or there was none to have: the message has done its duty. Should the ack be
        // lost, the message comes again and its claim is refused.
        Ok(Some(delivery))
    }

    /// Works on one job and reports how it ended, renewing its lease meanwhile.
    async fn work(&self, held: &Held) {
        tracing::info!(object.key = held.lease.input, "attempt begins");
        let settle = self.settle(held);
        tokio::pin!(settle);
        let stopped = tokio::select! {
            () = &mut settle => return,
            stopped = lease::keep(held, &self.coordinator, self.stall) => stopped,
        };
        match stopped {
            Stopped::Cancelled => tracing::info!("job cancelled, attempt stops"),
            Stopped::Lost => tracing::warn!("lease lost, attempt stops"),
            Stopped::Stalled => tracing::error!("the device does nothing any more, attempt stops"),
        }
        // The work sees its stop signal and cleans up after itself.
        settle.await;
        if stopped == Stopped::Cancelled {
            self.abort_but(held, None).await;
        }
        if stopped == Stopped::Stalled {
            // Its thread cannot be stopped from outside; ending the process can.
            self.device_lost.cancel();
            let detail = format!("the engine finished no tile in {} s", self.stall.as_secs());
            let error = JobError::new(ErrorType::DeviceLost, detail);
            report::failed(&self.coordinator, held.reference(), error, None).await;
        }
    }

    async fn settle(&self, held: &Held) {
        let lease = held.reference();
        match process(&self.shop, held).await {
            Ok(outcome) => {
                let upload_id = outcome.upload_id.clone();
                let answer = report::completed(&self.coordinator, lease, outcome).await;
                if answer.as_ref().is_some_and(|answer| answer.superseded) {
                    tracing::warn!("attempt was superseded, its result is dropped");
                    // One that others were told of may be theirs by now.
                    if held.resume.borrow().is_none() {
                        self.abort(held, &upload_id).await;
                    }
                } else if let Some(answer) = answer {
                    tracing::info!(state = answer.state, "attempt ends");
                    self.abort_but(held, Some(&upload_id)).await;
                    self.remove_what_was_left(held).await;
                }
            }
            Err(error) => {
                if error.is_device_lost() {
                    self.device_lost.cancel();
                }
                if let Some(report) = error.report() {
                    tracing::warn!(error.type_ = %report.error_type, detail = report.detail, "attempt failed");
                    let tile_batch = u32::try_from(self.shop.tile_batch_for(&held.lease)).ok();
                    let device_lost = report.error_type.consequence() == Consequence::Death;
                    let answer = report::failed(&self.coordinator, lease, report, tile_batch).await;
                    // Of a superseded attempt's upload another may be making use.
                    if !device_lost && is_accepted(answer.as_ref()) {
                        self.abort_but(held, None).await;
                        self.remove_what_was_left(held).await;
                    }
                } else if self.drain.is_cancelled() {
                    let resume = held.resume.borrow().clone();
                    let reason = "the worker drains";
                    let kept = resume.as_ref().map(|point| point.upload_id.clone());
                    let answer = report::released(&self.coordinator, lease, reason, resume).await;
                    if is_accepted(answer.as_ref()) {
                        self.abort_but(held, kept.as_deref()).await;
                    }
                }
            }
        }
    }

    /// Removes what this attempt went on with, once nobody will again. What escapes this the janitor finds.
    async fn remove_what_was_left(&self, held: &Held) {
        let left = held.lease.resume.as_ref();
        let left = left.and_then(|point| point.hand_over.as_ref()?.address.parse().ok());
        if let Some(left) = left
            && let Err(error) = self.shop.objects.delete(&left).await
        {
            tracing::warn!(object.key = %left, error = &error as &dyn std::error::Error, "cannot remove what was left");
        }
    }

    /// Gives up the attempt's upload and the one that was kept for it, but for `kept`: the job speaks of
    /// them no more. Sooner, another attempt may be told to go on with what is gone.
    async fn abort_but(&self, held: &Held, kept: Option<&str>) {
        let own = held.upload_id.borrow().clone();
        let found = held.lease.resume.as_ref().map(|point| &point.upload_id);
        let uploads: BTreeSet<_> = own.iter().chain(found).collect();
        for upload_id in uploads {
            if kept != Some(upload_id.as_str()) {
                self.abort(held, upload_id).await;
            }
        }
    }

    async fn abort(&self, held: &Held, upload_id: &str) {
        if let Ok(output) = held.lease.output.parse() {
            write_back::abort(&self.shop.objects, &output, upload_id).await;
        }
    }
}

fn is_accepted(answer: Option<&SettledAnswer>) -> bool {
    answer.is_some_and(|answer| !answer.superseded)
}

fn log_refusal(error: &CallError) {
    if matches!(error, CallError::Refused { .. }) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the coordinator refuses this worker's key"
        );
    } else {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "claim waits for the coordinator"
        );
    }
}
