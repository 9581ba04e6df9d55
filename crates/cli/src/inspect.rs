//! `upres inspect`: what the system sees in a file, and what upscaling it would take. Loads no model.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use imaging::{Limits, Reader};
use serde::Serialize;
use upres_common::job::spec::Timesteps;
use upres_common::job::{UpscaleSpec, tile_steps};

use crate::spec::{default_schedule, parse_tile, parse_timesteps};
use crate::upscale::SCALE;
use crate::upscale::failure::{Failure, with_causes};

/// Flags of `upres inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// Pictures
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Number of denoising steps, 1 to 5, for the price [default: 1]
    #[arg(long, value_name = "N", value_parser = default_schedule, conflicts_with = "timesteps")]
    steps: Option<Timesteps>,
    /// Denoising schedule for the price, such as 250,150,50
    #[arg(long, value_name = "T,T,...", value_parser = parse_timesteps)]
    timesteps: Option<Timesteps>,
    /// Side of a tile, in pixels of the picture: a multiple of 16 from 32 to 512
    #[arg(long, value_name = "PX", default_value = "128", value_parser = parse_tile)]
    tile: u32,
    /// Read each file to its end: damage may show in its last row only
    #[arg(long)]
    check: bool,
    /// One JSON object per file on stdout
    #[arg(long)]
    json: bool,
}

/// What is known of one file.
#[derive(Debug, Serialize)]
struct Seen<'a> {
    input: &'a Path,
    format: String,
    bytes: u64,
    /// Upright, in pixels.
    width: u32,
    /// Upright, in pixels.
    height: u32,
    bits_per_sample: u8,
    color: &'static str,
    alpha: bool,
    /// Size of the ICC profile that a result would carry, in bytes.
    icc_bytes: Option<usize>,
    /// Across and down.
    dpi: Option<(f64, f64)>,
    pages: u32,
    metadata: Vec<&'static str>,
    /// What a result would not carry, by name.
    not_carried: Vec<&'static str>,
    warnings: Vec<String>,
    price: Price,
}

/// What upscaling takes.
#[derive(Debug, Serialize)]
struct Price {
    timesteps: Vec<u32>,
    tile: u32,
    tiles: u32,
    tile_steps: u32,
    /// Of the result, in pixels.
    width: u64,
    /// Of the result, in pixels.
    height: u64,
}

#[derive(Serialize)]
struct Refused<'a> {
    input: &'a Path,
    error: &'a Failure,
}

/// Looks at every file; one that is refused does not stop the others, and makes the status 1.
///
/// # Errors
/// Stdout is closed.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let mut status = ExitCode::SUCCESS;
    for file in &args.files {
        match inspect(args, file) {
            Ok(seen) if args.json => print_json(&seen)?,
            Ok(seen) => print_lines(&seen)?,
            Err(error) => {
                status = ExitCode::FAILURE;
                if args.json {
                    print_json(&Refused {
                        input: file,
                        error: &error,
                    })?;
                }
                eprintln!("error: {}: {}", file.display(), error.detail);
            }
        }
    }
    Ok(status)
}

fn inspect<'a>(args: &InspectArgs, path: &'a Path) -> Result<Seen<'a>, Failure> {
    let limits = Limits::default();
    let file = File::open(path).map_err(|error| Failure::reading(&error))?;
    let bytes = file
        .metadata()
        .map_err(|error| Failure::reading(&error))?
        .len();
    let decoding = |error| Failure::decoding(&error);
    let reader = Reader::open(Box::new(file), &limits).map_err(decoding)?;
    let info = reader.info().clone();
    let options = reader.encode_like(None);
    let mut warnings = reader.warnings_in(None);
    warnings.extend(reader.misnamed(&path.to_string_lossy()));
    let (width, height) = (
        info.width.saturating_mul(SCALE),
        info.height.saturating_mul(SCALE),
    );
    if let Err(error) = options.check(width, height) {
        warnings.push(with_causes(&error));
    }
    let metadata = reader.metadata();
    let seen = Seen {
        input: path,
        format: info.format.to_string(),
        bytes,
        width: info.width,
        height: info.height,
        bits_per_sample: info.depth.bits(),
        color: if info.gray { "gray" } else { "rgb" },
        alpha: info.alpha,
        icc_bytes: options.icc.as_ref().map(Vec::len),
        dpi: metadata
            .resolution()
            .map(|resolution| resolution.per_inch()),
        // More are refused by the reader.
        pages: 1,
        metadata: metadata.blocks(),
        not_carried: metadata.left_behind().to_vec(),
        warnings,
        price: price(args, info.width, info.height),
    };
    if args.check {
        reader.verify().map_err(decoding)?;
    }
    Ok(seen)
}

fn price(args: &InspectArgs, width: u32, height: u32) -> Price {
    let timesteps = args
        .timesteps
        .clone()
        .or_else(|| args.steps.clone())
        .unwrap_or_default();
    let upscale = UpscaleSpec {
        timesteps,
        tile: args.tile,
        ..UpscaleSpec::default()
    };
    let tile_steps = tile_steps(width, height, &upscale);
    let timesteps = Vec::from(upscale.timesteps);
    let steps = u32::try_from(timesteps.len()).unwrap_or(u32::MAX);
    Price {
        timesteps,
        tile: args.tile,
        tiles: tile_steps / steps,
        tile_steps,
        width: u64::from(width) * u64::from(SCALE),
        height: u64::from(height) * u64::from(SCALE),
    }
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

fn print_lines(seen: &Seen<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let alpha = if seen.alpha { " with transparency" } else { "" };
    writeln!(out, "{}", seen.input.display())?;
    writeln!(
        out,
        "  {}, {}x{} px, {} bits a sample, {}{alpha}, {} bytes, 1 page",
        seen.format, seen.width, seen.height, seen.bits_per_sample, seen.color, seen.bytes
    )?;
    let profile = seen
        .icc_bytes
        .map(|bytes| format!("icc profile of {bytes} bytes"));
    let dpi = seen
        .dpi
        .map(|(x, y)| format!("{} x {} dpi", rounded(x), rounded(y)));
    let named = seen.metadata.iter().map(|name| (*name).to_owned());
    let also: Vec<String> = profile.into_iter().chain(dpi).chain(named).collect();
    if !also.is_empty() {
        writeln!(out, "  {}", also.join(", "))?;
    }
    if !seen.not_carried.is_empty() {
        writeln!(
            out,
            "  not carried to a result: {}",
            seen.not_carried.join(", ")
        )?;
    }
    for warning in &seen.warnings {
        writeln!(out, "  warning: {warning}")?;
    }
    let Price {
        tiles,
        tile_steps,
        width,
        height,
        ..
    } = seen.price;
    let timesteps: Vec<_> = seen.price.timesteps.iter().map(u32::to_string).collect();
    writeln!(
        out,
        "  upscaled by {}: {width}x{height} px, {tiles} tiles of {} px, {tile_steps} tile-steps",
        timesteps.join(","),
        seen.price.tile
    )?;
    Ok(())
}

/// Two digits behind the point at most.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
