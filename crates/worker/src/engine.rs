//! The one OS thread that owns the device, behind a bounded channel. A full channel is backpressure:
//! whoever asks waits.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context;
use invsr::{Observer, Options, RowSink, RowSource, Spent, Start, Upscale, UpscaleError};
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
}

/// One picture, from its rows to rows.
pub(crate) struct Request {
    /// Asked for rows on the engine's thread.
    pub(crate) source: Box<dyn RowSource + Send>,
    pub(crate) start: Start,
    pub(crate) options: Options,
    /// Given rows on the engine's thread.
    pub(crate) sink: Box<dyn RowSink + Send>,
    /// Hears (done, total).
    pub(crate) tiles: watch::Sender<(usize, usize)>,
    /// Acts at the next stage of the networks; nothing is kept.
    pub(crate) cancel: CancellationToken,
    /// Acts at the next tile; what is done is kept.
    pub(crate) suspend: CancellationToken,
    /// Gives the tiles under way up, so that a wish to suspend is not kept waiting for them.
    pub(crate) hurry: CancellationToken,
    pub(crate) answer: oneshot::Sender<Result<Spent, UpscaleError>>,
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
                request.serve(upscale.as_mut());
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

    /// Hands a picture to the thread, whose answer comes through the request's channel.
    pub(crate) async fn upscale(&self, request: Request) -> Result<(), EngineStopped> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| EngineStopped)
    }
}

impl Request {
    fn serve(mut self, upscale: &mut dyn Upscale) {
        let mut observer = Reporter {
            tiles: &self.tiles,
            cancel: &self.cancel,
            suspend: &self.suspend,
            hurry: &self.hurry,
        };
        let result = upscale.upscale_rows(
            self.source.as_mut(),
            self.start,
            &self.options,
            self.sink.as_mut(),
            &mut observer,
        );
        // Whoever asked may have left: the job was cancelled or handed back.
        drop(self.answer.send(result));
    }
}

/// Passes progress out of the engine's thread and the cancellation into it.
struct Reporter<'a> {
    tiles: &'a watch::Sender<(usize, usize)>,
    cancel: &'a CancellationToken,
    suspend: &'a CancellationToken,
    hurry: &'a CancellationToken,
}

impl Observer for Reporter<'_> {
    fn progress(&mut self, progress: invsr::Progress) -> ControlFlow<()> {
        self.tiles
            .send_replace((progress.tiles_done, progress.tiles_total));
        if self.cancel.is_cancelled() || self.hurry.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn suspend(&mut self) -> bool {
        self.suspend.is_cancelled() && !self.cancel.is_cancelled()
    }
}
