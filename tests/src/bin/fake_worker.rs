//! The real worker around a fake engine: everything but the network is what production runs.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use invsr::{
    Observer, Options, Plan, Progress, RowSink, RowSource, Spent, Stop, Timings, Upscale,
    UpscaleError,
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

    fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        first_row: u32,
        options: &Options,
        sink: &mut dyn RowSink,
        observer: &mut dyn Observer,
    ) -> Result<Spent, UpscaleError> {
        let plan = self.plan(source.width(), source.height(), options)?;
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
        enlarge(source, first_row, sink).map_err(|stop| match stop {
            Stop::Cancelled => UpscaleError::Cancelled,
            Stop::Failed(cause) => UpscaleError::Sink(cause),
        })?;
        Ok(Spent {
            timings: Timings::default(),
            tiles: plan.tiles,
            tile_steps: plan.tile_steps,
        })
    }
}

fn enlarge(source: &mut dyn RowSource, first_row: u32, sink: &mut dyn RowSink) -> Result<(), Stop> {
    let mut row = vec![0.0; source.width() as usize * 3];
    source.skip(first_row / 4)?;
    for y in first_row / 4..source.height() {
        source.read_row(&mut row)?;
        let wide: Vec<f32> = row
            .chunks_exact(3)
            .flat_map(|pixel| pixel.repeat(4))
            .collect();
        for y in (4 * y).max(first_row)..4 * y + 4 {
            sink.take(y, &wide)?;
        }
    }
    Ok(())
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
