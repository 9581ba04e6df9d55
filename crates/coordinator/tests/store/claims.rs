//! Claims, renewals, and what an attempt leaves to the next.

use sqlx::{PgConnection, PgPool};
use std::collections::HashSet;
use upres_common::job::state::LeaseToken;
use upres_common::job::{Class, ErrorType, JobError, JobId, JobState};
use upres_common::lease::{Beat, ClaimRequest, HandedOver, LeaseRef, ResumePoint, Verdict};
use upres_common::objects::ObjectUri;
use upres_coordinator::fail::{Failed, fail};
use upres_coordinator::lease::{self, cancel, heartbeat};
use upres_coordinator::store::jobs::{self, TransitionError};
use upres_coordinator::store::{in_seconds, leases, outbox, retention};

use super::{TTL_SECS, at_once, beat, begin, claim, submit};

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn of_many_claims_one_is_granted(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let claims = (0..8).map(|n| {
        let pool = pool.clone();
        async move {
            claim(&pool, &format!("worker-{n}"), &[id], TTL_SECS)
                .await
                .unwrap()
        }
    });
    let granted: usize = futures_util::future::join_all(claims)
        .await
        .iter()
        .map(Vec::len)
        .sum();
    assert_eq!(granted, 1);
    assert_eq!(
        outbox::count_sent(&mut conn, Class::Interactive)
            .await
            .unwrap(),
        0
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn tokens_grow_and_a_stale_one_is_refused(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let error = JobError::new(ErrorType::Storage, "away");
    let mut last = LeaseToken(0);
    for attempt in 1..=4 {
        let lease = claim(&pool, "worker", &[id], TTL_SECS)
            .await
            .unwrap()
            .remove(0);
        assert!(lease.token > last && lease.attempt == attempt);
        let stale = LeaseRef {
            job_id: id,
            token: last,
        };
        let refused = fail(&pool, stale, &Failed::reported(error.clone()), &at_once()).await;
        assert!(matches!(refused, Err(TransitionError::Refused(_))));
        let held = LeaseRef {
            job_id: id,
            token: lease.token,
        };
        let state = fail(&pool, held, &Failed::reported(error.clone()), &at_once())
            .await
            .unwrap();
        assert_eq!(state, JobState::Queued);
        last = lease.token;
    }
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn what_is_not_due_or_cancelled_cannot_be_claimed(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let soon = in_seconds(&mut conn, 3600.0).await.unwrap();
    let later = submit(&mut conn, |job| job.not_before = Some(soon)).await;
    assert_eq!(
        jobs::lock(&mut conn, later).await.unwrap(),
        JobState::Scheduled
    );
    let cancelled = submit(&mut conn, |_| {}).await;
    assert!(cancel(&pool, cancelled).await.unwrap().is_none());
    assert!(
        claim(&pool, "worker", &[later, cancelled], TTL_SECS)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        outbox::due_scheduled(&mut conn, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn what_has_come_due_is_claimed_before_anybody_has_noted_it(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let soon = in_seconds(&mut conn, 3600.0).await.unwrap();
    let id = submit(&mut conn, |job| job.not_before = Some(soon)).await;
    sqlx::query("update outbox set due_at = now() where job_id = $1")
        .bind(id.0)
        .execute(&mut *conn)
        .await
        .unwrap();
    assert_eq!(
        jobs::lock(&mut conn, id).await.unwrap(),
        JobState::Scheduled
    );
    let leases = claim(&pool, "worker", &[id], TTL_SECS).await.unwrap();
    assert_eq!(leases.len(), 1, "its wake-up is not lost");
    let running = jobs::lock(&mut conn, id).await.unwrap();
    assert!(matches!(running, JobState::Running { .. }), "{running:?}");
    let told: Vec<String> =
        sqlx::query_scalar("select state from job_events where job_id = $1 order by version")
            .bind(id.0)
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    assert_eq!(
        told,
        ["queued", "running"],
        "the first word was its acceptance"
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_lapsed_lease_is_found_and_a_live_one_is_not(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let (live, dead) = (
        submit(&mut conn, |_| {}).await,
        submit(&mut conn, |_| {}).await,
    );
    claim(&pool, "worker", &[live, dead], TTL_SECS)
        .await
        .unwrap();
    sqlx::query("update jobs set lease_until = now() - interval '1 s' where job_id = $1")
        .bind(dead.0)
        .execute(&mut *conn)
        .await
        .unwrap();
    let lapsed = leases::lapsed(&mut conn, false, 10).await.unwrap();
    assert_eq!(
        lapsed.iter().map(|job| job.job_id).collect::<Vec<_>>(),
        [dead]
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn workers_that_ask_together_are_answered_apart(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(submit(&mut conn, |_| {}).await);
    }
    let request = |worker: &str, job_ids: &[JobId]| ClaimRequest {
        worker_id: worker.to_owned(),
        job_ids: job_ids.to_vec(),
        class: Class::Interactive,
    };
    let requests = [
        request("a", &ids[..2]),
        request("b", &ids[1..]),
        request("c", &[JobId::fresh()]),
    ];
    let answers = lease::claim(&mut conn, &requests, TTL_SECS).await.unwrap();
    let granted = |index: usize| -> HashSet<JobId> {
        answers[index].iter().map(|lease| lease.job_id).collect()
    };
    assert!(granted(0).contains(&ids[0]) && granted(1).contains(&ids[2]));
    assert!(granted(0).is_disjoint(&granted(1)) && granted(2).is_empty());
    assert_eq!(granted(0).len() + granted(1).len(), 3);
    let tokens: HashSet<i64> = answers.concat().iter().map(|lease| lease.token.0).collect();
    assert_eq!(tokens.len(), 3);

    cancel(&pool, ids[0]).await.unwrap();
    let held = answers.concat();
    let beats: Vec<_> = [(ids[0], 0), (ids[1], 0), (ids[2], 1), (JobId::fresh(), 0)]
        .into_iter()
        .map(|(job_id, off)| {
            let lease = held.iter().find(|lease| lease.job_id == job_id);
            let token = LeaseToken(lease.map_or(0, |lease| lease.token.0) - off);
            Beat {
                lease: LeaseRef { job_id, token },
                progress: None,
                upload_id: None,
                resume: None,
            }
        })
        .collect();
    let verdicts = heartbeat(&mut conn, &beats, TTL_SECS).await.unwrap();
    let expected = [
        Verdict::Cancelled,
        Verdict::Held,
        Verdict::Lost,
        Verdict::Lost,
    ];
    assert_eq!(verdicts, expected);
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_lease_that_was_renewed_since_the_reaper_looked_is_left_alone(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let lease = begin(&pool, id).await;
    let refused = fail(&pool, lease, &Failed::lost(), &at_once()).await;
    assert!(matches!(refused, Err(TransitionError::Refused(_))));
    assert_eq!(beat(&pool, lease).await, Verdict::Held);
}

/// The upload that the job's row names, and whether the janitor would abort one called "kept".
async fn upload(conn: &mut PgConnection, id: JobId) -> (Option<String>, bool) {
    let query = sqlx::query_as("select output, upload_id from jobs where job_id = $1").bind(id.0);
    let row: (String, Option<String>) =
        query.fetch_one(&mut *conn).await.expect("the job is there");
    let output: ObjectUri = row.0.parse().expect("only addresses are stored");
    let orphan = retention::is_orphan(conn, &output, "kept", None).await;
    (row.1, orphan.expect("the database answers"))
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_next_attempt_is_told_where_to_go_on_until_one_fails(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let first = begin(&pool, id).await;
    let point = ResumePoint {
        upload_id: "kept".to_owned(),
        upload_token: first.token,
        parts: Vec::new(),
        next_row: 512,
        state: "{}".to_owned(),
        hand_over: Some(HandedOver {
            address: "s3://own/hand-over/1".to_owned(),
            sha256: String::new(),
        }),
    };
    lease::release(&pool, first, "drains", Some(&point))
        .await
        .unwrap();
    let kept = (Some("kept".to_owned()), false);
    assert_eq!(upload(&mut conn, id).await, kept, "for the next attempt");

    let granted = claim(&pool, "worker", &[id], TTL_SECS).await.unwrap();
    assert_eq!(granted[0].resume, Some(point));
    let second = LeaseRef {
        job_id: id,
        token: granted[0].token,
    };
    let failed = Failed::reported(JobError::new(ErrorType::Storage, "no such upload"));
    fail(&pool, second, &failed, &at_once()).await.unwrap();
    assert_eq!(upload(&mut conn, id).await, (None, true), "of no use");
}
