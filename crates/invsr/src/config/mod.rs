//! The networks' configuration files, in the diffusers layout. Every size comes from here.
//!
//! A file is checked as it is read: what this engine cannot do is refused by name, not guessed.

mod noise_predictor;
mod scheduler;
mod unet;
mod vae;

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::noise_predictor::PredictorConfig;
pub(crate) use self::scheduler::SchedulerConfig;
pub(crate) use self::unet::UnetConfig;
pub(crate) use self::vae::VaeConfig;
use crate::error::LoadError;

/// The fixed scale: output pixels per input pixel, each way.
pub(crate) const SCALE: usize = 4;

/// Larger than any published network has, small enough to be multiplied.
const MAX_CHANNELS: usize = 1 << 16;
/// Of a level.
const MAX_LAYERS: usize = 64;
const MAX_LEVELS: usize = 12;

/// One number for all levels, or one for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrEach {
    One(usize),
    Each(Vec<usize>),
}

impl OneOrEach {
    fn at(&self, level: usize) -> usize {
        match self {
            Self::One(n) => *n,
            Self::Each(each) => each.get(level).copied().unwrap_or(0),
        }
    }
}

/// Refuses, naming the network.
pub(crate) struct Check(pub(crate) &'static str);

impl Check {
    pub(crate) fn that(&self, holds: bool, rule: &str) -> Result<(), LoadError> {
        if holds {
            return Ok(());
        }
        Err(LoadError::Unsupported {
            network: self.0,
            reason: rule.to_owned(),
        })
    }

    /// Reads a configuration in which each of `only`'s keys has that value, if it is there and not null.
    fn read<T: DeserializeOwned>(
        &self,
        path: &Path,
        only: &[(&str, Value)],
    ) -> Result<T, LoadError> {
        let written: Value = read_json(path)?;
        for (key, value) in only {
            let found = &written[*key];
            // Some writers give whole numbers as 1, some as 1.0.
            let same = found == value || (found.is_number() && found.as_f64() == value.as_f64());
            let rule = format!("{key} must be {value}, not {found}: nothing else is supported");
            self.that(found.is_null() || same, &rule)?;
        }
        read_json(path)
    }

    /// Sizes that can be computed with: a level's widths, and the others.
    fn channels(&self, widths: &[usize], others: &[usize]) -> Result<(), LoadError> {
        self.that(
            (1..=MAX_LEVELS).contains(&widths.len()),
            &format!("block_out_channels must name 1 to {MAX_LEVELS} levels"),
        )?;
        let mut all = widths.iter().chain(others);
        self.that(
            all.all(|width| (1..=MAX_CHANNELS).contains(width)),
            &format!("every number of channels must be 1 to {MAX_CHANNELS}"),
        )
    }

    fn layers(&self, each: &[usize]) -> Result<(), LoadError> {
        self.that(
            each.iter().all(|layers| (1..=MAX_LAYERS).contains(layers)),
            &format!("layers_per_block must be 1 to {MAX_LAYERS}"),
        )
    }

    fn activation(&self, name: &str) -> Result<(), LoadError> {
        self.that(name == "silu", "act_fn must be silu")
    }

    fn kinds(&self, found: &[String], levels: usize, known: &[&str]) -> Result<(), LoadError> {
        let all_known = found.iter().all(|kind| known.contains(&kind.as_str()));
        let rule = format!("the block types must be {levels} of {known:?}, not {found:?}");
        self.that(all_known && found.len() == levels, &rule)
    }

    fn groups(&self, widths: &[usize], groups: usize) -> Result<(), LoadError> {
        let divides = groups > 0 && widths.iter().all(|width| width.is_multiple_of(groups));
        self.that(
            divides,
            "norm_num_groups must divide every level's channels",
        )
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let bytes = fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| LoadError::Parse {
        path: path.to_owned(),
        source,
    })
}

fn rgb() -> usize {
    3
}

fn groups() -> usize {
    32
}

fn yes() -> bool {
    true
}

fn silu() -> String {
    "silu".to_owned()
}
