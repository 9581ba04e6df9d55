//! One picture's way: decode, upscale, encode, write; in rows, so that its height costs no memory.
//!
//! The pixels take the same way in the worker, so that both give the same bytes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use imaging::{EncodeOptions, Finish, Format, SharedFile, Writer};
use upres_common::job::ErrorType;
use upres_common::sidecar::PageRecord;

use super::draft::{Draft, Written};
use super::engine::{Engine, EngineError};
use super::failure::Failure;
use super::report::{Done, Progress, Reporter, Timings};
use super::rows::{FileRows, FileSink};
use super::sheets::Sheets;
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
    format: Format,
    sheets: Sheets,
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
    let sheets = timings.time("decode", || {
        Sheets::read(file.clone(), format, &args.spec, args.limits())
    })?;
    if sheets.all.len() > 1 && (args.noise.is_some() || args.dump.is_some()) {
        let detail = "--noise and --dump are for one page: choose it with --pages";
        return Err(Failure::new(ErrorType::InputUnsupported, detail));
    }
    let first = &sheets.all[0];
    let record = args
        .sidecar
        .then(|| sidecar::Begun::new(input, file, &first.info, began_at));
    let misnamed = sheets.open(first)?.misnamed(&input.to_string_lossy());
    Ok(Picture {
        input: input.to_owned(),
        output: output.to_owned(),
        record: record.transpose()?,
        format,
        sheets,
        warnings: misnamed.into_iter().collect(),
        timings,
    })
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
        format,
        mut sheets,
        mut warnings,
        mut timings,
    } = picture;
    let (pages, said) = sheets.carry(args.spec.strip_gps, &engine.provenance(&args.spec));
    warnings.extend(said);
    let (width, height) = (pages[0].width, pages[0].height);
    let options: Vec<_> = pages.iter().map(|page| page.options.clone()).collect();
    let held = sheets.all.iter().map(|sheet| sheet.held).max();
    let held = ROWS_AND_BANDS + held.unwrap_or(0);
    let writer = Writer::of_pages(pages).map_err(|error| Failure::encoding(&error))?;
    let mut sink = FileSink::new(writer, Draft::begin(&output, format)?);
    let progress = reporter.start(&input);
    let work = Work {
        sheets: &sheets,
        options: &options,
        held,
        interrupt,
    };
    let (mut done_pages, said) = work.run(engine, &mut sink, progress, &mut timings)?;
    warnings.extend(said);

    let started = Instant::now();
    let ends = sink.writer.finish();
    let ends = ends.map_err(|error| Failure::encoding(&error))?;
    timings.add("encode", sink.encoding + started.elapsed());
    let started = Instant::now();
    let Written { bytes, sha256 } = sink.draft.finish(&ends, args.overwrite)?;
    timings.add("write", sink.writing + started.elapsed());
    let tiles = done_pages.iter().map(|page| page.tiles as usize).sum();
    if sheets.count == 1 {
        done_pages.clear();
    }
    let done = Done {
        input: &input,
        output: &output,
        format: format.to_string(),
        width,
        height,
        bytes,
        sha256,
        tiles,
        pages: done_pages,
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

/// The pages of a picture on their way through the engine, one after the other.
struct Work<'a> {
    sheets: &'a Sheets,
    options: &'a [EncodeOptions],
    /// In memory meanwhile, in bytes.
    held: u64,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    /// What was done page by page, and warnings.
    fn run(
        self,
        engine: &mut Engine,
        sink: &mut FileSink,
        mut progress: Progress,
        timings: &mut Timings,
    ) -> Result<(Vec<PageRecord>, Vec<String>), EngineError> {
        let Self { sheets, held, .. } = self;
        progress.expect(engine.tiles(sheets, held)?);
        let (mut pages, mut warnings) = (Vec::new(), Vec::new());
        for (sheet, options) in sheets.all.iter().zip(self.options) {
            sink.begin_page(Finish::new(sheets.open(sheet)?, options));
            let mut source = FileRows::new(sheets.open(sheet)?);
            let done = engine.upscale(&mut source, held, sink, &mut progress, self.interrupt)?;
            progress.begin_page(done.tiles);
            timings.add("decode", source.decoding);
            for (stage, took) in done.stages {
                timings.add(stage, took);
            }
            warnings.extend(done.warning);
            pages.push(PageRecord {
                page: sheet.number(),
                width: sheet.info.width,
                height: sheet.info.height,
                tiles: u32::try_from(done.tiles).unwrap_or(u32::MAX),
            });
        }
        Ok((pages, warnings))
    }
}
