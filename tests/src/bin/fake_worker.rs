//! The real worker around a fake engine: everything but the network is what production runs.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use invsr::{
    Observer, Options, Plan, Progress, RgbImage, Timings, Upscale, UpscaleError, Upscaled,
};
use upres_common::telemetry::{self, LogArgs};
use upres_worker::config::ServiceConfig;
use upres_worker::engine::Engine;

#[derive(Debug, Parser)]
struct Args {
    /// Tiles of every image.
    #[arg(long, default_value_t = 1)]
    tiles: usize,
    /// Milliseconds a tile takes.
    #[arg(long, default_value_t = 0)]
    tile_ms: u64,
    /// Images that fail with an error of the moment before the first succeeds.
    #[arg(long, default_value_t = 0)]
    fail_first: usize,
    #[command(flatten)]
    services: ServiceConfig,
    #[command(flatten)]
    log: LogArgs,
}

/// Repeats every pixel four times each way.
struct FakeEngine {
    tiles: usize,
    tile: Duration,
    failures_left: usize,
}

impl Upscale for FakeEngine {
    fn plan(&self, _: u32, _: u32, options: &Options) -> Result<Plan, UpscaleError> {
        Ok(Plan {
            tiles: self.tiles,
            tile_steps: self.tiles * options.schedule.timesteps().len(),
        })
    }

    fn upscale(
        &mut self,
        image: &RgbImage,
        options: &Options,
        observer: &mut dyn Observer,
    ) -> Result<Upscaled, UpscaleError> {
        let plan = self.plan(image.width, image.height, options)?;
        for tiles_done in 0..plan.tiles {
            let progress = Progress {
                tiles_done,
                tiles_total: plan.tiles,
            };
            if let ControlFlow::Break(()) = observer.progress(progress) {
                return Err(UpscaleError::Cancelled);
            }
            std::thread::sleep(self.tile);
        }
        if self.failures_left > 0 {
            self.failures_left -= 1;
            return Err(UpscaleError::NonFinite {
                stage: "fake",
                tile: 0,
            });
        }
        Ok(Upscaled {
            image: enlarge(image),
            timings: Timings::default(),
            tiles: plan.tiles,
            tile_steps: plan.tile_steps,
        })
    }
}

fn enlarge(image: &RgbImage) -> RgbImage {
    let row = image.width as usize * 3;
    let mut data = Vec::with_capacity(image.data.len() * 16);
    for line in image.data.chunks_exact(row) {
        let wide: Vec<f32> = line
            .chunks_exact(3)
            .flat_map(|pixel| pixel.repeat(4))
            .collect();
        for _ in 0..4 {
            data.extend_from_slice(&wide);
        }
    }
    RgbImage {
        width: image.width * 4,
        height: image.height * 4,
        data,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    telemetry::init(&args.log).map_err(anyhow::Error::msg)?;
    let fake = FakeEngine {
        tiles: args.tiles,
        tile: Duration::from_millis(args.tile_ms),
        failures_left: args.fail_first,
    };
    let engine = Engine::start(move || Ok(Box::new(fake) as Box<dyn Upscale>)).await?;
    upres_worker::run(args.services, engine, 1).await
}
