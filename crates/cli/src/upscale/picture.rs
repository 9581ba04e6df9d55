//! One picture's way: decode, upscale, encode, write; in rows, so that its height costs no memory.
//!
//! The pixels take the same way in the worker, so that both give the same bytes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use imaging::{Change, EncodeOptions, Finish, Format, Limits, Reader, SharedFile, Writer};

use super::draft::{Draft, Written};
use super::engine::{Engine, EngineError, Upscaled};
use super::failure::Failure;
use super::report::{Done, Reporter, Timings};
use super::rows::{FileRows, FileSink};
use super::{UpscaleArgs, sidecar, write};
use crate::interrupt::Interrupt;

/// Output pixels for each input pixel, in each direction.
pub const SCALE: u32 = 4;

/// Held of any picture beside the engine, in bytes: rows that are read, bands that are written.
const ROWS_AND_BANDS: u64 = 32 << 20;

/// A picture that can be decoded, on its way to its output.
pub struct Picture {
    input: PathBuf,
    output: PathBuf,
    record: Option<sidecar::Begun>,
    reader: Reader<'static>,
    finish: Finish<'static>,
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
    args: &UpscaleArgs,
) -> Result<Picture, Failure> {
    let began_at = sidecar::now();
    write::check(output, args.overwrite)?;
    if args.sidecar {
        write::check(&sidecar::path(output), args.overwrite)?;
    }
    let mut timings = Timings::default();
    let file = File::open(input).map_err(|error| Failure::reading(&error))?;
    let file = SharedFile::new(file);
    let (reader, encode) = timings.time("decode", || {
        let reader = open(&file)?;
        let encode = args.spec.file.encode(reader.encode_like(Some(format)));
        let info = reader.info();
        let (width, height) = (
            info.width.saturating_mul(SCALE),
            info.height.saturating_mul(SCALE),
        );
        let fits = encode.check(width, height);
        fits.map_err(|error| Failure::encoding(&error))?;
        let sound = reader.verify();
        sound.map_err(|error| Failure::decoding(&error))?;
        Ok((open(&file)?, encode))
    })?;

    let mut warnings = reader.warnings_in(Some(format));
    warnings.extend(reader.misnamed(&input.to_string_lossy()));
    let record = args
        .sidecar
        .then(|| sidecar::Begun::new(input, file.clone(), reader.info(), began_at));
    Ok(Picture {
        input: input.to_owned(),
        output: output.to_owned(),
        record: record.transpose()?,
        finish: Finish::new(open(&file)?, &encode),
        encode,
        reader,
        warnings,
        timings,
    })
}

fn open(file: &SharedFile) -> Result<Reader<'static>, Failure> {
    let opened = Reader::open(Box::new(file.clone()), &Limits::default());
    opened.map_err(|error| Failure::decoding(&error))
}

/// Upscales the picture and writes its result; no file is left unless it is complete.
pub fn upscale(
    picture: Picture,
    engine: &mut Engine,
    args: &UpscaleArgs,
    reporter: Reporter,
    interrupt: &Interrupt,
) -> Outcome {
    match upscale_and_write(picture, engine, args, (reporter, interrupt)) {
        Ok(()) => Outcome::Done,
        Err(EngineError::Interrupted) => Outcome::Interrupted,
        Err(EngineError::Failed(failure)) => Outcome::Failed(failure),
    }
}

fn upscale_and_write(
    picture: Picture,
    engine: &mut Engine,
    args: &UpscaleArgs,
    (reporter, interrupt): (Reporter, &Interrupt),
) -> Result<(), EngineError> {
    let Picture {
        input,
        output,
        record,
        reader,
        finish,
        mut encode,
        mut warnings,
        mut timings,
    } = picture;
    let info = reader.info();
    let (width, height) = (SCALE * info.width, SCALE * info.height);
    let carried = reader.metadata().for_result(&Change {
        format: encode.format,
        width,
        height,
        scale: SCALE,
        strip_gps: args.spec.strip_gps,
        provenance: Some(&engine.provenance(&args.spec)),
    });
    encode.metadata = carried.metadata;
    warnings.extend(carried.warnings);
    let held = ROWS_AND_BANDS + reader.held_bytes(&encode);
    let writer = Writer::new(&encode, width, height).map_err(|error| Failure::encoding(&error))?;
    let mut sink = FileSink::new(finish, writer, Draft::begin(&output, encode.format)?);
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
    let Written { bytes, sha256 } = sink.draft.finish(&ends, args.overwrite)?;
    timings.add("write", sink.writing + started.elapsed());
    warnings.extend(warning);
    let done = Done {
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
    };
    // After the result: there is no record without its image.
    if let Some(record) = record {
        let record = record.finished(&done, engine, args).to_bytes();
        write::write(&sidecar::path(&output), &record, args.overwrite)?;
    }
    reporter.done(&done);
    Ok(())
}
