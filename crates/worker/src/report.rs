//! Report: tells the coordinator how an attempt ended, as often as it takes to be heard. While it is away the
//! lease may lapse; the first answer says so then, and that the worker lives.

use std::time::Duration;

use upres_common::job::JobError;
use upres_common::lease::{
    CompleteRequest, FailRequest, LeaseRef, Outcome, ReleaseRequest, ResumePoint, SettledAnswer,
};

use crate::coordinator::{CallError, Coordinator};

const PAUSE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_secs(5);

/// Asks for publication. `None` when nobody would hear it.
pub(crate) async fn completed(
    coordinator: &Coordinator,
    lease: LeaseRef,
    outcome: Outcome,
) -> Option<SettledAnswer> {
    let request = CompleteRequest { lease, outcome };
    until_heard(lease, || coordinator.complete(&request)).await
}

/// Reports an error.
pub(crate) async fn failed(
    coordinator: &Coordinator,
    lease: LeaseRef,
    error: JobError,
    tile_batch: Option<u32>,
) -> Option<SettledAnswer> {
    let request = FailRequest {
        lease,
        error,
        tile_batch,
    };
    until_heard(lease, || coordinator.fail(&request)).await
}

/// Hands the job back, with the place where another can go on.
pub(crate) async fn released(
    coordinator: &Coordinator,
    lease: LeaseRef,
    reason: &str,
    resume: Option<ResumePoint>,
) -> Option<SettledAnswer> {
    let request = ReleaseRequest {
        lease,
        reason: reason.to_owned(),
        resume,
    };
    until_heard(lease, || coordinator.release(&request)).await
}

async fn until_heard<F>(lease: LeaseRef, call: impl Fn() -> F) -> Option<SettledAnswer>
where
    F: Future<Output = Result<SettledAnswer, CallError>>,
{
    let mut pause = *PAUSE.start();
    loop {
        let error = match call().await {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        tracing::warn!(job.id = %lease.job_id, error = &error as &dyn std::error::Error, "report not heard");
        if matches!(error, CallError::Refused { .. }) {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(*PAUSE.end());
    }
}
