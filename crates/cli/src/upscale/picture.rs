//! One picture's way: read, decode, upscale, encode, write.
//!
//! The pixels take the same way in the worker, so that both give the same bytes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use imaging::{Decoded, EncodeOptions, Format, Limits, Pixels};
use sha2::{Digest, Sha256};

use super::engine::{Engine, EngineError};
use super::failure::Failure;
use super::report::{Done, Reporter, Timings};
use super::write;
use crate::interrupt::Interrupt;

/// Output pixels for each input pixel, in each direction.
const SCALE: u32 = 4;

/// A decoded picture, on its way to its output.
pub struct Picture {
    input: PathBuf,
    output: PathBuf,
    overwrite: bool,
    pixels: Pixels,
    encode: EncodeOptions,
    warnings: Vec<String>,
    timings: Timings,
}

/// How one picture ended.
pub enum Outcome {
    Done,
    Failed(Failure),
    Interrupted,
}

/// Reads and decodes `input`, and makes sure that its result can be written to `output`.
///
/// # Errors
/// [`Failure`], in a sentence for a person.
pub fn read(
    input: &Path,
    output: &Path,
    format: Format,
    overwrite: bool,
) -> Result<Picture, Failure> {
    write::check(output, overwrite)?;
    let mut timings = Timings::default();
    let limits = Limits::default();
    let bytes = timings.time("read", || read_at_most(input, limits.max_bytes))?;
    let info = imaging::probe(&bytes, &limits).map_err(|error| Failure::decoding(&error))?;
    let (width, height) = (
        info.width.saturating_mul(SCALE),
        info.height.saturating_mul(SCALE),
    );
    imaging::check_output(format, width, height).map_err(|error| Failure::encoding(&error))?;
    let decoded = timings
        .time("decode", || imaging::decode(&bytes, &limits))
        .map_err(|error| Failure::decoding(&error))?;

    let encode = decoded.encode_like(Some(format));
    let Decoded {
        info,
        pixels,
        mut warnings,
        ..
    } = decoded;
    if let Some(named) = named_otherwise(input, info.format) {
        warnings.push(format!(
            "the file is named like {named} but is {}",
            info.format
        ));
    }
    Ok(Picture {
        input: input.to_owned(),
        output: output.to_owned(),
        overwrite,
        pixels,
        encode,
        warnings,
        timings,
    })
}

/// Upscales the picture and writes its result; no file is left unless it is complete.
pub fn upscale(
    mut picture: Picture,
    engine: &mut Engine,
    reporter: Reporter,
    interrupt: &Interrupt,
) -> Outcome {
    let mut progress = reporter.start(&picture.input);
    let upscaled = match engine.upscale(&picture.pixels, &mut progress, interrupt) {
        Ok(upscaled) => upscaled,
        Err(EngineError::Interrupted) => return Outcome::Interrupted,
        Err(EngineError::Failed(failure)) => return Outcome::Failed(failure),
    };
    drop(progress);
    for (stage, took) in upscaled.stages {
        picture.timings.add(stage, took);
    }
    picture.warnings.extend(upscaled.warning);
    let pixels = upscaled.pixels;
    let encoded = picture
        .timings
        .time("encode", || imaging::encode(&pixels, &picture.encode));
    let bytes = match encoded {
        Ok(bytes) => bytes,
        Err(error) => return Outcome::Failed(Failure::encoding(&error)),
    };
    let written = picture.timings.time("write", || {
        write::write(&picture.output, &bytes, picture.overwrite)
    });
    if let Err(failure) = written {
        return Outcome::Failed(failure);
    }
    reporter.done(&Done {
        input: &picture.input,
        output: &picture.output,
        format: picture.encode.format.to_string(),
        width: pixels.width,
        height: pixels.height,
        bytes: bytes.len(),
        sha256: hex::encode(Sha256::digest(&bytes)),
        tiles: upscaled.tiles,
        timings_ms: picture.timings,
        warnings: picture.warnings,
    });
    Outcome::Done
}

/// One byte more than the limit is enough for `imaging` to refuse the file.
fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| Failure::reading(&error))?;
    Ok(bytes)
}

fn named_otherwise(path: &Path, found: Format) -> Option<Format> {
    let named = Format::from_extension(path.extension()?.to_str()?)?;
    (named != found).then_some(named)
}
