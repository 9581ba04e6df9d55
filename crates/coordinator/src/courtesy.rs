//! Courtesy: while somebody waits for a job, bulk steps back.
//!
//! Both classes share a processor, a database and an object store. A relay and a queue of its own do not
//! help a single job that finds all of them busy with a hundred thousand others. Bulk loses little by a moment:
//! what it asks for gathers, and is done together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Somebody is thought to wait for so long after the last sign of it.
const MEMORY: Duration = Duration::from_secs(1);
/// Bulk goes on at every multiple of this.
const STEP: Duration = Duration::from_millis(50);

/// Remembers whether somebody waits.
#[derive(Debug)]
pub struct Courtesy {
    began: Instant,
    /// Milliseconds since then at the last sign, and one: zero is never.
    seen: AtomicU64,
}

impl Default for Courtesy {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            seen: AtomicU64::new(0),
        }
    }
}

impl Courtesy {
    /// Somebody waits: an interactive job comes in, or is picked up.
    pub fn somebody_waits(&self) {
        self.seen.store(self.millis() + 1, Ordering::Relaxed);
    }

    /// Whether that was a moment ago.
    #[must_use]
    pub fn is_called_for(&self) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        seen > 0 && u128::from(self.millis() + 1 - seen) < MEMORY.as_millis()
    }

    /// Returns at once when nobody waits, or else when it is bulk's turn again; all that waited go on together.
    pub async fn step_back(&self) {
        if self.is_called_for() {
            let steps = self.began.elapsed().as_millis() / STEP.as_millis() + 1;
            let next = STEP * u32::try_from(steps).unwrap_or(u32::MAX);
            tokio::time::sleep_until(self.began + next).await;
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bulk_steps_back_while_somebody_waits_and_no_longer() {
        let courtesy = Courtesy::default();
        let begun = Instant::now();
        courtesy.step_back().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits");

        tokio::time::advance(Duration::from_millis(10)).await;
        courtesy.somebody_waits();
        tokio::join!(courtesy.step_back(), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            courtesy.step_back().await;
            assert_eq!(begun.elapsed(), STEP, "who came later goes on with the others");
        });
        assert_eq!(begun.elapsed(), STEP);

        tokio::time::advance(MEMORY).await;
        let later = Instant::now();
        courtesy.step_back().await;
        assert_eq!(later.elapsed(), Duration::ZERO, "it was long ago");
    }
}
