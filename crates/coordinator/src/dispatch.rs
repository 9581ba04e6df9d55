//! Dispatch: the relay turns outbox rows into wake-ups on the broker.
//!
//! Invariants: a row is marked sent only on the broker's confirm; no transaction is open while
//! talking to the broker; what waits on the broker is bounded, for each class, in tile-steps (some
//! seconds of work at the present pace) and in number, so that cancelling and reordering act in SQL on
//! all the rest. A job whose lease is claimed no longer counts: as long as workers take jobs, there is
//! room for more. Any number of relays run side by side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use upres_common::broker::{BrokerError, Publisher};
use upres_common::job::{Class, JobEvent};

use crate::config::DispatchConfig;
use crate::courtesy::Courtesy;
use crate::store::jobs::{TransitionError, transition};
use crate::store::kept::Kept;
use crate::store::outbox::Allowance;
use crate::store::{StoreError, listing, outbox, within_patience};

/// Rows in one publish: one round trip to the broker serves them all.
const BATCH: i64 = 500;
/// While somebody waits for an interactive job, bulk goes a few at a time, so often at most.
const STEPS_A_SECOND: u32 = 50;
/// Waits between tries to reach the broker, doubling.
const RECONNECT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(200)..=Duration::from_secs(5);

/// When there was no room for all, answers gather for so long before the next look: a look costs the
/// database the same for one answer as for fifty, and what waits on the broker lasts for much longer.
const GATHER: Duration = Duration::from_millis(25);
/// Messages that nobody could handle, taken away at once.
const BURIED: usize = 500;
/// The pace is measured anew after this long.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Wakes the relays.
#[derive(Debug, Default)]
pub struct Bell {
    /// A job waits.
    pub work: Rung,
    /// A wake-up was answered, or a job ended: there is room for another.
    pub room: Rung,
    /// Somebody waits: bulk steps back.
    pub courtesy: Courtesy,
}

/// Heard by the relay of each class, now or when it next listens.
#[derive(Debug, Default)]
pub struct Rung([Notify; Class::ALL.len()]);

impl Rung {
    /// Rings.
    pub fn ring(&self) {
        self.0.iter().for_each(Notify::notify_one);
    }

    async fn heard(&self, class: Class) {
        let relay = Class::ALL.iter().position(|other| *other == class);
        self.0[relay.unwrap_or_default()].notified().await;
    }
}

/// Why a tick was not finished. Whatever it left is taken up by the next.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker; connect anew.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl From<sqlx::Error> for DispatchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The relay of one class, so that work for which somebody waits stands behind no bulk. Runs until `stop`:
/// ticks when the bell rings and at every interval, reconnecting to the broker as often as it takes.
pub async fn run(
    class: Class,
    pool: PgPool,
    amqp_url: SecretString,
    config: DispatchConfig,
    bell: Arc<Bell>,
    stop: CancellationToken,
) {
    let mut pause = *RECONNECT.start();
    while !stop.is_cancelled() {
        match Publisher::connect(amqp_url.expose_secret()).await {
            Ok(publisher) => {
                tracing::info!("relay connected to the broker");
                pause = *RECONNECT.start();
                let ended = relay(class, &pool, &publisher, &config, &bell, &stop).await;
                if let Err(error) = ended {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "relay lost the broker"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "relay cannot reach the broker"
                );
            }
        }
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
        pause = (pause * 2).min(*RECONNECT.end());
    }
}

/// Ticks until `stop`, or until the broker fails.
async fn relay(
    class: Class,
    pool: &PgPool,
    publisher: &Publisher,
    config: &DispatchConfig,
    bell: &Bell,
    stop: &CancellationToken,
) -> Result<(), BrokerError> {
    let mut swept = Instant::now();
    let mut queued = None::<Instant>;
    let mut allowance = Rate::default();
    let kept = Kept::new(pool);
    while !stop.is_cancelled() {
        if swept.elapsed() >= config.resend_after / 2 {
            swept = Instant::now();
            broker_errors_only(within_patience(sweep(class, pool, publisher, config)).await)?;
            if class == Class::Interactive {
                bury(publisher).await;
            }
        }
        // One of the relays is enough for this, and it is the one with less to do.
        let is_first = class == Class::Interactive;
        if is_first && queued.is_none_or(|queued| queued.elapsed() >= config.interval) {
            queued = Some(Instant::now());
            broker_errors_only(within_patience(queue_due(pool)).await)?;
        }
        let steps_back = class == Class::Bulk && bell.courtesy.is_called_for();
        let batch = match steps_back {
            true => i64::from(config.release_beside.div_ceil(STEPS_A_SECOND)).min(BATCH),
            false => BATCH,
        };
        let tick = async {
            let mut conn = kept.take().await?;
            let allowance = allowance.now(&mut conn, config).await?;
            let ticked = tick(class, &mut conn, publisher, allowance, batch).await?;
            kept.keep(conn);
            Ok(ticked)
        };
        let ticked = broker_errors_only(within_patience(tick).await)?;
        let ticked = ticked.unwrap_or_default();
        if steps_back {
            let step = Duration::from_secs_f64(batch as f64 / f64::from(config.release_beside));
            drop(tokio::time::timeout(step, stop.cancelled()).await);
        }
        match ticked {
            Ticked::More => continue,
            Ticked::Full => drop(tokio::time::timeout(GATHER, stop.cancelled()).await),
            Ticked::Done => {}
        }
        tokio::select! {
            () = bell.work.heard(class) => {}
            () = bell.room.heard(class), if ticked == Ticked::Full => {}
            () = tokio::time::sleep(config.interval) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// What may wait on the broker, by the pace at which jobs end.
#[derive(Debug, Default)]
struct Rate {
    measured: Option<(Instant, Allowance)>,
}

impl Rate {
    async fn now(
        &mut self,
        conn: &mut PgConnection,
        config: &DispatchConfig,
    ) -> Result<Allowance, DispatchError> {
        if let Some((measured, allowance)) = self.measured
            && measured.elapsed() < MEASURE_EVERY
        {
            return Ok(allowance);
        }
        let pace = listing::pace(conn).await?.unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, reason = "a bound need not be exact")]
        let tile_steps = (pace * config.release.as_secs_f64()) as i64;
        let allowance = Allowance {
            jobs: config.release_limit,
            tile_steps,
            jobs_at_least: config.release_at_least,
            of_a_tenant: config.of_a_tenant,
        };
        self.measured = Some((Instant::now(), allowance));
        Ok(allowance)
    }
}

/// A database that is away ends only this tick; a broker that is away ends the connection.
fn broker_errors_only<T>(result: Result<T, DispatchError>) -> Result<Option<T>, BrokerError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(DispatchError::Broker(error)) => Err(error),
        Err(DispatchError::Store(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "dispatch waits for the database"
            );
            Ok(None)
        }
    }
}

/// How a tick left the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ticked {
    /// Nothing is left that may go.
    #[default]
    Done,
    /// Something may be left that has to wait for room.
    Full,
    /// There may be more to do at once.
    More,
}

/// Publishes up to `batch` wake-ups, as far as the allowance goes.
///
/// # Errors
/// [`DispatchError`].
pub async fn tick(
    class: Class,
    conn: &mut PgConnection,
    publisher: &Publisher,
    allowance: Allowance,
    batch: i64,
) -> Result<Ticked, DispatchError> {
    let taken = outbox::take(conn, class, batch, allowance).await?;
    if !taken.rows.is_empty() {
        publish(conn, publisher, &taken.rows).await?;
    }
    Ok(match (taken.more, taken.held_back) {
        (true, _) => Ticked::More,
        (false, true) => Ticked::Full,
        (false, false) => Ticked::Done,
    })
}

async fn publish(
    conn: &mut PgConnection,
    publisher: &Publisher,
    taken: &[outbox::TakenRow],
) -> Result<(), DispatchError> {
    let envelopes: Vec<_> = taken.iter().map(|row| row.envelope.clone()).collect();
    let ids = |wanted: bool, confirmed: &[bool]| -> Vec<i64> {
        let rows = taken
            .iter()
            .zip(confirmed)
            .filter(|(_, confirmed)| **confirmed == wanted);
        rows.map(|(row, _)| row.outbox_id).collect()
    };
    match publisher.publish(&envelopes).await {
        Ok(confirmed) => {
            outbox::mark_sent(conn, &ids(true, &confirmed)).await?;
            let unsent = ids(false, &confirmed);
            if !unsent.is_empty() {
                outbox::give_back(conn, &unsent).await?;
            }
            metrics::counter!("upres_wakeups_sent_total").increment(confirmed.len() as u64);
            Ok(())
        }
        Err(error) => {
            // Some may have arrived: they are sent twice then, which is harmless.
            outbox::give_back(conn, &ids(false, &vec![false; taken.len()])).await?;
            Err(error.into())
        }
    }
}

async fn queue_due(pool: &PgPool) -> Result<(), DispatchError> {
    let mut tx = pool.begin().await?;
    for id in outbox::due_scheduled(&mut tx, BATCH).await? {
        match transition(&mut tx, id, &JobEvent::Released).await {
            Ok(_) | Err(TransitionError::Refused(_) | TransitionError::NoSuchJob(_)) => {}
            Err(TransitionError::Store(error)) => return Err(error.into()),
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Empties the queue of the dead, so that it does not grow for ever, with a line in the log for each: their
/// jobs get a new wake-up from [`sweep`]. Nothing else waits for it.
async fn bury(publisher: &Publisher) {
    match publisher.bury(BURIED).await {
        Ok(dead) => {
            for dead in dead {
                tracing::warn!(
                    reason = dead.reason,
                    message = dead.text,
                    "the broker gave up a message that no worker could handle"
                );
                metrics::counter!("upres_wakeups_dead_total", "reason" => dead.reason).increment(1);
            }
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the queue of the dead cannot be read"
        ),
    }
}

/// Finds wake-ups that were confirmed and yet are gone (a queue was deleted, a broker lost its disk)
/// and has them sent again: when the broker holds fewer than are unanswered, the oldest of them are
/// the missing ones, or are in a busy worker's hands; a duplicate is harmless and is counted by the
/// broker from then on, so duplicates do not pile up.
///
/// # Errors
/// [`DispatchError`].
pub async fn sweep(
    class: Class,
    pool: &PgPool,
    publisher: &Publisher,
    config: &DispatchConfig,
) -> Result<(), DispatchError> {
    let mut conn = pool.acquire().await?;
    let unanswered = outbox::count_sent(&mut conn, class).await?;
    if unanswered == 0 {
        return Ok(());
    }
    let missing = unanswered - i64::from(publisher.depth(class).await?);
    if missing > 0 {
        let resent = outbox::resend(&mut conn, class, config.resend_after, missing).await?;
        if resent > 0 {
            tracing::warn!(
                class = class.as_str(),
                resent,
                "wake-ups seem lost, sending them again"
            );
            metrics::counter!("upres_wakeups_resent_total").increment(resent);
        }
    }
    Ok(())
}
