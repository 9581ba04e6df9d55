//! The base model: its configurations, and whether a noise predictor can build on it.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::ImportError;
use crate::config::{SchedulerConfig, UnetConfig, VaeConfig, read_json};
use crate::text_encoder::TextConfig;

/// The side of the pictures that SD-Turbo and SD-2.0-base were trained on.
const TRAINED_SIDE_PX: usize = 512;

/// A base model's configurations.
pub(super) struct Base {
    pub vae: VaeConfig,
    pub unet: UnetConfig,
    pub text: TextConfig,
}

impl Base {
    pub(super) fn read(folder: &Path) -> Result<Self, ImportError> {
        for missing in [
            "unet/config.json",
            "vae/config.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
        ] {
            if !folder.join(missing).is_file() {
                let base = folder.to_owned();
                return Err(ImportError::NotABase { base, missing });
            }
        }
        refuse_v_prediction(folder)?;
        SchedulerConfig::read(folder)?;
        let base = Self {
            vae: VaeConfig::read(folder)?,
            unet: UnetConfig::read(folder)?,
            text: TextConfig::read(folder)?,
        };
        refuse_large_pictures(folder, base.vae.factor())?;
        let (text, unet) = (base.text.hidden_size, base.unet.cross_attention_dim);
        if text != unet {
            return Err(ImportError::PromptWidth { text, unet });
        }
        Ok(base)
    }
}

fn refuse_v_prediction(folder: &Path) -> Result<(), ImportError> {
    let scheduler: Value = read_json(&folder.join("scheduler/scheduler_config.json"))?;
    if scheduler["prediction_type"] == "v_prediction" {
        return Err(ImportError::VPrediction);
    }
    Ok(())
}

/// The UNet's `sample_size` is the side of the latents it was trained on; old files lack it.
fn refuse_large_pictures(folder: &Path, factor: usize) -> Result<(), ImportError> {
    #[derive(Deserialize)]
    struct Sample {
        #[serde(default)]
        sample_size: Value,
    }
    let Sample { sample_size } = read_json(&folder.join("unet/config.json"))?;
    let latents = sample_size
        .as_u64()
        .and_then(|side| usize::try_from(side).ok());
    match latents.map(|side| side.saturating_mul(factor)) {
        Some(side_px) if side_px > TRAINED_SIDE_PX => Err(ImportError::Resolution { side_px }),
        _ => Ok(()),
    }
}
