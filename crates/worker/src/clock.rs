//! Clock: what each stage of an attempt took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use invsr::Timings;

/// Milliseconds by stage.
pub(crate) struct Clock {
    last: Instant,
    laps: BTreeMap<String, u64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            laps: BTreeMap::new(),
        }
    }
}

impl Clock {
    pub(crate) fn lap(&mut self, stage: &str) {
        let now = Instant::now();
        self.add(stage, now - self.last);
        self.last = now;
    }

    pub(crate) fn add_stages(&mut self, timings: &Timings) {
        let stages = [
            ("predictor", timings.predictor),
            ("vae_encode", timings.vae_encode),
            ("unet", timings.unet),
            ("vae_decode", timings.vae_decode),
            ("blend", timings.blend),
            ("color_fix", timings.color_fix),
        ];
        for (stage, time) in stages {
            self.add(stage, time);
        }
    }

    pub(crate) fn add(&mut self, stage: &str, time: Duration) {
        self.laps.insert(
            stage.to_owned(),
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        );
    }

    pub(crate) fn into_laps(self) -> BTreeMap<String, u64> {
        self.laps
    }
}
