//! A batch as the API shows it: its row, and what its jobs say.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use sqlx::PgConnection;
use upres_common::batch::view::{Eta, Phase, Work};
use upres_common::batch::{BatchId, BatchView};

use super::report::{Form, address};
use crate::store::StoreError;
use crate::store::batches::BatchRow;
use crate::store::batches::statistics::{PACE_MINUTES, Statistics, statistics};

/// Figures are as old as this at most, or as ten times what counting them took: however many clients ask,
/// the database counts the jobs of a large batch for a tenth of its time.
const FRESH: Duration = Duration::from_millis(500);
const COUNTING_SHARE: u32 = 10;
/// A batch that is over changes no more, unless it is reopened, which its row tells. Only retention, in days,
/// takes jobs away.
const SETTLED: Duration = Duration::from_secs(3600);
/// Batches whose figures are remembered.
const REMEMBERED: usize = 1000;
/// So many whole minutes have to be measured before a bad one is told from a good one.
const MINUTES_FOR_P90: usize = 5;

/// Figures that were counted a moment ago.
#[derive(Debug, Default)]
pub struct Figures {
    counted: Mutex<HashMap<BatchId, Counted>>,
}

#[derive(Debug, Clone)]
struct Counted {
    statistics: Statistics,
    /// The batch's version is another after whatever its owner asked for.
    of: (i64, i64),
    until: Instant,
}

impl Figures {
    async fn of(
        &self,
        conn: &mut PgConnection,
        id: BatchId,
        row: &BatchRow,
    ) -> Result<Statistics, StoreError> {
        let of = (
            row.listed,
            row.finished_at.map_or(0, |at| at.timestamp_micros()),
        );
        let known = self.lock().get(&id).cloned();
        if let Some(known) = known.filter(|known| known.of == of && known.until > Instant::now()) {
            return Ok(known.statistics);
        }
        let begun = Instant::now();
        let statistics = statistics(conn, id).await?;
        let keep = match row.finished_at {
            Some(_) => SETTLED,
            None => FRESH.max(begun.elapsed() * COUNTING_SHARE),
        };
        let counted = Counted {
            statistics: statistics.clone(),
            of,
            until: Instant::now() + keep,
        };
        let mut all = self.lock();
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(id, counted);
        Ok(statistics)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BatchId, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The batch as it is shown.
///
/// # Errors
/// [`StoreError`].
pub async fn view(
    conn: &mut PgConnection,
    figures: &Figures,
    row: BatchRow,
) -> Result<BatchView, StoreError> {
    let id = BatchId(row.batch_id);
    let seen = figures.of(conn, id, &row).await?;
    let pace = pace(&seen, row.finished_at.is_some());
    Ok(BatchView {
        id,
        phase: phase(&row, &seen),
        paused: row.paused,
        cancelled: row.cancelled_at.is_some(),
        class: row.class(),
        priority: row.priority,
        labels: row.labels()?,
        report: row
            .report
            .as_ref()
            .filter(|_| row.finished_at.is_some() && row.report_failure.is_none())
            .and_then(|folder| address(folder, Form::JsonLines).ok())
            .map(|uri| uri.to_string()),
        counts: seen.counts,
        work: Work {
            done: seen.done,
            left: seen.left,
            pace: pace.as_ref().map(|pace| pace.mean),
        },
        eta: pace
            .filter(|_| !row.paused && seen.left > 0)
            .and_then(|pace| eta(&seen, &pace)),
        errors: seen.errors,
        source: row.source,
        failure: row.failure,
        report_failure: row.report_failure,
        listed: row.listed,
        skipped: row.skipped,
        refused: row.refused,
        unchanged: row.unchanged,
        parent: row.parent.map(BatchId),
        created_at: row.created_at,
        expanded_at: row.expanded_at,
        finished_at: row.finished_at,
    })
}

fn phase(row: &BatchRow, seen: &Statistics) -> Phase {
    match (row.expanded_at, row.finished_at) {
        // Who asked for another try and looks at once must not find it over.
        (_, Some(_)) if row.is_retried => Phase::Queued,
        (_, Some(_)) => Phase::Finished,
        (None, _) => Phase::Listing,
        _ if seen.counts.open() == 0 => Phase::Finishing,
        _ if seen.started_at.is_some() => Phase::Running,
        _ => Phase::Queued,
    }
}

/// Tile-steps a second.
#[derive(Debug, Clone, PartialEq)]
struct Pace {
    mean: f64,
    /// Of whole minutes, rising.
    by_minute: Vec<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
fn pace(seen: &Statistics, is_finished: bool) -> Option<Pace> {
    if is_finished {
        return None;
    }
    let oldest = *seen.by_minute.keys().max()?;
    let total: i64 = seen.by_minute.values().sum();
    // The minute that goes on is half over, on the average. Of a batch that began not long ago it is known.
    let measured = 60.0 * (f64::from(oldest) + 0.5);
    let since = seen.started_at.map_or(measured, |started_at| {
        (seen.at - started_at).as_seconds_f64().max(1.0)
    });
    let is_young = since < 60.0 * f64::from(PACE_MINUTES);
    let mean = total as f64 / if is_young { since } else { measured };
    // The oldest minute may have begun in its middle, and the present one has not ended. A minute in between
    // in which nothing ended counts: it was waited through.
    let mut by_minute: Vec<_> = (1..oldest)
        .map(|minute| seen.by_minute.get(&minute).copied().unwrap_or(0) as f64 / 60.0)
        .collect();
    by_minute.sort_by(f64::total_cmp);
    (mean > 0.0).then_some(Pace { mean, by_minute })
}

fn eta(seen: &Statistics, pace: &Pace) -> Option<Eta> {
    let at = |rate: f64| {
        #[expect(clippy::cast_precision_loss, reason = "an estimate need not be exact")]
        let seconds = seen.left as f64 / rate;
        #[expect(clippy::cast_possible_truncation, reason = "bounded before")]
        let delta = TimeDelta::try_seconds(seconds.min(1e10) as i64)?;
        seen.at.checked_add_signed(delta).filter(|_| rate > 0.0)
    };
    let minutes = &pace.by_minute;
    if minutes.len() < MINUTES_FOR_P90 {
        return Some(Eta {
            p50: at(pace.mean)?,
            p90: None,
        });
    }
    Some(Eta {
        p50: at(minutes[minutes.len() / 2]).or_else(|| at(pace.mean))?,
        p90: at(minutes[minutes.len() / 10]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_goes_by_measured_minutes() {
        let rates: [i32; 11] = [60, 120, 120, 180, 120, 120, 60, 120, 120, 120, 120];
        let by_minute = (1..)
            .zip(rates.map(i64::from))
            .chain([(0, 1), (12, 1)])
            .collect();
        let seen = Statistics {
            left: 7200,
            by_minute,
            ..Statistics::default()
        };
        let mut by_minute: Vec<_> = rates.iter().map(|cost| f64::from(*cost) / 60.0).collect();
        by_minute.sort_by(f64::total_cmp);
        let pace = Pace {
            mean: 1.9,
            by_minute,
        };
        let eta = eta(&seen, &pace).unwrap();
        assert_eq!(eta.p50.timestamp(), 3600);
        assert_eq!(eta.p90.unwrap().timestamp(), 7200);
    }

    #[test]
    fn the_pace_of_a_young_batch_is_what_it_did_since_it_began() {
        let at = chrono::DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        for (age, by_minute, mean) in [
            (5, vec![(0, 50)], 10.0),
            (100, vec![(0, 300), (1, 200)], 5.0),
            // One that was begun long ago and stood still: half of the present minute has passed.
            (4000, vec![(0, 60)], 2.0),
        ] {
            let seen = Statistics {
                by_minute: by_minute.into_iter().collect(),
                started_at: at.checked_sub_signed(TimeDelta::seconds(age)),
                at,
                ..Statistics::default()
            };
            let pace = pace(&seen, false).unwrap();
            assert!((pace.mean - mean).abs() < 1e-6, "{age} s: {}", pace.mean);
        }
    }
}
