//! The one OS thread that owns the device, behind a bounded channel. A full channel is backpressure:
//! whoever asks waits.

use std::ops::ControlFlow;

use anyhow::Context;
use invsr::{Observer, Options, RgbImage, Upscale, UpscaleError, Upscaled};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Images that wait at the device's door, decoded. More would only take memory.
const WAITING: usize = 1;

/// A handle to the engine's thread. Clones share it; the thread ends with the last.
#[derive(Debug, Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    image: RgbImage,
    options: Options,
    tiles: watch::Sender<(usize, usize)>,
    cancel: CancellationToken,
    answer: oneshot::Sender<Result<Upscaled, UpscaleError>>,
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
        make: impl FnOnce() -> anyhow::Result<Box<dyn Upscale>> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (requests, mut queue) = mpsc::channel::<Request>(WAITING);
        let (ready, made) = oneshot::channel();
        let serve = move || {
            let mut upscale = match make() {
                Ok(upscale) => upscale,
                Err(error) => return drop(ready.send(Err(error))),
            };
            if ready.send(Ok(())).is_err() {
                return;
            }
            while let Some(request) = queue.blocking_recv() {
                request.serve(upscale.as_mut());
            }
        };
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(serve)?;
        made.await
            .context("the engine's thread panicked while loading")??;
        Ok(Self { requests })
    }

    /// Upscales one image. `tiles` receives (done, total); `cancel` acts at the next tile.
    ///
    /// # Errors
    /// The outer error when the thread is gone, the inner one when this image failed.
    pub async fn upscale(
        &self,
        image: RgbImage,
        options: Options,
        tiles: watch::Sender<(usize, usize)>,
        cancel: CancellationToken,
    ) -> Result<Result<Upscaled, UpscaleError>, EngineStopped> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            image,
            options,
            tiles,
            cancel,
            answer,
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| EngineStopped)?;
        answered.await.map_err(|_| EngineStopped)
    }
}

impl Request {
    fn serve(self, upscale: &mut dyn Upscale) {
        let mut observer = Reporter {
            tiles: &self.tiles,
            cancel: &self.cancel,
        };
        let result = upscale.upscale(&self.image, &self.options, &mut observer);
        // Whoever asked may have left: the job was cancelled or handed back.
        drop(self.answer.send(result));
    }
}

/// Passes progress out of the engine's thread and the cancellation into it.
struct Reporter<'a> {
    tiles: &'a watch::Sender<(usize, usize)>,
    cancel: &'a CancellationToken,
}

impl Observer for Reporter<'_> {
    fn progress(&mut self, progress: invsr::Progress) -> ControlFlow<()> {
        self.tiles
            .send_replace((progress.tiles_done, progress.tiles_total));
        if self.cancel.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
