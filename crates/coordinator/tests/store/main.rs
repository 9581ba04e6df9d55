//! The SQL against a real database, one for each test.

mod batches;
mod claims;
mod endings;
mod events;
mod failures;
mod kept;
mod publication;
mod release;
mod shares;
mod tables;
mod webhooks;

use sqlx::{PgConnection, PgPool};
use upres_common::job::view::Progress;
use upres_common::job::{Class, JobId, JobRequest, JobState};
use upres_common::lease::{Beat, ClaimRequest, Lease, LeaseRef, Verdict};
use upres_coordinator::config::RetryConfig;
use upres_coordinator::fail::{Failed, fail};
use upres_coordinator::lease::{self, heartbeat};
use upres_coordinator::store::outbox::Allowance;
use upres_coordinator::store::submissions::{self, NewJob};
use upres_coordinator::store::{StoreError, outbox};

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
        class: Class::Interactive,
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
    submit_for(conn, "tenant", cost, change).await
}

async fn submit_for(
    conn: &mut PgConnection,
    tenant: &str,
    cost: u32,
    change: impl FnOnce(&mut JobRequest),
) -> JobId {
    let mut request = JobRequest::new("s3://masters/1.tif", "s3://derivatives/1.tif");
    change(&mut request);
    let job = request.validate().expect("the request is valid");
    let id = JobId::fresh();
    let new = NewJob {
        id,
        tenant: tenant.to_owned(),
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
        of_a_tenant: None,
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
