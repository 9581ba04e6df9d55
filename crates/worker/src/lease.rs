//! The heartbeat: renews a lease while its job is worked on, and stops the work when the lease is
//! lost. Runs as a task of its own, so that it never waits for the engine.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use upres_common::job::view::Progress;
use upres_common::lease::{Beat, Lease, LeaseRef, Verdict};

use crate::coordinator::Coordinator;

/// Heartbeats in one lifetime of a lease: two may be lost.
const BEATS_PER_TTL: u32 = 3;

/// A held lease, as the rest of the worker sees it.
#[derive(Debug)]
pub(crate) struct Held {
    /// What was granted.
    pub(crate) lease: Lease,
    /// How far the work is, for the next heartbeat.
    pub(crate) progress: watch::Sender<Option<Progress>>,
    /// The upload that the result is written to, for the next heartbeat.
    pub(crate) upload_id: watch::Sender<Option<String>>,
    /// Fires when the work is to stop, whatever the reason.
    pub(crate) stop: CancellationToken,
}

impl Held {
    /// A fresh claim. Its work also stops when `drain` fires.
    pub(crate) fn new(lease: Lease, drain: &CancellationToken) -> Self {
        Self {
            lease,
            progress: watch::Sender::new(None),
            upload_id: watch::Sender::new(None),
            stop: drain.child_token(),
        }
    }

    /// What settles the job.
    pub(crate) fn reference(&self) -> LeaseRef {
        LeaseRef {
            job_id: self.lease.job_id,
            token: self.lease.token,
        }
    }

    fn beat(&self) -> Beat {
        Beat {
            lease: self.reference(),
            progress: *self.progress.borrow(),
            upload_id: self.upload_id.borrow().clone(),
        }
    }
}

/// Renews until the caller drops this future, or the lease is lost: then returns the verdict after
/// stopping the work. A coordinator that is away is asked again; the lease may live on or lapse
/// meanwhile, which the next answer tells.
pub(crate) async fn keep(held: &Held, coordinator: &Coordinator) -> Verdict {
    let pause = Duration::from_secs(u64::from(held.lease.ttl_secs)) / BEATS_PER_TTL;
    let mut upload_begun = held.upload_id.subscribe();
    loop {
        // A new upload is reported at once: should this process die, the coordinator can abort it.
        let _ = tokio::time::timeout(pause, upload_begun.changed()).await;
        match coordinator.heartbeat(held.beat()).await {
            Ok(Verdict::Held) => {}
            Ok(verdict) => {
                held.stop.cancel();
                return verdict;
            }
            Err(error) => {
                tracing::warn!(job.id = %held.lease.job_id, error = &error as &dyn std::error::Error, "heartbeat missed");
            }
        }
    }
}
