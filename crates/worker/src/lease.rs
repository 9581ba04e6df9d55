//! The heartbeat: renews a lease while its job is worked on, and stops the work when the lease is
//! lost. Runs as a task of its own, so that it never waits for the engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use upres_common::job::view::Progress;
use upres_common::lease::{Beat, Lease, LeaseRef, ResumePoint, Verdict};

use crate::coordinator::{CallError, Coordinator};

/// Heartbeats in one lifetime of a lease, at least: two may be lost.
const BEATS_PER_TTL: u32 = 3;
/// The answer to a heartbeat says that the job was cancelled: a long lease is no reason to compute until its
/// third has passed.
const PAUSE_AT_MOST: Duration = Duration::from_secs(5);
/// After one that was not answered. It may have taken long to fail.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A held lease, as the rest of the worker sees it.
#[derive(Debug)]
pub(crate) struct Held {
    /// What was granted.
    pub(crate) lease: Lease,
    /// How far the work is, for the next heartbeat.
    pub(crate) progress: watch::Sender<Option<Progress>>,
    /// Whether the engine is at it. Before, the job waits for the image before it; after, for the object store and
    /// the coordinator: both may take long.
    at_the_engine: AtomicBool,
    /// Counts what the engine lets hear: one for each network that a batch of tiles goes through.
    signs: AtomicU64,
    /// The upload that the result is written to, for the next heartbeat.
    pub(crate) upload_id: watch::Sender<Option<String>>,
    /// From where another worker could go on, for the next heartbeat.
    pub(crate) resume: watch::Sender<Option<ResumePoint>>,
    /// Fires when the work is to stop at once: nobody wants it any more.
    pub(crate) stop: CancellationToken,
    /// Fires when the work is to be handed over to another worker.
    pub(crate) drain: CancellationToken,
}

impl Held {
    /// A fresh claim. Its work is handed over when `drain` fires.
    pub(crate) fn new(lease: Lease, drain: &CancellationToken) -> Self {
        Self {
            lease,
            progress: watch::Sender::new(None),
            at_the_engine: AtomicBool::new(false),
            signs: AtomicU64::new(0),
            upload_id: watch::Sender::new(None),
            resume: watch::Sender::new(None),
            stop: CancellationToken::new(),
            drain: drain.clone(),
        }
    }

    /// What settles the job.
    pub(crate) fn reference(&self) -> LeaseRef {
        LeaseRef {
            job_id: self.lease.job_id,
            token: self.lease.token,
        }
    }

    /// From now on the engine is at it, until the answer is dropped.
    pub(crate) fn enter_engine(&self) -> AtTheEngine<'_> {
        self.at_the_engine.store(true, Ordering::Relaxed);
        AtTheEngine(self)
    }

    /// The engine has come further, if not by a tile: schedules may be long.
    pub(crate) fn note_sign(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// Of the engine's work; `None` where nobody knows.
    pub(crate) fn tile_steps_left(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        let promised = self.lease.tile_steps.map(|n| n as f64);
        let progress = *self.progress.borrow();
        progress.map_or(promised, |progress| {
            let left = progress.tiles_total.saturating_sub(progress.tiles);
            let share = f64::from(left) / f64::from(progress.tiles_total.max(1));
            Some(share * f64::from(progress.tile_steps_total))
        })
    }

    fn beat(&self, resume: Option<ResumePoint>) -> Beat {
        Beat {
            lease: self.reference(),
            progress: *self.progress.borrow(),
            upload_id: self.upload_id.borrow().clone(),
            resume,
        }
    }
}

/// The job is in the engine's hands.
#[derive(Debug)]
pub(crate) struct AtTheEngine<'a>(&'a Held);

impl Drop for AtTheEngine<'_> {
    fn drop(&mut self) {
        self.0.at_the_engine.store(false, Ordering::Relaxed);
    }
}

/// Why a lease is renewed no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The owner cancelled the job.
    Cancelled,
    /// It lapsed; somebody else may have the job.
    Lost,
    /// The engine is at it and gets no further.
    Stalled,
}

/// Renews until the caller drops this future, the lease is lost, or the engine makes no progress
/// for `stall`: a lease stands for work that goes on, not for a process that answers. Stops the work
/// before it returns. A coordinator that is away is asked again; the lease may live on or lapse
/// meanwhile, which the next answer tells.
pub(crate) async fn keep(held: &Held, coordinator: &Coordinator, stall: Duration) -> Stopped {
    let pause = Duration::from_secs(u64::from(held.lease.ttl_secs)) / BEATS_PER_TTL;
    let pause = pause.min(PAUSE_AT_MOST);
    let stopped = tokio::select! {
        stopped = renew(held, coordinator, pause) => stopped,
        () = stalls(held, pause, stall) => Stopped::Stalled,
    };
    held.stop.cancel();
    stopped
}

async fn renew(held: &Held, coordinator: &Coordinator, usual: Duration) -> Stopped {
    let (mut upload_begun, mut tiles) = (held.upload_id.subscribe(), held.progress.subscribe());
    let mut resume = held.resume.subscribe();
    let (mut pause, mut has_begun) = (usual, false);
    loop {
        // Should this process die, the coordinator is to know that the work had begun, and which
        // upload to abort: both are reported at once.
        tokio::select! {
            _ = upload_begun.changed() => {}
            _ = tiles.changed(), if !has_begun => {}
            () = tokio::time::sleep(pause) => {}
        }
        has_begun = held.progress.borrow().is_some();
        // Long lists of parts are told once, not with every beat.
        let news = resume.has_changed().unwrap_or(false);
        let point = news.then(|| resume.borrow_and_update().clone()).flatten();
        match coordinator.heartbeat(held.beat(point)).await {
            Ok(Verdict::Held) => pause = usual,
            Ok(Verdict::Cancelled) => return Stopped::Cancelled,
            Ok(Verdict::Lost) => return Stopped::Lost,
            Err(error) => {
                // A hint that is refused must not cost the lease: the next goes without.
                if news && !matches!(error, CallError::Refused { .. }) {
                    resume.mark_changed();
                }
                pause = usual.min(AGAIN_AFTER);
                tracing::warn!(job.id = %held.lease.job_id, error = &error as &dyn std::error::Error, "heartbeat missed");
            }
        }
    }
}

/// Returns when the engine is at the job and got no further for `stall`. Counted in pauses: a process that was
/// stopped for a while has not watched its engine.
async fn stalls(held: &Held, pause: Duration, stall: Duration) {
    let mut watch = EngineWatch::default();
    while watch.idle < stall {
        tokio::time::sleep(pause).await;
        watch.look(held, pause);
    }
}

/// How long the engine has owed a sign of life.
#[derive(Debug, Default)]
struct EngineWatch {
    seen: u64,
    idle: Duration,
}

impl EngineWatch {
    /// So long after the look before.
    fn look(&mut self, held: &Held, pause: Duration) {
        let progress = *held.progress.borrow();
        let owes_a_tile = held.at_the_engine.load(Ordering::Relaxed)
            && progress.is_some_and(|progress| progress.tiles < progress.tiles_total);
        let signs = held.signs.load(Ordering::Relaxed);
        self.idle = match owes_a_tile && signs == self.seen {
            true => self.idle + pause,
            false => Duration::ZERO,
        };
        self.seen = signs;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use upres_common::job::spec::UpscaleSpec;

    use super::*;

    pub(crate) fn held(tile_steps: Option<u64>) -> Held {
        let lease = serde_json::json!({
            "job_id": "01890000-0000-7000-8000-000000000000", "attempt": 1, "token": 1, "ttl_secs": 30,
            "input": "s3://in-1/a.png", "output": "s3://out-1/a.png", "if_exists": "fail",
            "upscale": UpscaleSpec::default(), "tile_steps": tile_steps, "traceparent": null,
        });
        let lease: Lease = serde_json::from_value(lease).expect("a lease");
        Held::new(lease, &CancellationToken::new())
    }

    #[test]
    fn only_an_engine_that_owes_a_tile_is_idle() {
        let held = held(None);
        let mut watch = EngineWatch::default();
        let mut idle_after_looks = |held: &Held, looks| {
            (0..looks).for_each(|_| watch.look(held, Duration::from_secs(5)));
            watch.idle.as_secs()
        };
        let progress = |tiles| Progress {
            tiles,
            tiles_total: 2,
            tile_steps_total: 2,
        };
        assert_eq!(idle_after_looks(&held, 9), 0, "it waits for its turn");
        held.progress.send_replace(Some(progress(0)));
        let entered = held.enter_engine();
        held.note_sign();
        assert_eq!(idle_after_looks(&held, 4), 15);
        held.note_sign();
        assert_eq!(idle_after_looks(&held, 1), 0, "a step of the same tile");
        assert_eq!(idle_after_looks(&held, 9), 45);
        drop(entered);
        assert_eq!(
            idle_after_looks(&held, 9),
            0,
            "it failed, and waits to be heard"
        );
        let _entered = held.enter_engine();
        held.progress.send_replace(Some(progress(2)));
        assert_eq!(idle_after_looks(&held, 9), 0, "the rest is the store's");
    }
}
