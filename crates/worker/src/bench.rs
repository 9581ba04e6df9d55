//! `upres-worker bench`: how long a tile takes on this machine, stage by stage. No services.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use invsr::{DeviceSpec, InvSr, ModelInfo, Options, RgbImage, Schedule, Upscale, Upscaled};
use serde::Serialize;

use crate::config::EngineConfig;

/// What `bench` measures.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchConfig {
    /// The engine.
    #[command(flatten)]
    pub engine: EngineConfig,
    /// The schedule, e.g. 200,100,50.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "200",
        value_name = "T,T,..."
    )]
    pub timesteps: Vec<u32>,
    /// Side of a tile, in input pixels.
    #[arg(long, default_value_t = 128, value_name = "PX")]
    pub tile: u32,
    /// Measured rounds; one more goes before them, unmeasured.
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// Measures no time, but how far each stage is from what this device (`cpu`, `cuda:1`) makes of the
    /// same input in f32; ends with status 1 if one is too far.
    #[arg(long, value_name = "DEVICE")]
    pub against: Option<String>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

impl BenchConfig {
    /// Every problem with these settings, a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.engine.problems();
        if let Err(error) = Schedule::new(&self.timesteps) {
            problems.push(format!("--timesteps: {error}"));
        }
        if let Some(Err(error)) = self.against.as_ref().map(|name| name.parse::<DeviceSpec>()) {
            problems.push(format!("--against: {error}"));
        }
        if self.rounds == 0 {
            problems.push("--rounds must be at least 1".to_owned());
        }
        problems
    }
}

/// Stages in their order, and the whole. What `total` has beyond the rest is cutting tiles, drawing
/// noise and the sampler's own steps.
const STAGES: [&str; 7] = [
    "predictor",
    "vae_encode",
    "unet",
    "vae_decode",
    "blend",
    "color_fix",
    "total",
];

#[derive(Debug, Serialize)]
struct Measured {
    model: String,
    trained: bool,
    device: String,
    dtype: String,
    tile_px: u32,
    tile_batch: usize,
    timesteps: Vec<u32>,
    /// Milliseconds a tile, by stage, a number for each round.
    rounds_ms: BTreeMap<&'static str, Vec<f64>>,
    /// The middle of each list above.
    median_ms: BTreeMap<&'static str, f64>,
}

/// Measures a loaded model and prints what it found. The image has as many tiles as the engine
/// takes at once; times are for each of them.
///
/// # Errors
/// When the engine refuses the sizes or fails.
pub fn run(mut model: InvSr, config: &BenchConfig) -> anyhow::Result<()> {
    let options = Options {
        schedule: Schedule::new(&config.timesteps)?,
        tile_px: config.tile,
        overlap_px: Some(config.tile / 2),
        tile_batch: config.engine.tile_batch,
        ..Options::default()
    };
    let image = row_of_tiles(config.tile, config.engine.tile_batch)?;
    model.upscale(&image, &options, &mut ())?;
    let mut rounds_ms = BTreeMap::new();
    for _ in 0..config.rounds {
        let started = Instant::now();
        let upscaled = model.upscale(&image, &options, &mut ())?;
        let total = started.elapsed();
        for (stage, time) in STAGES.into_iter().zip(times(&upscaled, total)) {
            let list: &mut Vec<f64> = rounds_ms.entry(stage).or_default();
            list.push(time.as_secs_f64() * 1e3 / upscaled.tiles as f64);
        }
    }
    let measured = measured(model.info(), config, rounds_ms);
    if config.json {
        println!("{}", serde_json::to_string(&measured)?);
    } else {
        print_table(&measured);
    }
    Ok(())
}

/// Tiles are laid to overlap by half, so each but the first adds half a tile.
fn row_of_tiles(tile_px: u32, tiles: usize) -> anyhow::Result<RgbImage> {
    let further = u32::try_from(tiles - 1)?;
    let width = further
        .checked_mul(tile_px / 2)
        .and_then(|more| more.checked_add(tile_px))
        .ok_or_else(|| anyhow::anyhow!("{tiles} tiles of {tile_px} px are too wide"))?;
    let shade = |i: usize| (i % 251) as f32 / 250.0;
    let values = width as usize * tile_px as usize * 3;
    Ok(RgbImage::new(
        width,
        tile_px,
        (0..values).map(shade).collect(),
    )?)
}

/// In the order of [`STAGES`].
fn times(upscaled: &Upscaled, total: Duration) -> [Duration; 7] {
    let stages = &upscaled.timings;
    [
        stages.predictor,
        stages.vae_encode,
        stages.unet,
        stages.vae_decode,
        stages.blend,
        stages.color_fix,
        total,
    ]
}

fn measured(
    info: &ModelInfo,
    config: &BenchConfig,
    rounds_ms: BTreeMap<&'static str, Vec<f64>>,
) -> Measured {
    Measured {
        model: info.name.clone(),
        trained: info.trained,
        device: config.engine.device.clone(),
        dtype: config.engine.dtype.clone(),
        tile_px: config.tile,
        tile_batch: config.engine.tile_batch,
        timesteps: config.timesteps.clone(),
        median_ms: rounds_ms
            .iter()
            .map(|(stage, times)| (*stage, median(times)))
            .collect(),
        rounds_ms,
    }
}

/// The upper of the two in the middle when there are two; 0 of nothing.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn print_table(measured: &Measured) {
    let steps = measured.timesteps.len();
    println!(
        "{} on {} in {}: {} px tiles, {} at once, {steps} steps; milliseconds a tile",
        measured.model, measured.device, measured.dtype, measured.tile_px, measured.tile_batch
    );
    println!(
        "{:<14}{:>10}{:>10}{:>10}",
        "stage", "median", "least", "most"
    );
    for stage in STAGES {
        let times = &measured.rounds_ms[stage];
        print_row(stage, times);
        if stage == "unet" && steps > 1 {
            let each: Vec<f64> = times.iter().map(|time| time / steps as f64).collect();
            print_row("  each step", &each);
        }
    }
}

fn print_row(name: &str, times: &[f64]) {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let most = times.iter().copied().fold(0.0, f64::max);
    println!("{name:<14}{:>10.1}{least:>10.1}{most:>10.1}", median(times));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_tiles_that_it_was_made_for() {
        assert_eq!(row_of_tiles(128, 1).unwrap().width, 128);
        assert_eq!(row_of_tiles(128, 4).unwrap().width, 320);
        assert!(row_of_tiles(u32::MAX, 5).is_err());
    }

    #[test]
    fn one_slow_round_does_not_move_the_median() {
        assert!((median(&[2.0, 90.0, 1.0]) - 2.0).abs() < f64::EPSILON);
    }
}
