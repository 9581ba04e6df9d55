//! The SQL against a real database, one for each test.

use std::collections::HashSet;

use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Executor as _, PgConnection, PgPool,
    SqlSafeStr as _,
};
use upres_common::job::state::LeaseToken;
use upres_common::job::view::Progress;
use upres_common::job::{Class, ErrorType, JobError, JobEvent, JobId, JobRequest, JobState};
use upres_common::lease::{
    Beat, ClaimRequest, HandedOver, Lease, LeaseRef, Outcome, ResumePoint, Verdict,
};
use upres_common::objects::ObjectUri;
use upres_coordinator::accept::accept;
use upres_coordinator::config::RetryConfig;
use upres_coordinator::fail::{Failed, fail, fail_all};
use upres_coordinator::lease::{self, cancel, heartbeat, revive};
use upres_coordinator::publish::steps::{self, Begun};
use upres_coordinator::store::jobs::{self, TransitionError, transition};
use upres_coordinator::store::outbox::Allowance;
use upres_coordinator::store::submissions::{self, NewJob, NewKey};
use upres_coordinator::store::{
    StoreError, idempotency, in_seconds, leases, listing, outbox, retention,
};
use upres_coordinator::submit::{SubmitError, Submitted};

const TTL_SECS: u32 = 60;

async fn claim(
    pool: &PgPool,
    worker_id: &str,
    ids: &[JobId],
    ttl_secs: u32,
) -> Result<Vec<Lease>, StoreError> {
    let request = ClaimRequest {
        worker_id: worker_id.to_owned(),
        job_ids: ids.to_vec(),
    };
    let mut conn = pool.acquire().await?;
    Ok(lease::claim(&mut conn, &[request], ttl_secs)
        .await?
        .concat())
}

async fn submit(conn: &mut PgConnection, change: impl FnOnce(&mut JobRequest)) -> JobId {
    submit_at(conn, 1, change).await
}

async fn submit_at(
    conn: &mut PgConnection,
    cost: u32,
    change: impl FnOnce(&mut JobRequest),
) -> JobId {
    let mut request = JobRequest::new("s3://masters/1.tif", "s3://derivatives/1.tif");
    change(&mut request);
    let job = request.validate().expect("the request is valid");
    let id = JobId::fresh();
    let new = NewJob {
        id,
        tenant: "tenant".to_owned(),
        job,
        cost,
        traceparent: None,
        key: None,
    };
    submissions::insert(conn, &[&new])
        .await
        .expect("the job and its wake-up are stored");
    id
}

async fn take(conn: &mut PgConnection, limit: i64) -> Result<Vec<outbox::TakenRow>, StoreError> {
    let enough = Allowance {
        jobs: 1000,
        tile_steps: 1000,
        jobs_at_least: 1,
    };
    let taken = outbox::take(conn, Class::Interactive, limit, enough).await?;
    Ok(taken.rows)
}

fn at_once() -> RetryConfig {
    RetryConfig {
        base: std::time::Duration::ZERO,
        cap: std::time::Duration::ZERO,
        publish_again_after: std::time::Duration::from_secs(300),
        quarantine_after: 2,
    }
}

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
async fn two_relays_share_the_outbox_the_urgent_first(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut ids = Vec::new();
    for priority in [0, 5, -5, 5] {
        ids.push(submit(&mut conn, |job| job.priority = priority).await);
    }
    submit(&mut conn, |job| job.class = Class::Bulk).await;
    let mut tx_a = pool.begin().await.unwrap();
    let mut tx_b = pool.begin().await.unwrap();
    let first = take(&mut tx_a, 3).await.unwrap();
    // While the first is at it, another gets none of the same.
    assert!(take(&mut tx_b, 3).await.unwrap().is_empty());
    tx_a.commit().await.unwrap();
    let second = take(&mut tx_b, 3).await.unwrap();
    tx_b.commit().await.unwrap();
    let order: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|row| row.envelope.wake_up.job_id)
        .collect();
    assert_eq!(order, [ids[1], ids[3], ids[0], ids[2]]);
    assert!(take(&mut conn, 3).await.unwrap().is_empty());

    let sent: Vec<_> = first.iter().map(|row| row.outbox_id).collect();
    outbox::mark_sent(&mut conn, &sent).await.unwrap();
    outbox::give_back(&mut conn, &[second[0].outbox_id])
        .await
        .unwrap();
    assert_eq!(
        outbox::count_sent(&mut conn, Class::Interactive)
            .await
            .unwrap(),
        3
    );
    assert_eq!(take(&mut conn, 3).await.unwrap().len(), 1);
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(
        outbox::resend(&mut conn, Class::Interactive, hour, 9)
            .await
            .unwrap(),
        0
    );
    let now = std::time::Duration::ZERO;
    assert_eq!(
        outbox::resend(&mut conn, Class::Interactive, now, 2)
            .await
            .unwrap(),
        2
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
async fn the_table_itself_refuses_what_cannot_be(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    for impossible in [
        "update jobs set state = 'running'",
        "update jobs set state = 'succeeded', finished_at = now()",
        "update jobs set state = 'failed', finished_at = now()",
        "update jobs set state = 'cancelled'",
        "update jobs set lease_token = 1",
        "update jobs set publishing = true",
        "update jobs set output = input",
    ] {
        assert!(
            sqlx::query(impossible).execute(&mut *conn).await.is_err(),
            "{impossible}"
        );
    }
    let refused = transition(
        &mut conn,
        id,
        &JobEvent::Completed {
            token: LeaseToken(1),
        },
    )
    .await;
    assert!(matches!(refused, Err(TransitionError::Refused(_))));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_first_key_is_made_once(pool: PgPool) {
    let mut first = pool.begin().await.unwrap();
    assert!(
        upres_coordinator::auth::create_first(&mut first)
            .await
            .unwrap()
            .is_some()
    );
    first.commit().await.unwrap();
    let mut second = pool.begin().await.unwrap();
    assert!(
        upres_coordinator::auth::create_first(&mut second)
            .await
            .unwrap()
            .is_none()
    );
}

/// The build trusts `.sqlx/`; a migration that changes a column must change it too.
#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_offline_query_data_describe_the_migrated_database(pool: PgPool) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.sqlx");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let query = AssertSqlSafe(file["query"].as_str().unwrap()).into_sql_str();
        let live = pool.describe(query).await.unwrap();
        let live: Vec<_> = live
            .columns()
            .iter()
            .map(|column| (column.name(), format!("{:?}", column.type_info())))
            .collect();
        let stored: Vec<_> = file["describe"]["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| {
                let kind = column["type_info"].as_str().unwrap();
                (
                    column["name"].as_str().unwrap(),
                    format!("PgTypeInfo({kind})"),
                )
            })
            .collect();
        assert_eq!(stored, live, "{}: run cargo sqlx prepare", path.display());
        checked += 1;
    }
    assert!(checked > 0, "{folder} is empty");
}

/// Lets the lease lapse, and the reaper take the job away.
async fn lose(pool: &PgPool, lease: LeaseRef) -> JobState {
    sqlx::query("update jobs set lease_until = now() - interval '1 second' where job_id = $1")
        .bind(lease.job_id.0)
        .execute(pool)
        .await
        .expect("the database answers");
    let lost = fail(pool, lease, &Failed::lost(), &at_once()).await;
    lost.expect("the lease has lapsed")
}

/// Claims the job for a worker that then begins to work on it.
async fn begin(pool: &PgPool, id: JobId) -> LeaseRef {
    let granted = claim(pool, "worker", &[id], TTL_SECS).await;
    let token = granted.expect("the job waits")[0].token;
    let lease = LeaseRef { job_id: id, token };
    assert_eq!(beat(pool, lease).await, Verdict::Held);
    lease
}

async fn beat(pool: &PgPool, lease: LeaseRef) -> Verdict {
    let progress = Some(Progress {
        tiles: 1,
        tiles_total: 4,
        tile_steps_total: 4,
    });
    let beat = Beat {
        lease,
        progress,
        upload_id: None,
        resume: None,
    };
    let mut conn = pool.acquire().await.expect("a connection");
    let verdicts = heartbeat(&mut conn, &[beat], TTL_SECS).await;
    verdicts.expect("the database answers")[0]
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
async fn out_of_memory_halves_the_tile_batch(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let mut granted = Vec::new();
    for _ in 0..4 {
        let lease = claim(&pool, "worker", &[id], TTL_SECS).await.unwrap()[0].clone();
        granted.push(lease.tile_batch);
        let error = JobError::new(ErrorType::OutOfMemory, "4 tiles do not fit");
        let failed = Failed {
            tile_batch: Some(lease.tile_batch.unwrap_or(4)),
            ..Failed::reported(error)
        };
        let token = lease.token;
        let lease = LeaseRef { job_id: id, token };
        fail(&pool, lease, &failed, &at_once()).await.unwrap();
    }
    assert_eq!(granted, [None, Some(2), Some(1), Some(1)]);
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
async fn a_lease_that_was_renewed_since_the_reaper_looked_is_left_alone(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let id = submit(&mut conn, |_| {}).await;
    let lease = begin(&pool, id).await;
    let refused = fail(&pool, lease, &Failed::lost(), &at_once()).await;
    assert!(matches!(refused, Err(TransitionError::Refused(_))));
    assert_eq!(beat(&pool, lease).await, Verdict::Held);
}

fn outcome() -> Outcome {
    let outcome = serde_json::json!({
        "upload_id": "u", "upload_token": 1, "parts": [], "sha256": "", "bytes": 0, "width": 4, "height": 4,
        "progress": {"tiles": 1, "tiles_total": 1, "tile_steps_total": 1},
        "timings": {}, "warnings": [],
    });
    serde_json::from_value(outcome).expect("an outcome")
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn of_two_jobs_with_one_output_one_publishes(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let again_after = std::time::Duration::from_secs(300);
    let mut requests = Vec::new();
    for _ in 0..2 {
        let id = submit(&mut conn, |_| {}).await;
        requests.push((begin(&pool, id).await, outcome()));
    }
    let together = steps::begin(&mut conn, &requests, again_after).await;
    assert!(together.is_err_and(|error| error.is_refusal() && error.is_unique_violation()));
    let mut begun = Vec::new();
    for request in requests {
        let alone = steps::begin(&mut conn, &[request], again_after).await;
        begun.extend(alone.unwrap());
    }
    assert!(matches!(begun[0], Begun::Yes(_)));
    assert!(matches!(begun[1], Begun::OutputBusy));
    let asked = ["s3://derivatives/1.tif", "s3://derivatives/2.tif"].map(str::to_owned);
    let found = submissions::being_published(&mut conn, &asked).await;
    assert_eq!(found.unwrap(), HashSet::from([asked[0].clone()]));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn results_are_published_together_each_under_its_own_token(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let again_after = std::time::Duration::from_secs(300);
    let mut leases = Vec::new();
    for number in 0..4 {
        let output = format!("s3://derivatives/{number}.tif");
        let id = submit(&mut conn, |job| job.output = output).await;
        leases.push(begin(&pool, id).await);
    }
    // The first is held, and asked for twice; the second was superseded; of the third the output is a
    // master by now; the fourth was cancelled.
    let stale = LeaseRef {
        token: LeaseToken(leases[1].token.0 - 1),
        ..leases[1]
    };
    submit(&mut conn, |job| {
        job.input = "s3://derivatives/2.tif".to_owned()
    })
    .await;
    cancel(&pool, leases[3].job_id).await.unwrap();
    let requests = [leases[0], stale, leases[2], leases[0], leases[3]].map(|l| (l, outcome()));
    let begun = steps::begin(&mut conn, &requests, again_after).await;
    let publications: Vec<_> = begun
        .unwrap()
        .into_iter()
        .map(|begun| match begun {
            Begun::Yes(publication) => Some(*publication),
            _ => None,
        })
        .collect();
    let master = |index: usize| publications[index].as_ref().map(|p| p.output_is_input);
    let expected = [Some(false), None, Some(true), Some(false), None];
    assert_eq!([0, 1, 2, 3, 4].map(master), expected);

    let mut other = publications[2].clone().unwrap();
    other.token = LeaseToken(0);
    let results = [0, 3].map(|index| publications[index].clone().unwrap());
    let results = [results.to_vec(), vec![other]].concat();
    let states = steps::record(&mut conn, &results).await.unwrap();
    assert_eq!(states, ["succeeded", "succeeded", "running"]);
    let again = steps::record(&mut conn, &results[..1]).await.unwrap();
    assert_eq!(again, ["succeeded"]);
    let ids = leases
        .iter()
        .map(|lease| lease.job_id.0)
        .collect::<Vec<_>>();
    let outcomes: Vec<String> = sqlx::query_scalar(
        "select outcome from attempts where job_id = any($1) order by lease_token",
    )
    .bind(&ids)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert_eq!(outcomes, ["succeeded", "running", "running", "cancelled"]);
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

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn submissions_that_arrive_together_are_judged_apart(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    submit(&mut conn, |_| {}).await;
    let new = |output: &str, key: Option<(&str, u8)>| {
        let request = JobRequest::new("s3://masters/2.tif", output);
        NewJob {
            id: JobId::fresh(),
            tenant: "tenant".to_owned(),
            job: request.validate().unwrap(),
            cost: 3,
            traceparent: None,
            key: key.map(|(key, digest)| NewKey {
                key: key.to_owned(),
                request_sha256: vec![digest],
            }),
        }
    };
    let jobs = [
        new("s3://derivatives/a.tif", Some(("k", 1))),
        new("s3://derivatives/b.tif", Some(("k", 1))),
        new("s3://masters/1.tif", None),
        new("s3://derivatives/c.tif", None),
    ];
    let answers = accept(&mut conn, &jobs).await.unwrap();
    let first = jobs[0].id;
    assert!(matches!(&answers[0], Ok(Submitted::Fresh(job)) if job.id == first));
    assert!(matches!(&answers[1], Err(SubmitError::KeyBusy)));
    assert!(matches!(&answers[2], Err(SubmitError::Conflict(_))));
    assert!(matches!(&answers[3], Ok(Submitted::Fresh(job)) if job.cost == Some(3)));

    // Another session has the key: the answer of its request is not known yet.
    let mut tx = pool.begin().await.unwrap();
    let held = (["tenant".to_owned()], ["held".to_owned()]);
    let busy = idempotency::lock(&mut tx, &held.0, &held.1).await.unwrap();
    assert!(busy.is_empty());
    let again = [
        new("s3://derivatives/a.tif", Some(("k", 1))),
        new("s3://derivatives/a.tif", Some(("held", 1))),
    ];
    let answers = accept(&mut conn, &again).await.unwrap();
    assert!(matches!(&answers[0], Ok(Submitted::Earlier(id)) if *id == first));
    assert!(matches!(&answers[1], Err(SubmitError::KeyBusy)));
    let other = [new("s3://derivatives/d.tif", Some(("k", 2)))];
    let answers = accept(&mut conn, &other).await.unwrap();
    assert!(matches!(&answers[0], Err(SubmitError::KeyReused)));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn what_is_released_is_bounded_in_tile_steps(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut ids = Vec::new();
    for cost in [50, 30, 30, 500, 1] {
        ids.push(submit_at(&mut conn, cost, |_| {}).await);
    }
    let allowance = |tile_steps, jobs_at_least| Allowance {
        jobs: 4,
        tile_steps,
        jobs_at_least,
    };
    let mut release = async |allowance| {
        let taken = outbox::take(&mut conn, Class::Interactive, 100, allowance);
        let taken = taken.await.unwrap();
        let sent: Vec<i64> = taken.rows.iter().map(|row| row.outbox_id).collect();
        outbox::mark_sent(&mut conn, &sent).await.unwrap();
        let costs = taken.rows.iter().map(|row| row.envelope.wake_up.cost);
        (costs.collect::<Vec<_>>(), taken.held_back)
    };
    // In their order: a small job does not overtake one that has to wait for room.
    assert_eq!(release(allowance(100, 1)).await, (vec![50, 30], true));
    assert_eq!(release(allowance(100, 1)).await, (vec![], true));
    assert_eq!(release(allowance(0, 3)).await, (vec![30], true));
    // Two are claimed: that makes room, but not for one that is larger than all the room.
    claim(&pool, "worker", &ids[..2], TTL_SECS).await.unwrap();
    assert_eq!(release(allowance(100, 1)).await, (vec![], true));
    // With nothing else out it goes all the same.
    claim(&pool, "worker", &ids[2..3], TTL_SECS).await.unwrap();
    assert_eq!(release(allowance(100, 1)).await, (vec![500], true));
    // Jobs are counted, too.
    assert_eq!(release(allowance(1000, 1)).await, (vec![1], false));
    let mut other = pool.acquire().await.unwrap();
    for _ in 0..3 {
        submit_at(&mut other, 1, |_| {}).await;
    }
    assert_eq!(release(allowance(1000, 1)).await, (vec![1, 1], true));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_pace_is_that_of_the_jobs_that_ended(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(listing::pace(&mut conn).await.unwrap(), None);
    for _ in 0..2 {
        let id = submit_at(&mut conn, 300, |_| {}).await;
        let lease = begin(&pool, id).await;
        let error = JobError::new(ErrorType::InputUnreadable, "no image");
        fail(&pool, lease, &Failed::reported(error), &at_once())
            .await
            .unwrap();
    }
    sqlx::query("update jobs set cost = 300, finished_at = now() - interval '60 s'")
        .execute(&mut *conn)
        .await
        .unwrap();
    let pace = listing::pace(&mut conn).await.unwrap().unwrap();
    assert!(pace > 0.0 && pace <= 10.0, "{pace} tile-steps/s");
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn a_client_that_falls_silent_in_a_transaction_loses_its_locks(pool: PgPool) {
    let url = pool.connect_options().to_url_lossy().to_string();
    let ours = upres_coordinator::store::pool(&url.into(), 1).unwrap();
    let mut silent = ours.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(7)";
    sqlx::query(lock).execute(&mut *silent).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let locked = sqlx::query(lock).execute(&mut *conn);
    let deadline = std::time::Duration::from_secs(60);
    let locked = tokio::time::timeout(deadline, locked).await;
    locked.expect("the lock is let go").unwrap();
    assert!(sqlx::query("select 1").execute(&mut *silent).await.is_err());
}

/// The upload that the job's row names, and whether the janitor would abort one called "kept".
async fn upload(conn: &mut PgConnection, id: JobId) -> (Option<String>, bool) {
    let query = sqlx::query_as("select output, upload_id from jobs where job_id = $1").bind(id.0);
    let row: (String, Option<String>) =
        query.fetch_one(&mut *conn).await.expect("the job is there");
    let output: ObjectUri = row.0.parse().expect("only addresses are stored");
    let orphan = retention::is_orphan(conn, &output, "kept").await;
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
