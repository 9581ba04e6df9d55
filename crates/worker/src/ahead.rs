//! Ahead: whether the next job may be claimed while the engine still has others. One that is claimed early is
//! fetched and decoded by the time the engine is free; one that is claimed too early waits here behind a large
//! picture while other workers are idle.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::Engine;
use crate::lease::Held;

/// The engine has to be free within this time, in seconds.
const SOON_SECS: f64 = 2.0;
/// How often the jobs' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The jobs that this worker holds.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    held: Mutex<Vec<Arc<Held>>>,
    left: Notify,
}

/// A job that counts, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    ahead: Arc<Ahead>,
    held: Arc<Held>,
}

impl Ahead {
    /// Counts a job in.
    pub(crate) fn enter(self: &Arc<Self>, held: Arc<Held>) -> Counted {
        self.held().push(Arc::clone(&held));
        Counted {
            ahead: Arc::clone(self),
            held,
        }
    }

    /// Returns when the engine will be free soon.
    pub(crate) async fn is_short(&self, engine: &Engine) {
        while !self.is_short_now(engine.seconds_a_tile_step()) {
            let _ = tokio::time::timeout(LOOK_EVERY, self.left.notified()).await;
        }
    }

    /// A job of which nobody knows how much it is, or an engine whose pace is not known, is waited for.
    fn is_short_now(&self, seconds_a_tile_step: Option<f64>) -> bool {
        let held = self.held();
        let tile_steps: Option<f64> = held.iter().map(|held| held.tile_steps_left()).sum();
        let seconds = tile_steps.zip(seconds_a_tile_step).map(|(n, s)| n * s);
        held.is_empty() || seconds.is_some_and(|seconds| seconds <= SOON_SECS)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut held = self.ahead.held();
        held.retain(|other| !Arc::ptr_eq(other, &self.held));
        self.ahead.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use upres_common::job::view::Progress;

    use super::*;

    fn job(tile_steps: Option<u64>) -> Arc<Held> {
        Arc::new(crate::lease::tests::held(tile_steps))
    }

    #[test]
    fn the_next_is_claimed_when_little_is_left_of_those_before() {
        let ahead = Arc::new(Ahead::default());
        let pace = Some(0.5);
        assert!(ahead.is_short_now(None), "nothing is held");
        let large = job(Some(100));
        let counted = ahead.enter(Arc::clone(&large));
        assert!(!ahead.is_short_now(pace));
        let progress = |tiles| Progress {
            tiles,
            tiles_total: 50,
            tile_steps_total: 100,
        };
        large.progress.send_replace(Some(progress(40)));
        assert!(!ahead.is_short_now(pace), "20 tile-steps, 10 seconds");
        large.progress.send_replace(Some(progress(49)));
        assert!(ahead.is_short_now(pace));
        assert!(!ahead.is_short_now(None), "who knows how long that takes");
        let _small = ahead.enter(job(Some(3)));
        assert!(!ahead.is_short_now(pace), "5 tile-steps of two jobs");
        drop(counted);
        assert!(ahead.is_short_now(pace));
        let _unknown = ahead.enter(job(None));
        assert!(!ahead.is_short_now(pace));
    }
}
