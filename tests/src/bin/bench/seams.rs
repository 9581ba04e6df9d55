//! How much the borders between tiles show, for several overlaps.
//!
//! Three scores, each a ratio of what is seen at borders to what is seen elsewhere in the same
//! result, so that 1 is a border that nobody can find:
//!
//! - **edge**: the gradient across the lines where a tile begins or ends;
//! - **zone**: the gradient inside the strips that neighbours share, where two results are mixed:
//!   below 1 they are smoother than the rest;
//! - **step**: the difference in brightness between the two sides of such a strip.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use invsr::{DeviceSpec, Dtype, InvSr, Options, RgbImage, Upscale};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct SeamArgs {
    /// The model's folder.
    #[arg(long)]
    model: PathBuf,
    /// A picture with texture; a sky is always measured.
    #[arg(long)]
    texture: Vec<PathBuf>,
    /// Tiles in a row and in a column: a square that they cover exactly is cut out of each picture.
    #[arg(long, default_value_t = 3)]
    tiles: u32,
    /// Side of a tile, in input pixels.
    #[arg(long, default_value_t = 128)]
    tile: u32,
    /// What neighbouring tiles share, in input pixels.
    #[arg(long, value_delimiter = ',', default_value = "64,32,24,16")]
    overlaps: Vec<u32>,
}

/// Measures every picture with every overlap and prints a table.
pub(crate) fn run(args: &SeamArgs) -> anyhow::Result<()> {
    let mut model = InvSr::load(&args.model, &DeviceSpec::Cpu, Dtype::F32)?;
    println!("picture      overlap  tiles  seconds    edge    zone    step");
    for texture in std::iter::once(None).chain(args.texture.iter().map(Some)) {
        for &overlap in &args.overlaps {
            let borders = Borders::new(args, overlap)?;
            let (name, picture) = match texture {
                None => ("sky".into(), sky(borders.side)?),
                Some(path) => (
                    path.file_stem().unwrap_or_default().to_string_lossy(),
                    middle_of(path, borders.side)?,
                ),
            };
            let options = Options {
                tile_px: args.tile,
                overlap_px: Some(overlap),
                ..Options::default()
            };
            let started = Instant::now();
            let done = model.upscale(&picture, &options, &mut ())?;
            let scores = Scores::of(&done.image, &borders);
            println!(
                "{name:<12} {overlap:>7} {:>6} {:>8.0} {:>7.3} {:>7.3} {:>7.3}",
                done.tiles,
                started.elapsed().as_secs_f64(),
                scores.edge,
                scores.zone,
                scores.step
            );
        }
    }
    Ok(())
}

/// A clear sky in 8 bits: a slow gradient and a little grain.
fn sky(side: u32) -> anyhow::Result<RgbImage> {
    let mut state = 1u32;
    let mut grain = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as f32 / 65_535.0 - 0.5
    };
    let mut data = Vec::new();
    for y in 0..side {
        for _ in 0..side {
            let height = y as f32 / side as f32;
            for base in [
                95.0 + 70.0 * height,
                140.0 + 60.0 * height,
                205.0 + 25.0 * height,
            ] {
                data.push((base + 3.0 * grain()).round() / 255.0);
            }
        }
    }
    Ok(RgbImage::new(side, side, data)?)
}

/// The square in the middle of a picture.
fn middle_of(path: &Path, side: u32) -> anyhow::Result<RgbImage> {
    let picture = image::open(path).with_context(|| format!("open {}", path.display()))?;
    anyhow::ensure!(
        picture.width() >= side && picture.height() >= side,
        "{} is smaller than {side} px",
        path.display()
    );
    let (x, y) = ((picture.width() - side) / 2, (picture.height() - side) / 2);
    let square = picture.crop_imm(x, y, side, side).into_rgb8();
    let data = square.into_raw().into_iter();
    let data = data.map(|value| f32::from(value) / 255.0);
    Ok(RgbImage::new(side, side, data.collect())?)
}

/// Where tiles meet along a side of the result, in its pixels.
struct Borders {
    /// Side of the input, in its pixels.
    side: u32,
    /// Where a tile begins or ends, the image's own ends left out.
    edges: Vec<usize>,
    /// What neighbours share.
    zones: Vec<Range<usize>>,
}

impl Borders {
    fn new(args: &SeamArgs, overlap: u32) -> anyhow::Result<Self> {
        let stride = args.tile.checked_sub(overlap);
        let stride = stride.context("the overlap is larger than the tile")?;
        let zone = |tile: u32| 4 * stride * tile..4 * (stride * (tile - 1) + args.tile);
        let zones = (1..args.tiles).map(|tile| zone(tile).start as usize..zone(tile).end as usize);
        let zones: Vec<Range<usize>> = zones.collect();
        let edges = zones.iter().flat_map(|zone| [zone.start, zone.end]);
        Ok(Self {
            side: stride * (args.tiles - 1) + args.tile,
            edges: edges.collect(),
            zones,
        })
    }

    /// Not within 32 pixels of an edge.
    fn is_elsewhere(&self, at: usize) -> bool {
        self.edges.iter().all(|edge| at.abs_diff(*edge) > 32)
    }
}

struct Scores {
    edge: f64,
    zone: f64,
    step: f64,
}

/// Pixels of the result for a latent one: the decoder draws a faint grid, on which all edges lie, so
/// that they are compared with its other lines.
const CELL: usize = 8;

/// Pixels on each side of a step.
const BESIDE: usize = 32;

impl Scores {
    fn of(image: &RgbImage, borders: &Borders) -> Self {
        let profiles = [Profile::across(image), Profile::down(image)];
        let side = image.width as usize;
        let ratio = |at_border: &dyn Fn(usize) -> bool, every: usize, step: bool| {
            let (mut border, mut elsewhere) = (Mean::default(), Mean::default());
            for profile in &profiles {
                for at in (BESIDE..side - BESIDE).step_by(every) {
                    let value = if step {
                        profile.steps[at]
                    } else {
                        profile.gradients[at]
                    };
                    if at_border(at) {
                        border.add(value);
                    } else if borders.is_elsewhere(at) {
                        elsewhere.add(value);
                    }
                }
            }
            border.value() / elsewhere.value()
        };
        let middles: Vec<usize> = borders
            .zones
            .iter()
            .map(|z| (z.start + z.end) / 2)
            .collect();
        Self {
            edge: ratio(&|at| borders.edges.contains(&at), CELL, false),
            zone: ratio(
                &|at| borders.zones.iter().any(|zone| zone.contains(&at)),
                1,
                false,
            ),
            step: ratio(&|at| middles.contains(&at), 1, true),
        }
    }
}

/// What changes along one direction, by position.
struct Profile {
    /// Mean difference to the pixel before.
    gradients: Vec<f64>,
    /// Mean difference between the means of [`BESIDE`] pixels on either side, of blocks as high.
    steps: Vec<f64>,
}

impl Profile {
    fn across(image: &RgbImage) -> Self {
        let stride = 3 * image.width as usize;
        Self::new(image.width as usize, |line, at, channel| {
            image.data[line * stride + 3 * at + channel]
        })
    }

    fn down(image: &RgbImage) -> Self {
        let stride = 3 * image.width as usize;
        Self::new(image.height as usize, |line, at, channel| {
            image.data[at * stride + 3 * line + channel]
        })
    }

    /// - `value`: of the pixel `at` along line `line`; the image is a square of `side`.
    fn new(side: usize, value: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut gradients = vec![0.0; side];
        let mut steps = vec![0.0; side];
        let blocks = side / BESIDE;
        for block in 0..blocks {
            for channel in 0..3 {
                let mut sums = vec![0.0; side + 1];
                for at in 0..side {
                    let lines = block * BESIDE..(block + 1) * BESIDE;
                    let here = |line: usize| f64::from(value(line, at, channel));
                    sums[at + 1] = sums[at] + lines.clone().map(here).sum::<f64>();
                    if at > 0 {
                        let before = |line: usize| f64::from(value(line, at - 1, channel));
                        gradients[at] += lines.map(|l| (here(l) - before(l)).abs()).sum::<f64>();
                    }
                }
                for at in BESIDE..=side - BESIDE {
                    let step = sums[at + BESIDE] + sums[at - BESIDE] - 2.0 * sums[at];
                    if at < side {
                        steps[at] += step.abs();
                    }
                }
            }
        }
        Self { gradients, steps }
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn value(&self) -> f64 {
        self.sum / self.count
    }
}
