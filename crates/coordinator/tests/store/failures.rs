//! How attempts fail, and what that costs a job.

use sqlx::PgPool;
use upres_common::job::state::LeaseToken;
use upres_common::job::{ErrorType, JobError, JobId, JobState};
use upres_common::lease::{LeaseRef, Verdict};
use upres_coordinator::fail::{Failed, fail, fail_all};
use upres_coordinator::lease::revive;
use upres_coordinator::store::jobs::TransitionError;
use upres_coordinator::store::listing;

use super::{TTL_SECS, at_once, beat, begin, claim, lose, submit};

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn an_error_of_the_input_is_final(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let lease = claim(&pool, "worker", &[id], TTL_SECS)
        .await
        .unwrap()
        .remove(0);
    let held = LeaseRef {
        job_id: id,
        token: lease.token,
    };
    let error = JobError::new(ErrorType::InputUnreadable, "no image");
    let state = fail(&pool, held, &Failed::reported(error.clone()), &at_once())
        .await
        .unwrap();
    assert_eq!(state, JobState::Failed);
    assert!(
        claim(&pool, "worker", &[id], TTL_SECS)
            .await
            .unwrap()
            .is_empty()
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_job_that_kills_workers_is_held_back_until_it_is_retried(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |job| job.max_attempts = 1).await;
    let mut state = JobState::Queued;
    for _ in 0..2 {
        assert_eq!(state, JobState::Queued, "a death costs no attempt");
        let lease = begin(&pool, id).await;
        state = lose(&pool, lease).await;
    }
    assert_eq!(state, JobState::Failed);
    let job = listing::find(&mut conn, "tenant", id)
        .await
        .unwrap()
        .unwrap();
    let error = job.error.expect("a failed job says why");
    assert_eq!(error.error_type, ErrorType::Quarantined);

    revive(&pool, id).await.unwrap();
    let lease = begin(&pool, id).await;
    let state = lose(&pool, lease).await;
    assert_eq!(state, JobState::Queued, "the past is forgiven");
    assert!(revive(&pool, id).await.is_err(), "it has not failed");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_worker_that_turns_up_alive_is_no_death(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    for _ in 0..4 {
        let lease = begin(&pool, id).await;
        assert_eq!(lose(&pool, lease).await, JobState::Queued);
        assert_eq!(beat(&pool, lease).await, Verdict::Lost);
    }
    // Or its report comes first, and it will not be heard of again.
    for _ in 0..4 {
        let lease = begin(&pool, id).await;
        assert_eq!(lose(&pool, lease).await, JobState::Queued);
        let failed = Failed::reported(JobError::new(ErrorType::Storage, "no"));
        let late = fail(&pool, lease, &failed, &at_once()).await;
        assert!(matches!(late, Err(TransitionError::Refused(_))));
    }
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_worker_that_dies_of_it_after_it_was_given_up_is_a_death(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let mut state = JobState::Queued;
    for _ in 0..2 {
        assert_eq!(state, JobState::Queued);
        let lease = begin(&pool, id).await;
        state = lose(&pool, lease).await;
        let failed = Failed::reported(JobError::new(ErrorType::DeviceLost, "it fell off the bus"));
        assert!(fail(&pool, lease, &failed, &at_once()).await.is_err());
    }
    assert_eq!(state, JobState::Failed);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_worker_that_lost_its_device_is_alive_and_the_job_is_held_back(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let mut state = JobState::Queued;
    for _ in 0..2 {
        assert_eq!(state, JobState::Queued);
        let lease = begin(&pool, id).await;
        let lost = JobError::new(ErrorType::DeviceLost, "it fell off the bus");
        let failed = Failed::reported(lost);
        state = fail(&pool, lease, &failed, &at_once()).await.unwrap();
        // A heartbeat that was under way when the report was written.
        assert_eq!(beat(&pool, lease).await, Verdict::Lost);
    }
    assert_eq!(state, JobState::Failed);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_death_before_the_work_began_is_not_the_jobs_doing(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    for _ in 0..4 {
        let token = claim(&pool, "worker", &[id], TTL_SECS).await.unwrap()[0].token;
        let lease = LeaseRef { job_id: id, token };
        assert_eq!(lose(&pool, lease).await, JobState::Queued);
    }
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn out_of_memory_alone_halves_the_tile_batch(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |job| job.max_attempts = 9).await;
    let mut granted = Vec::new();
    use ErrorType::{OutOfMemory, Storage};
    for error_type in [
        Storage,
        OutOfMemory,
        Storage,
        OutOfMemory,
        OutOfMemory,
        Storage,
    ] {
        let lease = claim(&pool, "worker", &[id], TTL_SECS).await.unwrap()[0].clone();
        granted.push(lease.tile_batch);
        let error = JobError::new(error_type, "4 tiles do not fit, or the store is away");
        let failed = Failed {
            tile_batch: Some(lease.tile_batch.unwrap_or(4)),
            ..Failed::reported(error)
        };
        let token = lease.token;
        let lease = LeaseRef { job_id: id, token };
        fail(&pool, lease, &failed, &at_once()).await.unwrap();
    }
    let (two, one) = (Some(2), Some(1));
    assert_eq!(granted, [None, None, two, two, one, one]);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn deaths_before_the_work_count_in_the_end(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let mut lost = 0;
    loop {
        let token = claim(&pool, "worker", &[id], TTL_SECS).await.unwrap()[0].token;
        let state = lose(&pool, LeaseRef { job_id: id, token }).await;
        lost += 1;
        if state == JobState::Failed {
            break;
        }
        assert!(
            lost < 100,
            "a job that kills every worker early is never stopped"
        );
    }
    assert_eq!(lost, 20);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn failures_reported_together_are_judged_apart(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..4 {
        let id = submit(&mut conn, |job| job.max_attempts = 2).await;
        leases.push(begin(&pool, id).await);
    }
    let report = |lease, error_type| (lease, Failed::reported(JobError::new(error_type, "so")));
    let stale = LeaseRef {
        token: LeaseToken(leases[3].token.0 - 1),
        ..leases[3]
    };
    let nobody = LeaseRef {
        job_id: JobId::fresh(),
        ..leases[0]
    };
    let reports = [
        report(leases[0], ErrorType::InputUnreadable),
        report(leases[1], ErrorType::Storage),
        report(leases[2], ErrorType::DeviceLost),
        report(stale, ErrorType::Storage),
        report(nobody, ErrorType::Storage),
        // A worker that did not hear the answer reports again.
        report(leases[1], ErrorType::Storage),
        (leases[3], Failed::lost()),
    ];
    let answers = fail_all(&mut conn, &reports, &at_once()).await.unwrap();
    let names: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(state) => state.name(),
            Err(TransitionError::Refused(refusal)) => refusal.from,
            Err(_) => "no such job",
        })
        .collect();
    assert_eq!(
        names,
        [
            "failed",
            "queued",
            "queued",
            "running",
            "no such job",
            "queued",
            "running"
        ]
    );
    let accepted = [true, true, true, false, false, false, false];
    assert_eq!(
        answers.iter().map(Result::is_ok).collect::<Vec<_>>(),
        accepted
    );
    let waiting: i64 = sqlx::query_scalar("select count(*) from outbox")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(waiting, 2);
    let failures: Vec<i32> =
        sqlx::query_scalar("select failures from jobs order by array_position($1, job_id)")
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.job_id.0)
                    .collect::<Vec<_>>(),
            )
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    assert_eq!(failures, [0, 1, 0, 0]);
}
