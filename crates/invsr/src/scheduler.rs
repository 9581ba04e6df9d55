//! The sampler: which timesteps, how much noise at each, and the plain Euler step between them.
//!
//! Timesteps are 1-based as users write them; the networks and the noise table count from 0.

use serde::{Deserialize, Serialize};

use crate::config::SchedulerConfig;

/// The largest timestep a schedule may name.
pub const MAX_TIMESTEP: u32 = 1000;

/// The first timesteps that the released noise predictor was trained at.
pub const TRAINED_FIRST_TIMESTEPS: [u32; 4] = [250, 200, 150, 100];

/// A strictly descending list of timesteps in `1..=1000`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
pub struct Schedule(Vec<u32>);

impl Schedule {
    /// Checks a list of timesteps.
    ///
    /// # Errors
    /// [`ScheduleError`] when the list is empty, leaves `1..=1000`, or does not strictly descend.
    pub fn new(timesteps: &[u32]) -> Result<Self, ScheduleError> {
        if timesteps.is_empty() {
            return Err(ScheduleError::Empty);
        }
        if let Some(&timestep) = timesteps.iter().find(|t| !(1..=MAX_TIMESTEP).contains(*t)) {
            return Err(ScheduleError::OutOfRange { timestep });
        }
        for pair in timesteps.windows(2) {
            if pair[0] <= pair[1] {
                return Err(ScheduleError::NotDescending {
                    before: pair[0],
                    after: pair[1],
                });
            }
        }
        Ok(Self(timesteps.to_vec()))
    }

    /// The paper's schedule of one to five steps; from six on, equal strides down from 250.
    ///
    /// # Errors
    /// [`ScheduleError::Steps`] unless `steps` is in `1..=250`.
    pub fn default_for(steps: u32) -> Result<Self, ScheduleError> {
        Ok(Self(match steps {
            1 => vec![200],
            2 => vec![200, 100],
            3 => vec![200, 100, 50],
            4 => vec![200, 150, 100, 50],
            5 => vec![250, 200, 150, 100, 50],
            6..=250 => (0..steps).map(|i| 250 * (steps - i) / steps).collect(),
            _ => return Err(ScheduleError::Steps(steps)),
        }))
    }

    /// The timesteps, largest first.
    pub fn timesteps(&self) -> &[u32] {
        &self.0
    }

    /// Whether the released noise predictor was trained to start here; elsewhere quality may drop.
    pub fn starts_trained(&self) -> bool {
        TRAINED_FIRST_TIMESTEPS.contains(&self.0[0])
    }
}

impl Default for Schedule {
    /// One step from timestep 200.
    fn default() -> Self {
        Self(vec![200])
    }
}

impl TryFrom<Vec<u32>> for Schedule {
    type Error = ScheduleError;

    fn try_from(timesteps: Vec<u32>) -> Result<Self, Self::Error> {
        Self::new(&timesteps)
    }
}

impl From<Schedule> for Vec<u32> {
    fn from(schedule: Schedule) -> Self {
        schedule.0
    }
}

/// Why a list of timesteps is no schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No timestep at all.
    #[error("a schedule needs at least one timestep")]
    Empty,
    /// A timestep that the noise table does not have.
    #[error("timestep {timestep} is outside 1..={MAX_TIMESTEP}")]
    OutOfRange {
        /// The offender.
        timestep: u32,
    },
    /// Equal or rising neighbours.
    #[error("timesteps must strictly descend, but {after} follows {before}")]
    NotDescending {
        /// The first of the pair.
        before: u32,
        /// Its successor.
        after: u32,
    },
    /// No default schedule has this many steps.
    #[error("there is no default schedule of {0} steps: use 1 to 250")]
    Steps(u32),
}

/// The model's noise table: `sigma_t = sqrt((1 - a_t) / a_t)` with `a_t` the running product of
/// `1 - beta`, and `beta` a squared line from `beta_start` to `beta_end`.
#[derive(Debug, Clone)]
pub(crate) struct NoiseTable(Vec<f64>);

impl NoiseTable {
    pub(crate) fn new(config: &SchedulerConfig) -> Self {
        let (first, last) = (config.beta_start.sqrt(), config.beta_end.sqrt());
        let steps = f64::from(MAX_TIMESTEP - 1);
        let mut kept = 1.0;
        let sigma = |i: u32| {
            let beta = (first + (last - first) * f64::from(i) / steps).powi(2);
            kept *= 1.0 - beta;
            ((1.0 - kept) / kept).sqrt()
        };
        Self((0..MAX_TIMESTEP).map(sigma).collect())
    }

    /// The noise level at each timestep of the schedule, then 0.
    pub(crate) fn sigmas(&self, schedule: &Schedule) -> Vec<f64> {
        let level = |&t: &u32| self.0[t as usize - 1];
        schedule
            .timesteps()
            .iter()
            .map(level)
            .chain([0.0])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn released() -> NoiseTable {
        NoiseTable::new(&SchedulerConfig {
            beta_start: 0.00085,
            beta_end: 0.012,
        })
    }

    #[test]
    fn the_noise_table_has_the_published_levels() {
        let schedule = Schedule::default_for(5).unwrap();
        let expected = [
            0.693_205_4,
            0.569_285_4,
            0.453_819,
            0.341_674_4,
            0.223_003_8,
            0.0,
        ];
        for (sigma, expected) in released().sigmas(&schedule).into_iter().zip(expected) {
            assert!((sigma - expected).abs() < 2e-6, "{sigma} is not {expected}");
        }
    }

    #[test]
    fn six_steps_are_truncated_equal_strides() {
        let schedule = Schedule::default_for(6).unwrap();
        assert_eq!(schedule.timesteps(), [250, 208, 166, 125, 83, 41]);
        assert_eq!(Schedule::default_for(0), Err(ScheduleError::Steps(0)));
        assert_eq!(Schedule::default_for(251), Err(ScheduleError::Steps(251)));
    }

    #[test]
    fn a_list_that_does_not_descend_is_refused() {
        assert_eq!(Schedule::new(&[]), Err(ScheduleError::Empty));
        assert_eq!(
            Schedule::new(&[200, 0]),
            Err(ScheduleError::OutOfRange { timestep: 0 })
        );
        assert_eq!(
            Schedule::new(&[1001]),
            Err(ScheduleError::OutOfRange { timestep: 1001 })
        );
        let repeated = ScheduleError::NotDescending {
            before: 100,
            after: 100,
        };
        assert_eq!(Schedule::new(&[200, 100, 100]), Err(repeated));
    }

    proptest! {
        #[test]
        fn every_default_schedule_is_a_schedule(steps in 1u32..=250) {
            let schedule = Schedule::default_for(steps).unwrap();
            prop_assert_eq!(schedule.timesteps().len(), steps as usize);
            prop_assert_eq!(Schedule::new(schedule.timesteps()), Ok(schedule));
        }

        #[test]
        fn noise_falls_along_any_schedule(set in prop::collection::btree_set(1u32..=1000, 1..20)) {
            let list: Vec<u32> = set.into_iter().rev().collect();
            let sigmas = released().sigmas(&Schedule::new(&list).unwrap());
            prop_assert_eq!(sigmas.len(), list.len() + 1);
            prop_assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1]));
            prop_assert_eq!(sigmas.last(), Some(&0.0));
        }
    }
}
