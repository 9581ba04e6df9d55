//! Estimates: when it is worth asking for a job again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use upres_common::job::Class;

use crate::store::events::{Glance, Stage};
use crate::store::{StoreError, listing, within_patience};

/// Bounds of what a client is told to wait.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// The line is looked at anew after so long, if somebody asks.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// How long the lines of the two classes take, at the pace of the jobs that ended last.
#[derive(Debug, Clone)]
pub struct Estimate {
    pool: PgPool,
    measured: Arc<Mutex<Option<(Instant, Lines)>>>,
    measuring: Arc<tokio::sync::Mutex<()>>,
}

/// Seconds until all that waits now is done.
#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    interactive: f64,
    bulk: f64,
}

impl Estimate {
    /// Of the jobs in this database.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        Self {
            pool: pool.clone(),
            measured: Arc::default(),
            measuring: Arc::default(),
        }
    }

    /// After how long to ask again for a job of which this was seen `ago`; `None` once it has ended.
    /// One who asks then and finds it unfinished is told anew.
    pub async fn ask_again_after(&self, glance: &Glance, ago: Duration) -> Option<Duration> {
        let seconds = match glance.stage {
            Stage::Ended => return None,
            Stage::Scheduled(due_in) => due_in,
            Stage::Running(left) => left.unwrap_or_default(),
            Stage::Queued(class) => {
                let lines = match self.known() {
                    Some(lines) => lines,
                    None => Box::pin(self.measure()).await,
                };
                return Some(bounded(match class {
                    Class::Interactive => lines.interactive,
                    Class::Bulk => lines.bulk,
                }));
            }
        };
        Some(bounded(seconds - ago.as_secs_f64()))
    }

    fn known(&self) -> Option<Lines> {
        let measured = self.measured.lock();
        let measured = *measured.unwrap_or_else(PoisonError::into_inner);
        measured
            .filter(|(when, _)| when.elapsed() < MEASURE_EVERY)
            .map(|(_, lines)| lines)
    }

    /// One asks the database, the others wait for it. Without an answer there is no estimate.
    async fn measure(&self) -> Lines {
        let _alone = self.measuring.lock().await;
        if let Some(lines) = self.known() {
            return lines;
        }
        let looked: Result<_, StoreError> = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            let pace = listing::pace(&mut conn).await?;
            Ok((listing::line(&mut conn).await?, pace))
        })
        .await;
        let lines = match looked {
            Ok((line, Some(pace))) if pace > 0.0 => Lines {
                interactive: line.interactive / pace,
                // Behind those for whom somebody waits.
                bulk: (line.interactive + line.bulk) / pace,
            },
            _ => Lines::default(),
        };
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        *measured = Some((Instant::now(), lines));
        lines
    }
}

fn bounded(seconds: f64) -> Duration {
    // In this order, because what is no number at all becomes the shortest.
    let (shortest, longest) = (SHORTEST.as_secs_f64(), LONGEST.as_secs_f64());
    Duration::from_secs_f64(seconds.max(shortest).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_hurry_or_to_stay_away() {
        for (seconds, expected) in [(f64::NAN, 1), (-5.0, 1), (0.2, 1), (7.0, 7), (1e300, 30)] {
            assert_eq!(bounded(seconds), Duration::from_secs(expected), "{seconds}");
        }
    }
}
