use std::path::Path;

use serde::Deserialize;

use super::{Check, read_json};
use crate::error::LoadError;
use crate::scheduler::MAX_TIMESTEP;

/// `scheduler/scheduler_config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SchedulerConfig {
    pub beta_start: f64,
    pub beta_end: f64,
}

impl SchedulerConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Kind {
            beta_schedule: String,
            #[serde(default = "epsilon")]
            prediction_type: String,
            num_train_timesteps: u32,
            #[serde(default)]
            trained_betas: Option<Vec<f64>>,
            #[serde(default)]
            rescale_betas_zero_snr: bool,
        }
        let path = dir.join("scheduler/scheduler_config.json");
        let kind: Kind = read_json(&path)?;
        let check = Check("scheduler");
        check.that(
            kind.beta_schedule == "scaled_linear",
            "beta_schedule must be scaled_linear",
        )?;
        check.that(
            kind.prediction_type == "epsilon",
            "prediction_type must be epsilon",
        )?;
        check.that(
            kind.num_train_timesteps == MAX_TIMESTEP,
            "num_train_timesteps must be 1000",
        )?;
        check.that(
            kind.trained_betas.is_none() && !kind.rescale_betas_zero_snr,
            "trained_betas and rescale_betas_zero_snr are not supported",
        )?;
        read_json(&path)
    }
}

/// What a scheduler predicts whose configuration is older than the choice.
fn epsilon() -> String {
    "epsilon".to_owned()
}
