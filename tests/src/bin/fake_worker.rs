//! The real worker around a fake engine: everything but the network is what production runs.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use invsr::{
    Identity, MemoryLimit, Observer, Options, Plan, Progress, RowSink, RowSource, Spent, Start,
    Stop, Timings, Upscale, UpscaleError,
};
use upres_common::telemetry::{self, LogArgs};
use upres_worker::Room;
use upres_worker::config::ServiceConfig;
use upres_worker::engine::{Engine, Loaded, MadeBy};

#[derive(Debug, Parser)]
struct Args {
    /// Tiles of every image.
    #[arg(long, default_value_t = 1)]
    tiles: usize,
    /// Milliseconds a tile takes.
    #[arg(long, default_value_t = 0)]
    tile_ms: u64,
    /// Cut, blend and write like production, with networks that only enlarge; `tiles` is ignored.
    #[arg(long)]
    identity: bool,
    /// The engine's name: work goes on only where it is the same.
    #[arg(long, default_value = "fake", value_name = "NAME")]
    called: String,
    /// With `identity`: fails as soon as there is such a file.
    #[arg(long, value_name = "FILE")]
    fail_when: Option<PathBuf>,
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
            tile_steps: self.tiles * options.steps_a_tile(),
            peak_bytes: 0,
        })
    }

    fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        start: Start,
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
            if observer.progress(progress).is_break() || observer.suspend() {
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
        // It is never suspended, so nobody hands over to it.
        let Start::Row(first_row) = start else {
            return Err(UpscaleError::HandOver);
        };
        enlarge(source, first_row, sink).map_err(|stop| match stop {
            Stop::Cancelled => UpscaleError::Cancelled,
            Stop::Failed(cause) => UpscaleError::Sink(cause),
        })?;
        Ok(Spent {
            widened: None,
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

/// Takes its time for each tile, and fails when it is told to.
struct Paced {
    tile: Duration,
    fail_when: Option<PathBuf>,
}

impl Paced {
    fn is_to_fail(&self) -> bool {
        self.fail_when.as_ref().is_some_and(|file| file.exists())
    }
}

struct Pace<'a> {
    inner: &'a mut dyn Observer,
    of: &'a Paced,
}

impl Observer for Pace<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        std::thread::sleep(self.of.tile);
        if self.of.is_to_fail() {
            return ControlFlow::Break(());
        }
        self.inner.progress(progress)
    }

    fn suspend(&mut self) -> bool {
        self.inner.suspend()
    }
}

impl Upscale for Paced {
    fn plan(&self, width: u32, height: u32, options: &Options) -> Result<Plan, UpscaleError> {
        Identity.plan(width, height, options)
    }

    fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        start: Start,
        options: &Options,
        sink: &mut dyn RowSink,
        observer: &mut dyn Observer,
    ) -> Result<Spent, UpscaleError> {
        let mut pace = Pace {
            inner: observer,
            of: self,
        };
        let done = Identity.upscale_rows(source, start, options, sink, &mut pace);
        if self.is_to_fail() {
            return Err(UpscaleError::NonFinite {
                stage: "fake",
                tile: 0,
            });
        }
        done
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
    let tile = Duration::from_millis(args.tile_ms);
    let loaded = Loaded {
        upscale: match args.identity {
            true => Box::new(Paced {
                tile,
                fail_when: args.fail_when,
            }),
            false => Box::new(fake),
        },
        made_by: MadeBy {
            model: args.called.clone(),
            model_sha256: None,
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
        },
        identity: args.called,
    };
    let engine = Engine::start(move || Ok(loaded)).await?;
    let room = Room {
        tile_batch: 1,
        memory: MemoryLimit::default(),
    };
    upres_worker::run(args.services, engine, room).await
}
