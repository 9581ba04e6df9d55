//! `upres-worker bench --against DEVICE`: does this device compute what another does?

use invsr::{DeviceSpec, Dtype, InvSr, Options, Schedule, StageDistance, compare_stages};
use serde::Serialize;

use crate::bench::BenchConfig;

/// How far any tensor may be from the reference's, in `f32`.
const LIMIT_F32: f64 = 1e-3;
/// And in half precision, whose own steps are 8e-3 (`bf16`) of a value.
const LIMIT_HALF: f64 = 2e-2;

#[derive(Debug, Serialize)]
struct Compared<'a> {
    model: &'a str,
    device: &'a str,
    dtype: &'a str,
    against: &'a str,
    tile_px: u32,
    timesteps: &'a [u32],
    limit: f64,
    /// Relative to the reference, which computes in `f32`; each stage is given the same input.
    tensors: Vec<Tensor>,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    largest: f64,
    rms: f64,
    too_far: bool,
}

/// Compares and prints; whether all is within the limit: the root mean square, and in `f32` the largest
/// difference, too (half precision rounds single values further).
///
/// # Errors
/// When the reference cannot be loaded, or either device fails.
pub(crate) fn run(model: &InvSr, config: &BenchConfig, against: &str) -> anyhow::Result<bool> {
    let device: DeviceSpec = against.parse()?;
    let reference = InvSr::load(&config.engine.model_dir, &device, Dtype::F32)?;
    let options = Options {
        schedule: Schedule::new(&config.timesteps)?,
        tile_px: config.tile,
        ..Options::default()
    };
    let half = config.engine.dtype != Dtype::F32.to_string();
    let limit = if half { LIMIT_HALF } else { LIMIT_F32 };
    let tensors = compare_stages(model, &reference, &options)?;
    let judged = |StageDistance {
                      tensor,
                      largest,
                      rms,
                  }| Tensor {
        name: tensor,
        largest,
        rms,
        too_far: rms >= limit || (!half && largest >= limit),
    };
    let compared = Compared {
        model: &model.info().name,
        device: &config.engine.device,
        dtype: &config.engine.dtype,
        against,
        tile_px: config.tile,
        timesteps: &config.timesteps,
        limit,
        tensors: tensors.into_iter().map(judged).collect(),
    };
    if config.json {
        println!("{}", serde_json::to_string(&compared)?);
    } else {
        print_table(&compared);
    }
    Ok(compared.tensors.iter().all(|tensor| !tensor.too_far))
}

fn print_table(compared: &Compared<'_>) {
    println!(
        "{}: {} in {} against {} in f32, a tile of {} px; the limit is {:e}",
        compared.model,
        compared.device,
        compared.dtype,
        compared.against,
        compared.tile_px,
        compared.limit
    );
    println!("{:<16}{:>10}{:>10}", "tensor", "largest", "rms");
    for Tensor {
        name,
        largest,
        rms,
        too_far,
    } in &compared.tensors
    {
        let word = if *too_far { "  TOO FAR" } else { "" };
        println!("{name:<16}{largest:>10.1e}{rms:>10.1e}{word}");
    }
}
