//! What was reckoned is what a process takes: not less, and not twice as much. Each case runs in a
//! process of its own, because the peak is the process's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use invsr::{
    ColorFix, DeviceSpec, Dtype, Identity, InvSr, Options, RowSink, RowSource, Size, Start, Stop,
    Upscale, UpscaleError, write_random_model,
};

const MIB: u64 = 1 << 20;

/// A child's work. `model` is a folder, or nothing for bicubic alone.
struct Case<'a> {
    model: &'a str,
    width: u32,
    height: u32,
    tile_batch: usize,
    color_fix: ColorFix,
    limit: Option<u64>,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if cfg!(not(target_os = "linux")) {
        println!("skipped: the peak of a process is read from Linux's /proc");
    } else if let [word, case @ ..] = &arguments[..]
        && word == "measure"
    {
        measure(case);
    } else {
        check_all();
    }
}

fn check_all() {
    let tiny = tempfile::tempdir().unwrap();
    write_random_model(Size::Tiny, 7, tiny.path()).unwrap();
    let quarter = tempfile::tempdir().unwrap();
    write_random_model(Size::Quarter, 7, quarter.path()).unwrap();
    let (tiny, quarter) = (path(tiny.path()), path(quarter.path()));
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/upres-tiny");
    // As many tiles as go at once, side by side.
    let case = |model, tile_batch: u16| Case {
        model,
        width: 32 + 96 * u32::from(tile_batch),
        height: 128,
        tile_batch: tile_batch.into(),
        color_fix: ColorFix::None,
        limit: None,
    };
    let mut peaks = Vec::new();
    for tile_batch in [1, 3] {
        peaks.push(check(&case(tiny, tile_batch)));
    }
    check(&case(quarter, 2));
    check(&case(bundled, 2));
    assert!(peaks[1] > peaks[0] + 64 * MIB, "a batch costs: {peaks:?}");

    // Rows, where the networks count for nothing.
    for color_fix in [
        ColorFix::None,
        ColorFix::Wavelet,
        ColorFix::YCbCr,
        ColorFix::AdaIn,
    ] {
        let wide = Case {
            width: 3_000,
            height: 160,
            color_fix,
            ..case("", 1)
        };
        check(&wide);
    }

    // A limit between what one tile and what three at a time take.
    let limit = u64::midpoint(peaks[0], peaks[1]) + 32 * MIB;
    let limited = Case {
        limit: Some(limit),
        ..case(tiny, 3)
    };
    let peak = check(&limited);
    assert!(peak <= limit, "{peak} bytes over the limit of {limit}");

    let mut model = InvSr::load(Path::new(tiny), &DeviceSpec::Cpu, Dtype::F32).unwrap();
    let options = Options {
        memory_limit: Some(64 * MIB),
        ..Options::default()
    };
    let refused = model.plan(128, 128, &options).unwrap_err();
    assert!(matches!(refused, UpscaleError::Memory { .. }), "{refused}");
    let mut source = Generated::new(128, 128);
    let (mut sink, mut nobody) = (Dropped, ());
    let refused = model.upscale_rows(&mut source, Start::Row(0), &options, &mut sink, &mut nobody);
    assert!(matches!(refused, Err(UpscaleError::Memory { .. })));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a case in a child; returns its peak.
fn check(case: &Case<'_>) -> u64 {
    let words = [
        "measure".to_owned(),
        case.model.to_owned(),
        case.width.to_string(),
        case.height.to_string(),
        case.tile_batch.to_string(),
        case.color_fix.to_string(),
        case.limit.unwrap_or(0).to_string(),
    ];
    let child = Command::new(env::current_exe().unwrap())
        .args(&words)
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{words:?}: {told}");
    let mut numbers = said.split_whitespace().map(|n| n.parse::<u64>().unwrap());
    let (reckoned, peak) = (numbers.next().unwrap(), numbers.next().unwrap());
    println!(
        "{:>4} MiB of {:>4} reckoned: {}",
        peak / MIB,
        reckoned / MIB,
        words[1..].join(" ")
    );
    assert!(peak <= reckoned, "more than reckoned: {words:?}");
    assert!(
        reckoned < 2 * peak + 32 * MIB,
        "far less than reckoned: {words:?}"
    );
    peak
}

/// The child: upscales as asked, prints what was reckoned and what it took.
fn measure(case: &[String]) {
    let [model, width, height, tile_batch, color_fix, limit] = case else {
        panic!("{case:?}");
    };
    let (width, height) = (width.parse().unwrap(), height.parse().unwrap());
    let options = Options {
        tile_batch: tile_batch.parse().unwrap(),
        color_fix: color_fix.parse().unwrap(),
        memory_limit: Some(limit.parse().unwrap()).filter(|limit| *limit > 0),
        overlap_px: Some(32),
        ..Options::default()
    };
    let mut engine: Box<dyn Upscale> = if model.is_empty() {
        Box::new(Identity)
    } else {
        Box::new(InvSr::load(Path::new(model), &DeviceSpec::Cpu, Dtype::F32).unwrap())
    };
    let reckoned = engine.plan(width, height, &options).unwrap().peak_bytes;
    let mut source = Generated::new(width, height);
    let (mut sink, mut nobody) = (Dropped, ());
    engine
        .upscale_rows(&mut source, Start::Row(0), &options, &mut sink, &mut nobody)
        .unwrap();
    println!("{reckoned} {}", peak());
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// A generated image of any size.
struct Generated {
    width: u32,
    height: u32,
    next: u32,
}

impl Generated {
    fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            next: 0,
        }
    }
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
            let wave = x.wrapping_mul(7) ^ self.next.wrapping_mul(13);
            *value = (wave % 256) as f32 / 255.0;
        }
        self.next += 1;
        Ok(())
    }
}

/// A sink that keeps nothing.
struct Dropped;

impl RowSink for Dropped {
    fn take(&mut self, _first_row: u32, _rows: &[f32]) -> Result<(), Stop> {
        Ok(())
    }
}
