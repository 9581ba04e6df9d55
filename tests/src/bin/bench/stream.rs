//! An image of any size through the engine without its networks: what the rest of the way takes.

use std::fs;
use std::time::Instant;

use anyhow::Context;
use invsr::{ColorFix, Identity, Options, RowSink, RowSource, Start, Stop, Upscale};

/// The image, and how it is cut.
#[derive(Debug, clap::Args)]
pub(crate) struct StreamArgs {
    /// Pixels a row of the input.
    #[arg(long, default_value_t = 20_000)]
    width: u32,
    /// Rows of the input.
    #[arg(long, default_value_t = 20_000)]
    height: u32,
    /// Side of a tile, in input pixels.
    #[arg(long, default_value_t = 128)]
    tile: u32,
    /// What neighbouring tiles share, in input pixels [default: the engine's]
    #[arg(long)]
    overlap: Option<u32>,
    /// none, wavelet, adain or ycbcr
    #[arg(long, default_value = "wavelet")]
    color_fix: ColorFix,
}

/// Waves and an edge now and then.
struct Generated {
    width: u32,
    height: u32,
    next: u32,
}

impl RowSource for Generated {
    fn width(&self) -> u32 {
        self.width
    }

    fn height(&self) -> u32 {
        self.height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        for (x, value) in (0u32..).zip(row) {
            *value = ((x.wrapping_mul(3) ^ self.next.wrapping_mul(5)) % 256) as f32 / 255.0;
        }
        self.next += 1;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        self.next += rows;
        Ok(())
    }
}

/// Counts all values and looks at one in [`EACH`]: at all of them it would take longer than the engine.
#[derive(Default)]
struct Looked {
    values: usize,
    outside: usize,
    sum: u64,
}

const EACH: usize = 97;

impl RowSink for Looked {
    fn take(&mut self, _first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.values += rows.len();
        for value in rows.iter().step_by(EACH) {
            self.outside += usize::from(!(0.0..=1.0).contains(value));
            self.sum = self.sum.wrapping_add(u64::from(value.to_bits()));
        }
        Ok(())
    }
}

/// Streams the image and prints what it took.
pub(crate) fn run(args: &StreamArgs) -> anyhow::Result<()> {
    let options = Options {
        tile_px: args.tile,
        overlap_px: args.overlap,
        color_fix: args.color_fix,
        ..Options::default()
    };
    let mut source = Generated {
        width: args.width,
        height: args.height,
        next: 0,
    };
    let mut looked = Looked::default();
    let started = Instant::now();
    let spent =
        Identity.upscale_rows(&mut source, Start::Row(0), &options, &mut looked, &mut ())?;
    let took = started.elapsed();
    println!(
        "{}x{} px to {}x{}: {} tiles in {:.1} s; values {}, outside [0, 1] {}, sum {:x}",
        args.width,
        args.height,
        4 * args.width,
        4 * args.height,
        spent.tiles,
        took.as_secs_f64(),
        looked.values,
        looked.outside,
        looked.sum
    );
    println!(
        "enlarge {:.1} s, blend {:.1} s, colour fix {:.1} s; peak memory {} MiB of {} MiB that the result has",
        spent.timings.vae_encode.as_secs_f64(),
        spent.timings.blend.as_secs_f64(),
        spent.timings.color_fix.as_secs_f64(),
        peak_kib()? >> 10,
        (looked.values * size_of::<f32>()) >> 20
    );
    Ok(())
}

/// The most memory that this process ever had resident.
pub(crate) fn peak_kib() -> anyhow::Result<usize> {
    let status = fs::read_to_string("/proc/self/status").context("read the process's memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("the kernel does not say")?.parse()?)
}
