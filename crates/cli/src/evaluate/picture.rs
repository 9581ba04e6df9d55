//! One truth: made small, enlarged in every way, each result measured.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use imaging::{Limits, Pixels};

use super::degrade::{Input, SCALE, enlarge, pixels, reduce, unit};
use super::metrics::{psnr_y, ssim};
use super::model::Model;
use super::niqe::niqe;
use super::table::{How, Row};
use crate::interrupt::Interrupt;

/// Below this nothing that is measured means anything, in pixels.
const SMALLEST_SIDE: u32 = 64;

/// A sharp picture.
pub struct Truth {
    pub name: String,
    /// Both sides are multiples of [`SCALE`].
    pub pixels: Pixels,
}

impl Truth {
    /// Reads a file and cuts up to three pixels from its right and lower border.
    ///
    /// # Errors
    /// The file cannot be read or decoded, or is too small.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let pixels = imaging::decode(&fs::read(path)?, &Limits::default())?.pixels;
        let (width, height) = (pixels.width, pixels.height);
        if width.min(height) < SMALLEST_SIDE {
            anyhow::bail!(
                "the picture has {width}x{height} px; to be measured each side needs {SMALLEST_SIDE}"
            );
        }
        let name = path.file_stem().unwrap_or(path.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            pixels: cut(
                &pixels,
                (0, 0),
                (width / SCALE * SCALE, height / SCALE * SCALE),
            ),
        })
    }
}

/// The part of a picture from the corner `(x, y)`, `(width, height)` large.
pub fn cut(pixels: &Pixels, (x, y): (u32, u32), (width, height): (u32, u32)) -> Pixels {
    let stride = 3 * pixels.width as usize;
    let rows = pixels.rgb.chunks_exact(stride);
    let rows = rows.skip(y as usize).take(height as usize);
    let columns = 3 * x as usize..3 * (x + width) as usize;
    Pixels {
        width,
        height,
        rgb: rows
            .flat_map(|row| &row[columns.clone()])
            .copied()
            .collect(),
    }
}

/// One way of enlarging one small picture.
pub struct Attempt {
    pub row: Row,
    pub result: Pixels,
}

/// How one truth ended.
pub enum Outcome {
    Done(Vec<Attempt>),
    Interrupted,
}

/// Tries bicubic and every schedule on both inputs.
///
/// # Errors
/// The engine's, the JPEG codec's.
pub fn evaluate(
    truth: &Truth,
    model: &mut Model,
    interrupt: &Interrupt,
) -> anyhow::Result<Outcome> {
    let mut attempts = Vec::new();
    for input in Input::ALL {
        let small = input.make(&truth.pixels)?;
        let image = unit(&small);
        let try_with = Try {
            truth,
            small: &small,
            input,
        };
        let started = Instant::now();
        let bicubic = pixels(&enlarge(&image));
        let mut bicubic = try_with.measured(How::Bicubic, bicubic, started.elapsed());
        let base = bicubic.row.psnr_y_db;
        bicubic.row.gain_db = 0.0;
        attempts.push(bicubic);
        for schedule in model.schedules() {
            let started = Instant::now();
            let Some(result) = model.upscale(&image, &schedule, interrupt)? else {
                return Ok(Outcome::Interrupted);
            };
            let took = started.elapsed();
            let mut attempt = try_with.measured(How::Schedule(schedule), pixels(&result), took);
            attempt.row.gain_db = attempt.row.psnr_y_db - base;
            attempts.push(attempt);
        }
    }
    Ok(Outcome::Done(attempts))
}

/// What all results of one small picture are measured against.
struct Try<'a> {
    truth: &'a Truth,
    small: &'a Pixels,
    input: Input,
}

impl Try<'_> {
    fn measured(&self, how: How, result: Pixels, took: Duration) -> Attempt {
        let again = pixels(&reduce(&unit(&result)));
        let row = Row {
            picture: self.truth.name.clone(),
            input: self.input,
            how,
            psnr_y_db: psnr_y(&result, &self.truth.pixels),
            gain_db: 0.0,
            ssim: ssim(&result, &self.truth.pixels),
            niqe: niqe(&result),
            consistency_db: psnr_y(&again, self.small),
            seconds: took.as_secs_f64(),
        };
        Attempt { row, result }
    }
}
