//! The one OS thread that owns the device, behind a bounded channel. A full channel is backpressure:
//! whoever asks waits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use imaging::DecodeError;
use invsr::{
    Fault, Observer, Options, RowSink, RowSource, Spent, Start, Upscale, UpscaleError, Widened,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Images that wait at the device's door, decoded. More would only take memory.
const WAITING: usize = 1;

/// What [`Engine::start`] is to run.
pub struct Loaded {
    /// The engine.
    pub upscale: Box<dyn Upscale>,
    /// Names all that decides over the pixels it makes: model, type of device, precision, version. Only a
    /// worker with the same may go on with a picture that another began.
    pub identity: String,
    /// What a result says of the engine that made it.
    pub made_by: MadeBy,
}

/// An engine, for people and for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// The model's short name.
    pub model: String,
    /// SHA-256 of the model's manifest, lower-case hex, where it has one.
    pub model_sha256: Option<String>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// `f32`, `bf16` or `f16`.
    pub dtype: String,
}

/// A handle to the engine's thread. Clones share it; the thread ends with the last.
#[derive(Debug, Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    identity: Arc<str>,
    made_by: Arc<MadeBy>,
    /// Seconds a tile-step, of the picture before.
    pace: watch::Receiver<Option<f64>>,
}

/// One page, from its rows to rows; both ends are met on the engine's thread.
pub(crate) struct Sheet {
    pub(crate) source: Box<dyn RowSource>,
    pub(crate) sink: Box<dyn RowSink>,
}

/// A page that waits for its turn: only one lies in memory.
pub(crate) struct Closed {
    /// Width and height, in pixels of the input.
    pub(crate) size: (u32, u32),
    /// Called on the engine's thread.
    pub(crate) open: Box<dyn FnOnce() -> Result<Sheet, DecodeError> + Send>,
}

/// One picture, page by page.
pub(crate) struct Request {
    /// All pages.
    pub(crate) pages: Vec<Closed>,
    /// The page to begin with, and where on it.
    pub(crate) start: (usize, Start),
    pub(crate) options: Options,
    /// Hears (done, total) of all pages.
    pub(crate) tiles: watch::Sender<(usize, usize)>,
    /// Acts at the next stage of the networks; nothing is kept.
    pub(crate) cancel: CancellationToken,
    /// Acts at the next tile; what is done is kept.
    pub(crate) suspend: CancellationToken,
    /// Gives the tiles under way up, so that a wish to suspend is not kept waiting for them.
    pub(crate) hurry: CancellationToken,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// How a request ended.
pub(crate) struct Answer {
    /// Tiles of pages that were finished, however the rest went.
    pub(crate) before: usize,
    /// Of all pages.
    pub(crate) done: Result<Spent, UpscaleError>,
}

/// The engine's thread has ended: it panicked, or the process stops.
#[derive(Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineStopped;

impl Engine {
    /// Starts the thread and makes the engine on it, because a device belongs to its thread.
    ///
    /// # Errors
    /// Whatever `make` fails with.
    pub async fn start(
        make: impl FnOnce() -> anyhow::Result<Loaded> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (requests, mut queue) = mpsc::channel::<Request>(WAITING);
        let (ready, made) = oneshot::channel();
        let (measured, pace) = watch::channel(None);
        let serve = move || {
            let Loaded {
                mut upscale,
                identity,
                made_by,
            } = match make() {
                Ok(loaded) => loaded,
                Err(error) => return drop(ready.send(Err(error))),
            };
            if ready.send(Ok((identity, made_by))).is_err() {
                return;
            }
            while let Some(request) = queue.blocking_recv() {
                match request.serve(upscale.as_mut()) {
                    // Those who wait hear that the engine has stopped: their jobs have nothing to do with it.
                    Served::DeviceLost => return,
                    Served::At(Some(seconds)) => drop(measured.send_replace(Some(seconds))),
                    Served::At(None) => {}
                }
            }
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(serve)?;
        let (identity, made_by) = made
            .await
            .context("the engine's thread panicked while loading")??;
        Ok(Self {
            requests,
            identity: identity.into(),
            made_by: Arc::new(made_by),
            pace,
        })
    }

    /// See [`Loaded::identity`].
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// See [`Loaded::made_by`].
    pub(crate) fn made_by(&self) -> &MadeBy {
        &self.made_by
    }

    /// How long a tile-step took in the picture before; `None` until one was made.
    pub(crate) fn seconds_a_tile_step(&self) -> Option<f64> {
        *self.pace.borrow()
    }

    /// Hands a picture to the thread, whose answer comes through the request's channel.
    pub(crate) async fn upscale(&self, request: Request) -> Result<(), EngineStopped> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| EngineStopped)
    }
}

/// How a request left the engine.
enum Served {
    /// Nothing more can be done here.
    DeviceLost,
    /// Ready for the next; how long a tile-step took, if there were any.
    At(Option<f64>),
}

impl Request {
    fn serve(mut self, upscale: &mut dyn Upscale) -> Served {
        let (began, mut spent) = (Instant::now(), Spent::default());
        let done = self.upscale(upscale, &mut spent);
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        let tile_steps = spent.tile_steps as f64;
        let pace = (tile_steps > 0.0).then(|| began.elapsed().as_secs_f64() / tile_steps);
        let is_lost = matches!(&done, Err(error) if matches!(error.fault(), Fault::Device));
        let answer = Answer {
            before: spent.tiles,
            done: done.map(|()| spent),
        };
        // Whoever asked may have left: the job was cancelled or handed back.
        drop(self.answer.send(answer));
        match is_lost {
            true => Served::DeviceLost,
            false => Served::At(pace),
        }
    }

    /// Adds to `spent` what each page took.
    fn upscale(
        &mut self,
        upscale: &mut dyn Upscale,
        spent: &mut Spent,
    ) -> Result<(), UpscaleError> {
        let mut tiles = Vec::with_capacity(self.pages.len());
        for Closed { size, .. } in &self.pages {
            // A page that the engine will not take is known before any is worked on.
            tiles.push(upscale.plan(size.0, size.1, &self.options)?.tiles);
        }
        let (first, start) = std::mem::replace(&mut self.start, (0, Start::Row(0)));
        let mut start = Some(start);
        for (index, page) in self.pages.drain(..).enumerate().skip(first) {
            let mut reporter = Reporter {
                tiles: &self.tiles,
                before: tiles[..index].iter().sum(),
                all: tiles.iter().sum(),
                cancel: &self.cancel,
                suspend: &self.suspend,
                hurry: &self.hurry,
                // Else a picture of pages with one tile each would never meet a place to stop.
                stops_at_once: index > first && self.suspend.is_cancelled(),
            };
            let opened = (page.open)().map_err(|error| UpscaleError::Source(Box::new(error)));
            let Sheet {
                mut source,
                mut sink,
            } = opened?;
            let start = start.take().unwrap_or(Start::Row(0));
            let (source, sink) = (source.as_mut(), sink.as_mut());
            let page = upscale.upscale_rows(source, start, &self.options, sink, &mut reporter)?;
            add(spent, page);
        }
        Ok(())
    }
}

/// Adds what a page took.
fn add(all: &mut Spent, page: Spent) {
    let (sum, own) = (&mut all.timings, page.timings);
    for (sum, own) in [
        (&mut sum.predictor, own.predictor),
        (&mut sum.vae_encode, own.vae_encode),
        (&mut sum.unet, own.unet),
        (&mut sum.vae_decode, own.vae_decode),
        (&mut sum.blend, own.blend),
        (&mut sum.color_fix, own.color_fix),
    ] {
        *sum += own;
    }
    all.tiles += page.tiles;
    all.tile_steps += page.tile_steps;
    all.widened = match (all.widened, page.widened) {
        // Counted on the first page that has any.
        (Some(first), Some(more)) => Some(Widened {
            tiles: first.tiles + more.tiles,
            ..first
        }),
        (first, more) => first.or(more),
    };
}

/// Passes progress out of the engine's thread and the cancellation into it.
struct Reporter<'a> {
    tiles: &'a watch::Sender<(usize, usize)>,
    /// Tiles of the pages before this one.
    before: usize,
    /// Tiles of all pages.
    all: usize,
    cancel: &'a CancellationToken,
    suspend: &'a CancellationToken,
    hurry: &'a CancellationToken,
    /// Before its first tile.
    stops_at_once: bool,
}

impl Observer for Reporter<'_> {
    fn progress(&mut self, progress: invsr::Progress) -> ControlFlow<()> {
        self.tiles
            .send_replace((self.before + progress.tiles_done, self.all));
        if self.cancel.is_cancelled() || self.hurry.is_cancelled() || self.stops_at_once {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn suspend(&mut self) -> bool {
        self.suspend.is_cancelled() && !self.cancel.is_cancelled()
    }
}
