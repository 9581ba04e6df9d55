//! Process: fetch → decode → upscale → write back, the journey on one page. Knows no broker
//! and no job state; `pull` decides what its outcome means.

use std::fs::File;
use std::time::Duration;

use imaging::{DecodeError, EncodeOptions, Finish, Limits, Reader, SharedFile, Writer};
use invsr::{HandOver, Spent, Start, UpscaleError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use upres_common::job::UpscaleSpec;
use upres_common::job::view::Progress;
use upres_common::lease::{Lease, Outcome};
use upres_common::objects::{ObjectStore, ObjectUri};

use crate::clock::Clock;
use crate::engine::{Engine, EngineStopped, Request};
use crate::failure::ProcessError;
use crate::hand_over;
use crate::lease::Held;
use crate::room::{self, Room};
use crate::rows::{Bands, FileRows};
use crate::sidecar;
use crate::spec::{self, SCALE};
use crate::write_back::{
    self, Destination, MadeWith, ResumeState, Uploaded, WriteBack, WriteBackError, Written,
};

/// Finished bands that wait for the writer before the engine has to.
const BANDS_WAITING: usize = 4;
/// How long a drain waits for the tiles under way; then they are given up.
const TILES_MAY_TAKE: Duration = Duration::from_secs(4);
/// And how long for an engine that gives them up. One stage of a large batch may take longer.
const GIVING_UP_MAY_TAKE: Duration = Duration::from_secs(4);

/// What a worker works with.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) objects: ObjectStore,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) room: Room,
    pub(crate) jobs_in_flight: usize,
}

impl Workshop {
    /// Tiles at once for this job: what is configured, or less after it ran out of memory.
    pub(crate) fn tile_batch_for(&self, lease: &Lease) -> usize {
        let limit = lease
            .tile_batch
            .and_then(|tiles| usize::try_from(tiles).ok());
        limit.map_or(self.room.tile_batch, |limit| {
            self.room.tile_batch.min(limit)
        })
    }
}

/// Takes one held job from its input to an upload that waits to be published. Work that ended before may
/// leave an upload behind: if `held.resume` names it, others may have heard of it, and what becomes of it is
/// for the coordinator to say.
pub(crate) async fn process(shop: &Workshop, held: &Held) -> Result<Outcome, ProcessError> {
    let done = upscale_and_upload(shop, held).await;
    if done.is_err() {
        let upload = held.upload_id.borrow().clone();
        if let Some(upload_id) = upload.filter(|_| held.resume.borrow().is_none()) {
            write_back::abort(&shop.objects, &address(&held.lease.output)?, &upload_id).await;
        }
    }
    done
}

async fn upscale_and_upload(shop: &Workshop, held: &Held) -> Result<Outcome, ProcessError> {
    let lease = &held.lease;
    let began_at = sidecar::now();
    let mut clock = Clock::default();
    let input: ObjectUri = address(&lease.input)?;
    let output: ObjectUri = address(&lease.output)?;

    let fetching = async {
        let fetched = shop.objects.fetch(&input, shop.limits.max_bytes).await;
        let fetched = fetched.map_err(ProcessError::Fetch)?;
        clock.lap("fetch");
        spec::check_input(&lease.upscale, &fetched.read.sha256)?;
        let opened = open(fetched.file, shop.limits, lease.upscale.clone()).await?;
        clock.lap("decode");
        Ok::<_, ProcessError>((opened, fetched.read))
    };
    let (opened, read) = tokio::select! {
        fetched = fetching => fetched?,
        () = stopped(held) => return Err(UpscaleError::Cancelled.into()),
    };
    let made_with = MadeWith {
        engine: shop.engine.identity().to_owned(),
        input_sha256: read.sha256.clone(),
    };

    let mut options = opened.encode.clone();
    let mut warnings = opened.warnings(&lease.input);
    let (width, height) = opened.enlarged();
    let made_by = shop.engine.made_by();
    let carried = spec::carry(
        &opened.reader,
        &lease.upscale,
        made_by,
        &options,
        (width, height),
    );
    options.metadata = carried.metadata;
    warnings.extend(carried.warnings);
    let record = sidecar::Begun::new(lease, &read, opened.reader.info(), &options, began_at);
    let to = Destination {
        objects: &shop.objects,
        held,
        output: &output,
        format: options.format,
        height,
        largest_bytes: options.samples_bytes(width, height),
    };
    let begun = begin_or_go_on(to, made_with, &options, width).await?;
    let (bands, rows) = mpsc::channel(BANDS_WAITING);
    let upscaling = upscale(shop, held, opened, begun.start, bands, &mut clock);
    let writing = async { Ok::<_, ProcessError>(begun.writing.run(begun.writer, rows).await?) };
    let (upscaled, written) = tokio::try_join!(upscaling, writing)?;
    let (spent, progress, uploaded) = whole(upscaled, written).await?;
    clock.lap("upscale");
    clock.add_stages(&spent.timings);
    warnings.extend(spent.widened.map(|widened| widened.to_string()));
    clock.add("encode", uploaded.encoding);
    clock.add("write_back", uploaded.uploading);

    let mut outcome = uploaded.outcome((width, height), progress, clock.into_laps(), warnings);
    outcome.input = Some(read);
    outcome.sidecar = record.finished(lease, made_by, &outcome);
    Ok(outcome)
}

/// What was made, if all of it was; what a suspended engine left goes to where another finds it.
async fn whole(
    upscaled: Upscaled,
    written: Written<'_>,
) -> Result<(Spent, Progress, Uploaded), ProcessError> {
    match (upscaled, written) {
        (Upscaled::Whole { spent, progress }, Written::Whole(uploaded)) => {
            tracing::info!(
                computed = spent.tiles,
                of = progress.tiles_total,
                "tiles done"
            );
            Ok((spent, progress, uploaded))
        }
        (Upscaled::Suspended(engine), Written::Cut(writing, writer)) => {
            writing.leave(writer, &engine).await?;
            Err(UpscaleError::Cancelled.into())
        }
        // The engine gave all rows, and then did not say so; or the other way round.
        _ => Err(EngineStopped.into()),
    }
}

/// Either when the work is not wanted any more or when somebody else is to do it.
async fn stopped(held: &Held) {
    tokio::select! {
        () = held.stop.cancelled() => {}
        () = held.drain.cancelled() => {}
    }
}

/// A file on its way, and where the engine begins.
struct Begun<'a> {
    writing: WriteBack<'a>,
    writer: Writer,
    start: Start,
}

/// Goes on with what an earlier attempt began, if it was made of the same input by the same engine;
/// otherwise begins. What was begun stays: until the coordinator has heard of something better, it is what
/// the job falls back on should this attempt die.
async fn begin_or_go_on<'a>(
    to: Destination<'a>,
    made_with: MadeWith,
    options: &EncodeOptions,
    width: u32,
) -> Result<Begun<'a>, ProcessError> {
    if let Some(point) = &to.held.lease.resume {
        let state = serde_json::from_str::<ResumeState>(&point.state).ok();
        let checkpoint = state
            .filter(|state| state.made_with == made_with)
            .map(|state| state.checkpoint);
        if let Some(checkpoint) = checkpoint {
            if let Some(left) = &point.hand_over
                && let Some(found) =
                    hand_over::find(to.objects, left, options, (width, to.height)).await
            {
                tracing::info!(
                    row = found.writer.next_row(),
                    of = to.height,
                    "attempt goes on with what was left"
                );
                return Ok(Begun {
                    writing: WriteBack::going_on(to, made_with, point, found.uploaded),
                    writer: found.writer,
                    start: found.start,
                });
            }
            let bytes = checkpoint.bytes;
            match Writer::resume(options, width, to.height, checkpoint, &[]) {
                Ok(writer) => {
                    tracing::info!(row = point.next_row, of = to.height, "attempt goes on");
                    return Ok(Begun {
                        writing: WriteBack::going_on(to, made_with, point, bytes),
                        start: Start::Row(writer.next_row()),
                        writer,
                    });
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "attempt cannot go on"
                ),
            }
        }
    }
    Ok(Begun {
        writing: WriteBack::new(to, made_with),
        writer: Writer::new(options, width, to.height).map_err(WriteBackError::Encode)?,
        start: Start::Row(0),
    })
}

/// An input, for the engine and for what brings the engine's rows back.
struct Opened {
    reader: Reader<'static>,
    finish: Finish<'static>,
    encode: EncodeOptions,
}

impl Opened {
    /// What a careful person should know, of the file and of what becomes of it.
    fn warnings(&self, name: &str) -> Vec<String> {
        let mut warnings = self.reader.warnings_in(Some(self.encode.format));
        warnings.extend(self.reader.misnamed(name));
        warnings
    }

    /// Width and height of the result, in pixels.
    fn enlarged(&self) -> (u32, u32) {
        let info = self.reader.info();
        (SCALE * info.width, SCALE * info.height)
    }
}

/// Opens the input, on a thread for blocking work. Before any time of the device is spent it checks that
/// the result will fit its format, and reads the file through once: damage may show in its last row.
async fn open(file: File, limits: Limits, upscale: UpscaleSpec) -> Result<Opened, ProcessError> {
    let panicked = DecodeError::NotAnImage("it made the decoder panic").into();
    let opened = tokio::task::spawn_blocking(move || {
        let file = SharedFile::new(file);
        let open = || Reader::open(Box::new(file.clone()), &limits);
        let reader = open()?;
        let info = reader.info();
        let (width, height) = (
            info.width.saturating_mul(SCALE),
            info.height.saturating_mul(SCALE),
        );
        let options = spec::encode(&reader, &upscale);
        options.check(width, height).map_err(ProcessError::Format)?;
        reader.verify()?;
        Ok(Opened {
            reader: open()?,
            finish: Finish::new(open()?, &options),
            encode: options,
        })
    });
    opened.await.unwrap_or(Err(panicked))
}

/// What the engine did.
enum Upscaled {
    Whole {
        spent: Spent,
        /// Of the whole picture.
        progress: Progress,
    },
    /// It stopped for another worker to go on.
    Suspended(Box<HandOver>),
}

async fn upscale(
    shop: &Workshop,
    held: &Held,
    opened: Opened,
    start: Start,
    bands: mpsc::Sender<Vec<u8>>,
    clock: &mut Clock,
) -> Result<Upscaled, ProcessError> {
    let mut options = spec::options(&held.lease.upscale, shop.tile_batch_for(&held.lease))?;
    let beside = room::held_beside_the_engine(&opened.reader, &opened.encode, shop.jobs_in_flight);
    options.memory_limit = shop.room.memory.less(beside).bytes();
    let steps = options.steps_a_tile();
    let (tiles, mut changed) = watch::channel((0, 0));
    let (answer, mut answered) = oneshot::channel();
    let hurry = CancellationToken::new();
    let request = Request {
        source: Box::new(FileRows(opened.reader)),
        start,
        options,
        sink: Box::new(Bands {
            finish: opened.finish,
            to: bands,
        }),
        tiles,
        cancel: held.stop.clone(),
        suspend: held.drain.clone(),
        hurry: hurry.clone(),
        answer,
    };
    tokio::select! {
        handed_over = shop.engine.upscale(request) => handed_over?,
        () = stopped(held) => return Err(UpscaleError::Cancelled.into()),
    }
    let drain_is_over = async {
        held.drain.cancelled().await;
        tokio::time::sleep(TILES_MAY_TAKE).await;
        hurry.cancel();
        tokio::time::sleep(GIVING_UP_MAY_TAKE).await;
    };
    tokio::pin!(drain_is_over);
    let mut begun = false;
    loop {
        tokio::select! {
            done = &mut answered => {
                let spent = match done.map_err(|_| EngineStopped)? {
                    Err(UpscaleError::Suspended(left)) => return Ok(Upscaled::Suspended(left)),
                    Err(UpscaleError::Memory { needed, .. }) => {
                        return Err(shop.room.memory.needing(needed + beside).into());
                    }
                    done => done?,
                };
                let (_, total) = *changed.borrow();
                let progress = progress(total, total, total * steps);
                return Ok(Upscaled::Whole { spent, progress });
            }
            Ok(()) = changed.changed() => {
                // The first word from the engine ends the wait for the image before.
                if !std::mem::replace(&mut begun, true) {
                    clock.lap("wait");
                }
                let (done, total) = *changed.borrow_and_update();
                held.progress.send_replace(Some(progress(done, total, total * steps)));
            }
            // Not waited for: the engine notices at its next tile.
            () = held.stop.cancelled() => return Err(UpscaleError::Cancelled.into()),
            () = &mut drain_is_over => return Err(UpscaleError::Cancelled.into()),
        }
    }
}

fn address(text: &str) -> Result<ObjectUri, ProcessError> {
    text.parse()
        .map_err(|error: upres_common::objects::AddressError| {
            ProcessError::Lease(error.to_string())
        })
}

fn progress(done: usize, total: usize, tile_steps: usize) -> Progress {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Progress {
        tiles: count(done),
        tiles_total: count(total),
        tile_steps_total: count(tile_steps),
    }
}
