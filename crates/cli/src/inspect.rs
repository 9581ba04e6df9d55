//! `upres inspect`: what the system sees in a file, and what upscaling it would take. Loads no model.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use imaging::{Limits, Reader, SharedFile, Stored, page_count};
use serde::Serialize;
use upres_common::job::spec::Timesteps;
use upres_common::job::{Pages, UpscaleSpec, tile_steps};

use crate::limits::LimitArgs;
use crate::spec::{default_schedule, parse_pages, parse_tile, parse_timesteps};
use crate::upscale::SCALE;
use crate::upscale::choose;
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
    /// Pages of a tiff of several: all, some such as 1,3-5, or single to refuse such files
    #[arg(long, value_name = "PAGES", default_value = "all", value_parser = parse_pages, allow_hyphen_values = true)]
    pages: Pages,
    #[command(flatten)]
    limits: LimitArgs,
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
    pages: u32,
    /// The first that is wanted.
    #[serde(flatten)]
    first: SeenPage,
    warnings: Vec<String>,
    /// Of all that are wanted.
    price: Price,
    /// All that are wanted, of a file of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    each: Vec<NumberedPage>,
}

/// What is known of a page.
#[derive(Debug, Clone, Serialize)]
struct SeenPage {
    /// Upright, in pixels.
    width: u32,
    /// Upright, in pixels.
    height: u32,
    /// As it is upscaled, and as a result in the file's own format has it.
    bits_per_sample: u8,
    color: &'static str,
    alpha: bool,
    stored: Stored,
    /// What the profile calls itself.
    icc_name: Option<String>,
    /// Size of the ICC profile that a result would carry, in bytes.
    icc_bytes: Option<usize>,
    /// Across and down.
    dpi: Option<(f64, f64)>,
    metadata: Vec<&'static str>,
    /// What a result would not carry, by name.
    not_carried: Vec<&'static str>,
}

/// A page of a file of several.
#[derive(Debug, Serialize)]
struct NumberedPage {
    /// From 1.
    page: u32,
    #[serde(flatten)]
    seen: SeenPage,
    warnings: Vec<String>,
    tiles: u32,
    tile_steps: u32,
}

/// What upscaling takes.
#[derive(Debug, Serialize)]
struct Price {
    timesteps: Vec<u32>,
    tile: u32,
    tiles: u32,
    tile_steps: u32,
    /// Of the result of the first page, in pixels.
    width: u64,
    /// Of the result of the first page, in pixels.
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
    let limits = Limits::from(args.limits);
    let file = File::open(path).map_err(|error| Failure::reading(&error))?;
    let bytes = file
        .metadata()
        .map_err(|error| Failure::reading(&error))?
        .len();
    let file = SharedFile::new(file);
    let decoding = |error| Failure::decoding(&error);
    let pages = page_count(Box::new(file.clone()), &limits).map_err(decoding)?;
    let chosen = choose(&args.pages, pages)?;
    let upscale = upscale_of(args);
    let mut each = Vec::with_capacity(chosen.len());
    let mut format = None;
    for &index in &chosen {
        let reader = Reader::open_page(Box::new(file.clone()), &limits, index);
        let reader = reader.map_err(decoding)?;
        if format.is_none() {
            let misnamed = reader.misnamed(&path.to_string_lossy());
            format = Some((reader.info().format, misnamed));
        }
        each.push(look(index, &reader, &upscale));
        if args.check {
            reader.verify().map_err(decoding)?;
        }
    }
    let (format, misnamed) = format.expect("one page is chosen at least");
    let first = each[0].seen.clone();
    let warnings = warnings(&each, pages);
    let price = price(upscale, &each);
    if pages == 1 {
        each.clear();
    }
    Ok(Seen {
        input: path,
        format: format.to_string(),
        bytes,
        pages,
        first,
        warnings: warnings.into_iter().chain(misnamed).collect(),
        price,
        each,
    })
}

fn look(index: u32, reader: &Reader<'_>, upscale: &UpscaleSpec) -> NumberedPage {
    let info = reader.info();
    let options = reader.encode_like(None);
    let mut warnings = reader.warnings_in(None);
    let side = |side: u32| side.saturating_mul(SCALE);
    if let Err(error) = options.check(side(info.width), side(info.height)) {
        warnings.push(with_causes(&error));
    }
    let metadata = reader.metadata();
    let tile_steps = tile_steps(info.width, info.height, upscale);
    NumberedPage {
        page: index + 1,
        seen: SeenPage {
            width: info.width,
            height: info.height,
            bits_per_sample: info.depth.bits(),
            color: if info.gray { "gray" } else { "rgb" },
            alpha: info.alpha,
            stored: reader.stored(),
            icc_name: reader.profile_name(),
            icc_bytes: options.icc.as_ref().map(Vec::len),
            dpi: metadata
                .resolution()
                .map(|resolution| resolution.per_inch()),
            metadata: metadata.blocks(),
            not_carried: metadata.left_behind().to_vec(),
        },
        warnings,
        tiles: tile_steps / u32::try_from(upscale.steps_a_tile()).unwrap_or(u32::MAX),
        tile_steps,
    }
}

fn warnings(each: &[NumberedPage], pages: u32) -> Vec<String> {
    let of_page = |page: &NumberedPage| {
        let number = (pages > 1).then_some(page.page);
        let named = page.warnings.iter().map(move |warning| match number {
            Some(number) => format!("page {number}: {warning}"),
            None => warning.clone(),
        });
        named.collect::<Vec<_>>()
    };
    each.iter().flat_map(of_page).collect()
}

fn upscale_of(args: &InspectArgs) -> UpscaleSpec {
    let timesteps = args.timesteps.clone().or_else(|| args.steps.clone());
    UpscaleSpec {
        timesteps: timesteps.unwrap_or_default(),
        tile: args.tile,
        ..UpscaleSpec::default()
    }
}

fn price(upscale: UpscaleSpec, each: &[NumberedPage]) -> Price {
    let all = |count: fn(&NumberedPage) -> u32| each.iter().map(count).fold(0, u32::saturating_add);
    let side = |side: u32| u64::from(side) * u64::from(SCALE);
    Price {
        tile: upscale.tile,
        tiles: all(|page| page.tiles),
        tile_steps: all(|page| page.tile_steps),
        width: side(each[0].seen.width),
        height: side(each[0].seen.height),
        timesteps: Vec::from(upscale.timesteps),
    }
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

fn print_lines(seen: &Seen<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", seen.input.display())?;
    let pages = if seen.pages == 1 { "page" } else { "pages" };
    let file = format!("{} bytes, {} {pages}", seen.bytes, seen.pages);
    if seen.each.is_empty() {
        writeln!(out, "  {}, {}, {file}", seen.format, kind(&seen.first))?;
        print_beside(&mut out, &seen.first)?;
    } else {
        writeln!(out, "  {}, {file}", seen.format)?;
    }
    for page in &seen.each {
        let tiles = format!("{} tiles", page.tiles);
        writeln!(out, "  page {}: {}, {tiles}", page.page, kind(&page.seen))?;
        print_beside(&mut out, &page.seen)?;
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
    let size = match seen.each.len() {
        0 => format!("{width}x{height} px"),
        1 => format!("1 page of {width}x{height} px"),
        pages => format!("{pages} pages"),
    };
    writeln!(
        out,
        "  upscaled by {}: {size}, {tiles} tiles of {} px, {tile_steps} tile-steps",
        timesteps.join(","),
        seen.price.tile
    )?;
    Ok(())
}

fn kind(page: &SeenPage) -> String {
    let alpha = if page.alpha { " with transparency" } else { "" };
    let Stored {
        bits,
        color,
        compression,
    } = page.stored;
    // Of what the stored colours are only another way of writing, nothing is said.
    let converted = matches!(color, "palette" | "lab" | "cmyk" | "ycck");
    let becomes = if bits == page.bits_per_sample && !converted {
        String::new()
    } else {
        format!(
            " (upscaled as {}, {} bits)",
            page.color, page.bits_per_sample
        )
    };
    let bits = if bits == 1 {
        "1 bit".to_owned()
    } else {
        format!("{bits} bits")
    };
    format!(
        "{}x{} px, {color}, {bits} a sample{alpha}{becomes}, compression {compression}",
        page.width, page.height
    )
}

/// What there is beside the pixels.
fn print_beside(out: &mut impl io::Write, page: &SeenPage) -> io::Result<()> {
    let profile = page.icc_bytes.map(|bytes| match &page.icc_name {
        Some(name) => format!("icc profile {name} of {bytes} bytes"),
        None => format!("icc profile of {bytes} bytes"),
    });
    let dpi = page
        .dpi
        .map(|(x, y)| format!("{} x {} dpi", rounded(x), rounded(y)));
    let named = page.metadata.iter().map(|name| (*name).to_owned());
    let also: Vec<String> = profile.into_iter().chain(dpi).chain(named).collect();
    if !also.is_empty() {
        writeln!(out, "  {}", also.join(", "))?;
    }
    if !page.not_carried.is_empty() {
        let names = page.not_carried.join(", ");
        writeln!(out, "  not carried to a result: {names}")?;
    }
    Ok(())
}

/// Two digits behind the point at most.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
