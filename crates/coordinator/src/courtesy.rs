//! Courtesy: while somebody waits for a job, bulk steps back.
//!
//! Both share a processor, a database and an object store. A relay and a queue of its own do not help a
//! single job that finds all of them busy with a hundred thousand others. So the relay of bulk sends out
//! no more than a set number of jobs a second then: enough for many devices, too few to fill a
//! coordinator's processor. See [`dispatch`](crate::dispatch) and [`appraise`](crate::appraise).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Somebody is thought to wait for so long after the last sign of it.
const MEMORY: Duration = Duration::from_secs(1);

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
        self.note(self.began.elapsed());
    }

    /// Whether that was a moment ago.
    #[must_use]
    pub fn is_called_for(&self) -> bool {
        self.was_noted(self.began.elapsed())
    }

    fn note(&self, now: Duration) {
        self.seen.store(millis(now) + 1, Ordering::Relaxed);
    }

    fn was_noted(&self, now: Duration) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        seen > 0 && (millis(now) + 1).saturating_sub(seen) < millis(MEMORY)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_called_for_while_somebody_waits_and_no_longer() {
        let courtesy = Courtesy::default();
        let begun = Duration::from_secs(5);
        assert!(!courtesy.was_noted(begun), "nobody ever waited");
        courtesy.note(begun);
        assert!(courtesy.was_noted(begun));
        assert!(courtesy.was_noted(begun + MEMORY / 2));
        courtesy.note(begun + MEMORY / 2);
        assert!(courtesy.was_noted(begun + MEMORY), "the last sign counts");
        assert!(!courtesy.was_noted(begun + MEMORY * 2), "it was long ago");
    }
}
