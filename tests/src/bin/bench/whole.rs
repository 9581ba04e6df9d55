//! Whole jobs through real workers whose engine does next to nothing: fetch, decode, encode, upload,
//! publish. The rate is by the database's clock, which is also this machine's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use journey_tests::{FakeWorker, World};
use sqlx::PgConnection;
use tokio::time::sleep;

use crate::leases::{Leases, PAUSE};
use crate::queue::Turn;
use crate::table::percentile;

/// Together with [`JOBS_IN_FLIGHT`] as many jobs at once as on the other sides.
const WORKERS: usize = 4;
pub(crate) const JOBS_IN_FLIGHT: &str = "4";
const LOOK_EVERY: Duration = Duration::from_millis(50);
const WORKER_ENDS_WITHIN: Duration = Duration::from_secs(30);

pub(crate) async fn measure(
    world: &mut World,
    jobs: Leases,
    count: usize,
    singles: usize,
) -> anyhow::Result<Turn> {
    let mut conn = world.database().await?;
    let enqueue_per_s = jobs.enqueue(count).await?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(world.start_fake_worker(FakeWorker::default()).await?);
    }
    let many = format!("{}many-", jobs.outputs());
    until_done(&mut conn, &many, count, LOOK_EVERY).await?;
    let drain_per_s = rate(&mut conn, &many).await?;
    let mut waits = Vec::with_capacity(singles);
    for number in 0..singles {
        sleep(PAUSE).await;
        waits.push(single(&mut conn, &jobs, number).await?);
    }
    for worker in &mut workers {
        worker.terminate(WORKER_ENDS_WITHIN).await?;
    }
    Ok(Turn {
        enqueue_per_s,
        drain_per_s,
        pickup_p50_ms: percentile(&waits, 0.5),
        pickup_p99_ms: percentile(&waits, 0.99),
    })
}

/// One job into an idle queue: milliseconds from before its submission until a worker claims it.
async fn single(conn: &mut PgConnection, jobs: &Leases, number: usize) -> anyhow::Result<f64> {
    let submitted = SystemTime::now().duration_since(UNIX_EPOCH)?;
    jobs.submit("single", number).await?;
    let output = format!("{}single-{number}.png", jobs.outputs());
    until_done(conn, &output, 1, LOOK_EVERY).await?;
    let claimed = sqlx::query_scalar(
        "select extract(epoch from started_at)::float8 from jobs where output = $1",
    );
    let claimed: f64 = claimed.bind(&output).fetch_one(conn).await?;
    Ok((claimed - submitted.as_secs_f64()) * 1e3)
}

/// Waits until all jobs with these outputs have ended, and well.
async fn until_done(
    conn: &mut PgConnection,
    outputs: &str,
    count: usize,
    look_every: Duration,
) -> anyhow::Result<()> {
    let wanted = i64::try_from(count)?;
    loop {
        let (ended, succeeded): (i64, i64) = sqlx::query_as(
            "select count(*) filter (where finished_at is not null),
                count(*) filter (where state = 'succeeded')
            from jobs
            where starts_with(output, $1)",
        )
        .bind(outputs)
        .fetch_one(&mut *conn)
        .await?;
        ensure!(ended == succeeded, "a job did not succeed");
        if succeeded == wanted {
            return Ok(());
        }
        sleep(look_every).await;
    }
}

/// Jobs a second, from the first claim to the last end.
async fn rate(conn: &mut PgConnection, outputs: &str) -> anyhow::Result<f64> {
    let rate = sqlx::query_scalar(
        "select (count(*) / extract(epoch from max(finished_at) - min(started_at)))::float8
        from jobs
        where starts_with(output, $1)",
    );
    Ok(rate.bind(outputs).fetch_one(conn).await?)
}
