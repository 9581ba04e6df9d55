//! Process: fetch → decode → upscale → write back, the journey on one page. Knows no broker
//! and no job state; `pull` decides what its outcome means.

use std::time::Duration;

use imaging::{Limits, Page, Writer};
use invsr::{HandOver, Spent, Start, UpscaleError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use upres_common::job::view::Progress;
use upres_common::lease::{Lease, Outcome};
use upres_common::objects::{ObjectStore, ObjectUri};

use crate::clock::Clock;
use crate::engine::{Answer, Engine, EngineStopped, Request};
use crate::failure::ProcessError;
use crate::hand_over;
use crate::lease::Held;
use crate::opened::{Opened, open};
use crate::room::{self, Room};
use crate::sidecar;
use crate::spec;
use crate::write_back::{
    self, Destination, MadeWith, ResumeState, Uploaded, WriteBack, WriteBackError, Written,
};

/// Finished bands that wait for the writer before the engine has to.
const BANDS_WAITING: usize = 4;
/// How long a drain waits for the tiles under way; then they are given up.
const TILES_MAY_TAKE: Duration = Duration::from_secs(4);
/// And how long for an engine that gives them up. One stage of a large batch may take longer.
const GIVING_UP_MAY_TAKE: Duration = Duration::from_secs(4);

/// And how long for the store to take what is unfinished: the job is to be handed back with or without it.
const LEAVING_MAY_TAKE: Duration = Duration::from_secs(4);

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
    // Who drains has no time to wait for the store before the job is handed back.
    if done.is_err() && !held.drain.is_cancelled() {
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
        let (upscale, name) = (lease.upscale.clone(), lease.input.clone());
        let opened = open(fetched.file, shop.limits, upscale, name).await?;
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

    let made_by = shop.engine.made_by();
    let (pages, mut warnings) = opened.carry(&lease.upscale, made_by);
    let first = (pages[0].width, pages[0].height);
    let format = pages[0].options.format;
    let mut record = sidecar::Begun::new(lease, &read, opened.info(), format, began_at);
    record.pages = opened.records(&lease.upscale);
    let bytes = |page: &Page| page.options.samples_bytes(page.width, page.height);
    let to = Destination {
        objects: &shop.objects,
        held,
        output: &output,
        format,
        rows: pages
            .iter()
            .fold(0, |rows, page| page.height.saturating_add(rows)),
        largest_bytes: pages.iter().map(bytes).fold(0, u64::saturating_add),
    };
    let begun = begin_or_go_on(to, made_with, pages).await?;
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

    let mut outcome = uploaded.outcome(first, progress, clock.into_laps(), warnings);
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
        (Upscaled::Suspended { left, before }, Written::Cut(writing, writer)) => {
            let leaving = writing.leave(writer, &left, before);
            let left = tokio::time::timeout(LEAVING_MAY_TAKE, leaving).await;
            left.unwrap_or_else(|_| {
                tracing::warn!("the store takes too long: the next worker gets the parts alone");
                Ok(())
            })?;
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
    /// The page, and where on it.
    start: (usize, Start),
}

/// Goes on with what an earlier attempt began, if it was made of the same input by the same engine;
/// otherwise begins. What was begun stays: until the coordinator has heard of something better, it is what
/// the job falls back on should this attempt die.
async fn begin_or_go_on<'a>(
    to: Destination<'a>,
    made_with: MadeWith,
    pages: Vec<Page>,
) -> Result<Begun<'a>, ProcessError> {
    if let Some(point) = &to.held.lease.resume {
        let state = serde_json::from_str::<ResumeState>(&point.state).ok();
        let checkpoint = state
            .filter(|state| state.made_with == made_with)
            .map(|state| state.checkpoint);
        if let Some(checkpoint) = checkpoint {
            if let Some(left) = &point.hand_over
                && let Some(found) = hand_over::find(to.objects, left, pages.clone()).await
            {
                tracing::info!(
                    row = found.writer.next_row(),
                    of = to.rows,
                    "attempt goes on with what was left"
                );
                return Ok(Begun {
                    writing: WriteBack::going_on(to, made_with, point, found.uploaded),
                    writer: found.writer,
                    start: found.start,
                });
            }
            let bytes = checkpoint.bytes;
            match Writer::resume_pages(pages.clone(), checkpoint, &[]) {
                Ok(writer) => {
                    let (page, row) = writer.place();
                    tracing::info!(row = point.next_row, of = to.rows, "attempt goes on");
                    return Ok(Begun {
                        writing: WriteBack::going_on(to, made_with, point, bytes),
                        start: (page, Start::Row(row)),
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
        writer: Writer::of_pages(pages).map_err(WriteBackError::Encode)?,
        start: (0, Start::Row(0)),
    })
}

/// What the engine did.
enum Upscaled {
    Whole {
        spent: Spent,
        /// Of the whole picture.
        progress: Progress,
    },
    /// It stopped for another worker to go on.
    Suspended {
        left: Box<HandOver>,
        /// Tiles of the pages before.
        before: usize,
    },
}

async fn upscale(
    shop: &Workshop,
    held: &Held,
    opened: Opened,
    start: (usize, Start),
    bands: mpsc::Sender<Vec<u8>>,
    clock: &mut Clock,
) -> Result<Upscaled, ProcessError> {
    let mut options = spec::options(&held.lease.upscale, shop.tile_batch_for(&held.lease))?;
    let beside = room::held_beside_the_engine(opened.held_bytes(), shop.jobs_in_flight);
    options.memory_limit = shop.room.memory.less(beside).bytes();
    let steps = options.steps_a_tile();
    let (tiles, mut changed) = watch::channel((0, 0));
    let (answer, mut answered) = oneshot::channel();
    let hurry = CancellationToken::new();
    let request = Request {
        pages: opened.into_pages(&bands),
        start,
        options,
        tiles,
        cancel: held.stop.clone(),
        suspend: held.drain.clone(),
        hurry: hurry.clone(),
        answer,
    };
    // The engine's are the last: behind them no more rows come.
    drop(bands);
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
    let mut entered = None;
    loop {
        tokio::select! {
            done = &mut answered => {
                let Answer { before, done } = done.map_err(|_| EngineStopped)?;
                let spent = match done {
                    Err(UpscaleError::Suspended(left)) => {
                        return Ok(Upscaled::Suspended { left, before });
                    }
                    Err(UpscaleError::Memory { needed, .. }) => {
                        return Err(shop.room.memory.needing(needed + beside).into());
                    }
                    done => done?,
                };
                let (_, total) = *changed.borrow();
                let progress = progress(total, total, total * steps);
                held.progress.send_replace(Some(progress));
                return Ok(Upscaled::Whole { spent, progress });
            }
            Ok(()) = changed.changed() => {
                // The first word from the engine ends the wait for the image before.
                entered.get_or_insert_with(|| {
                    clock.lap("wait");
                    held.enter_engine()
                });
                held.note_sign();
                let (done, total) = *changed.borrow_and_update();
                held.progress.send_replace(Some(progress(done, total, total * steps)));
            }
            // Not waited for: the engine notices at its next tile.
            () = held.stop.cancelled() => return Err(UpscaleError::Cancelled.into()),
            () = &mut drain_is_over => {
                tracing::warn!("the engine did not stop in time: tiles that are in no part are lost");
                return Err(UpscaleError::Cancelled.into());
            }
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
