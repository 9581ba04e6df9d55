//! One picture's way: decode, upscale, encode, write; in rows, so that its height costs no memory.
//!
//! The pixels take the same way in the worker, so that both give the same bytes.

use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use imaging::{DecodeError, EncodeOptions, Format, Info, Limits, Reader, Writer};

use super::draft::{Draft, Written};
use super::engine::{Engine, EngineError, Upscaled};
use super::failure::Failure;
use super::report::{Done, Reporter, Timings};
use super::rows::{FileRows, FileSink};
use super::write;
use crate::interrupt::Interrupt;

/// Output pixels for each input pixel, in each direction.
const SCALE: u32 = 4;

/// Rows that are decoded at a time to see whether a file is whole.
const ROWS_AT_ONCE: usize = 64;

/// A picture that can be decoded, on its way to its output.
pub struct Picture {
    input: PathBuf,
    output: PathBuf,
    overwrite: bool,
    reader: Reader<'static>,
    /// Of the file, in bytes.
    input_bytes: u64,
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

/// Opens `input` and decodes it once from beginning to end, since damage may show in its last row;
/// makes sure that its result can be written to `output`.
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
    let file = File::open(input).map_err(|error| Failure::reading(&error))?;
    let size = file.metadata().map(|about| about.len());
    let input_bytes = size.map_err(|error| Failure::reading(&error))?;
    let reader = timings.time("decode", || {
        let mut reader = open(&file)?;
        let Info { width, height, .. } = *reader.info();
        let (width, height) = (width.saturating_mul(SCALE), height.saturating_mul(SCALE));
        imaging::check_output(format, width, height).map_err(|error| Failure::encoding(&error))?;
        let mut rows = vec![0; reader.row_bytes().saturating_mul(ROWS_AT_ONCE)];
        while reader
            .read_rows(&mut rows)
            .map_err(|error| Failure::decoding(&error))?
            > 0
        {}
        open(&file)
    })?;

    let mut warnings = reader.warnings().to_vec();
    let found = reader.info().format;
    if let Some(named) = named_otherwise(input, found) {
        warnings.push(format!("the file is named like {named} but is {found}"));
    }
    Ok(Picture {
        input: input.to_owned(),
        output: output.to_owned(),
        overwrite,
        encode: reader.encode_like(Some(format)),
        reader,
        input_bytes,
        warnings,
        timings,
    })
}

fn open(file: &File) -> Result<Reader<'static>, Failure> {
    let open = || {
        let mut again = file.try_clone().map_err(DecodeError::Read)?;
        again.rewind().map_err(DecodeError::Read)?;
        Reader::open(Box::new(again), &Limits::default())
    };
    open().map_err(|error| Failure::decoding(&error))
}

/// Upscales the picture and writes its result; no file is left unless it is complete.
pub fn upscale(
    picture: Picture,
    engine: &mut Engine,
    reporter: Reporter,
    interrupt: &Interrupt,
) -> Outcome {
    match upscale_and_write(picture, engine, reporter, interrupt) {
        Ok(()) => Outcome::Done,
        Err(EngineError::Interrupted) => Outcome::Interrupted,
        Err(EngineError::Failed(failure)) => Outcome::Failed(failure),
    }
}

fn upscale_and_write(
    picture: Picture,
    engine: &mut Engine,
    reporter: Reporter,
    interrupt: &Interrupt,
) -> Result<(), EngineError> {
    let Picture {
        input,
        output,
        overwrite,
        reader,
        input_bytes,
        encode,
        mut warnings,
        mut timings,
    } = picture;
    let info = reader.info();
    let (width, height) = (SCALE * info.width, SCALE * info.height);
    let held = held_beside_the_engine(info, input_bytes, encode.format);
    let writer = Writer::new(&encode, width, height).map_err(|error| Failure::encoding(&error))?;
    let mut sink = FileSink::new(writer, Draft::begin(&output, encode.format)?);
    let mut source = FileRows::new(reader);
    let mut progress = reporter.start(&input);
    let Upscaled {
        tiles,
        warning,
        stages,
    } = engine.upscale(&mut source, held, &mut sink, &mut progress, interrupt)?;
    drop(progress);

    timings.add("decode", source.decoding);
    for (stage, took) in stages {
        timings.add(stage, took);
    }
    let started = Instant::now();
    let ends = sink.writer.finish();
    let ends = ends.map_err(|error| Failure::encoding(&error))?;
    timings.add("encode", sink.encoding + started.elapsed());
    let started = Instant::now();
    let Written { bytes, sha256 } = sink.draft.finish(&ends, overwrite)?;
    timings.add("write", sink.writing + started.elapsed());
    warnings.extend(warning);
    reporter.done(&Done {
        input: &input,
        output: &output,
        format: encode.format.to_string(),
        width,
        height,
        bytes,
        sha256,
        tiles,
        timings_ms: timings,
        warnings,
    });
    Ok(())
}

/// What decoder and encoder hold of a picture while the engine works, in bytes, at most about: some
/// rows and bands, or all of it where a format knows no rows.
fn held_beside_the_engine(info: &Info, input_bytes: u64, to: Format) -> u64 {
    const ROWS_AND_BANDS: u64 = 32 << 20;
    let pixels = u64::from(info.width) * u64::from(info.height);
    let decoder = match info.format {
        Format::Jpeg | Format::WebP => input_bytes + 3 * pixels,
        Format::Png | Format::Tiff => 0,
    };
    // Samples of the result, and the file that they become.
    let scale = u64::from(SCALE);
    let encoder = if to.streams() {
        0
    } else {
        2 * 3 * pixels * scale * scale
    };
    ROWS_AND_BANDS + decoder + encoder
}

fn named_otherwise(path: &Path, found: Format) -> Option<Format> {
    let named = Format::from_extension(path.extension()?.to_str()?)?;
    (named != found).then_some(named)
}
