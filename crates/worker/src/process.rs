//! Process: fetch → decode → upscale → encode → write back, the journey on one page. Knows no broker
//! and no job state; `pull` decides what its outcome means.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imaging::{DecodeError, Decoded, EncodeError, Format, Limits, Pixels};
use invsr::{Fault, Options, RgbImage, Schedule, Timings, UpscaleError, Upscaled};
use tokio::sync::watch;
use upres_common::job::spec::{ColorFix, OutputFormat};
use upres_common::job::view::Progress;
use upres_common::job::{ErrorType, JobError, UpscaleSpec};
use upres_common::lease::{Lease, Outcome};
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri};

use crate::engine::{Engine, EngineStopped};
use crate::lease::Held;
use crate::write_back::write_back;

/// The engine multiplies each side by this.
const SCALE: u32 = 4;

/// What a worker works with.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) objects: ObjectStore,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) tile_batch: usize,
}

impl Workshop {
    /// Tiles at once for this job: what is configured, or less after it ran out of memory.
    pub(crate) fn tile_batch_for(&self, lease: &Lease) -> usize {
        let limit = lease
            .tile_batch
            .and_then(|tiles| usize::try_from(tiles).ok());
        limit.map_or(self.tile_batch, |limit| self.tile_batch.min(limit))
    }
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("fetch the input")]
    Fetch(#[source] ObjectError),
    #[error("decode the input")]
    Decode(#[from] DecodeError),
    #[error("the result does not fit its format")]
    Format(#[source] EncodeError),
    #[error("upscale")]
    Upscale(#[from] UpscaleError),
    #[error("encode the result")]
    Encode(#[source] EncodeError),
    #[error("the encoder panicked")]
    EncoderPanicked,
    #[error("write the result back")]
    WriteBack(#[source] ObjectError),
    #[error("the lease holds what this program cannot read: {0}")]
    Lease(String),
    #[error(transparent)]
    Engine(#[from] EngineStopped),
}

impl ProcessError {
    /// What the coordinator is told. `None`: the work was stopped on purpose.
    pub(crate) fn report(&self) -> Option<JobError> {
        let (error_type, detail) = match self {
            Self::Fetch(error) => (fetch_type(error), error.to_string()),
            Self::Decode(error) => (decode_type(error), error.to_string()),
            Self::Format(error) => (ErrorType::InputTooLarge, error.to_string()),
            Self::Upscale(error) => (upscale_type(error)?, with_sources(error)),
            Self::Encode(error) => (ErrorType::Engine, with_sources(error)),
            Self::EncoderPanicked => (ErrorType::Engine, self.to_string()),
            Self::WriteBack(ObjectError::Forbidden(_)) => (
                ErrorType::OutputForbidden,
                "the object store refuses the worker to write under the output's address"
                    .to_owned(),
            ),
            Self::WriteBack(error) => (ErrorType::Storage, error.to_string()),
            Self::Lease(detail) => (ErrorType::InputUnsupported, detail.clone()),
            Self::Engine(error) => (ErrorType::DeviceLost, error.to_string()),
        };
        Some(JobError::new(error_type, detail))
    }

    /// Whether this process can do no further work.
    pub(crate) fn is_device_lost(&self) -> bool {
        match self {
            Self::Engine(_) => true,
            Self::Upscale(error) => matches!(error.fault(), Fault::Device),
            _ => false,
        }
    }
}

fn fetch_type(error: &ObjectError) -> ErrorType {
    match error {
        ObjectError::NotFound(_) => ErrorType::InputNotFound,
        ObjectError::Forbidden(_) => ErrorType::InputForbidden,
        ObjectError::TooLarge { .. } => ErrorType::InputTooLarge,
        ObjectError::Unavailable { .. } => ErrorType::Storage,
    }
}

fn decode_type(error: &DecodeError) -> ErrorType {
    match error.reason() {
        "storage" => ErrorType::Storage,
        "too_large" => ErrorType::InputTooLarge,
        "unsupported" => ErrorType::InputUnsupported,
        _ => ErrorType::InputUnreadable,
    }
}

fn upscale_type(error: &UpscaleError) -> Option<ErrorType> {
    match error.fault() {
        Fault::Input => Some(ErrorType::InputUnsupported),
        Fault::Moment => Some(ErrorType::OutOfMemory),
        Fault::Device => Some(ErrorType::DeviceLost),
        Fault::Engine => Some(ErrorType::Engine),
        Fault::Cancelled => None,
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Takes one held job from its input to an upload that waits to be published.
pub(crate) async fn process(shop: &Workshop, held: &Held) -> Result<Outcome, ProcessError> {
    let lease = &held.lease;
    let mut clock = Clock::default();
    let input: ObjectUri = address(&lease.input)?;
    let output: ObjectUri = address(&lease.output)?;

    let file = shop
        .objects
        .get(&input, shop.limits.max_bytes)
        .await
        .map_err(ProcessError::Fetch)?;
    clock.lap("fetch");
    let format = output_format(lease.upscale.format);
    let decoded = decode(file, shop.limits, format).await?;
    clock.lap("decode");
    let upscaled = upscale(shop, held, &decoded, &mut clock).await?;
    clock.lap("upscale");
    clock.add_stages(&upscaled.timings);
    let progress = progress_of(&upscaled);
    let (width, height) = (signed(upscaled.image.width), signed(upscaled.image.height));
    let warnings = decoded.warnings.clone();
    let (result, media_type) = encode(decoded, upscaled, format).await?;
    clock.lap("encode");
    let uploaded = write_back(&shop.objects, held, &output, media_type, result)
        .await
        .map_err(ProcessError::WriteBack)?;
    clock.lap("write_back");

    Ok(Outcome {
        upload_id: uploaded.upload_id,
        parts: uploaded.parts,
        sha256: uploaded.sha256,
        bytes: uploaded.bytes,
        width,
        height,
        progress,
        timings: clock.laps,
        warnings,
    })
}

/// Decodes on a thread for blocking work, and checks that the result will fit its format before any
/// time of the device is spent.
async fn decode(
    file: Bytes,
    limits: Limits,
    format: Option<Format>,
) -> Result<Decoded, ProcessError> {
    let panicked = DecodeError::NotAnImage("it made the decoder panic").into();
    blocking(panicked, move || {
        let info = imaging::probe(&file, &limits)?;
        let (width, height) = (
            info.width.saturating_mul(SCALE),
            info.height.saturating_mul(SCALE),
        );
        imaging::check_output(format.unwrap_or(info.format), width, height)
            .map_err(ProcessError::Format)?;
        Ok(imaging::decode(&file, &limits)?)
    })
    .await
}

async fn upscale(
    shop: &Workshop,
    held: &Held,
    decoded: &Decoded,
    clock: &mut Clock,
) -> Result<Upscaled, ProcessError> {
    let options = options(&held.lease.upscale, shop.tile_batch_for(&held.lease))?;
    let steps = options.schedule.timesteps().len();
    let (width, height) = (decoded.info.width, decoded.info.height);
    let image = RgbImage {
        width,
        height,
        data: decoded.pixels.to_unit(),
    };
    let (tiles, mut changed) = watch::channel((0, 0));
    let work = shop
        .engine
        .upscale(image, options, tiles, held.stop.clone());
    tokio::pin!(work);
    let mut begun = false;
    loop {
        tokio::select! {
            done = &mut work => return Ok(done??),
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
        }
    }
}

async fn encode(
    decoded: Decoded,
    upscaled: Upscaled,
    format: Option<Format>,
) -> Result<(Bytes, &'static str), ProcessError> {
    blocking(ProcessError::EncoderPanicked, move || {
        let options = decoded.encode_like(format);
        let image = upscaled.image;
        let pixels = Pixels::from_unit(image.width, image.height, &image.data);
        let file = imaging::encode(&pixels, &options).map_err(ProcessError::Encode)?;
        Ok((Bytes::from(file), options.format.media_type()))
    })
    .await
}

/// A panic in a codec ends this attempt, not the process.
async fn blocking<T: Send + 'static>(
    panicked: ProcessError,
    work: impl FnOnce() -> Result<T, ProcessError> + Send + 'static,
) -> Result<T, ProcessError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(panicked))
}

/// The job's settings in the engine's words.
fn options(spec: &UpscaleSpec, tile_batch: usize) -> Result<Options, ProcessError> {
    let schedule = Schedule::new(spec.timesteps.as_slice());
    Ok(Options {
        schedule: schedule.map_err(|error| ProcessError::Lease(error.to_string()))?,
        seed: spec.seed,
        tile_px: spec.tile,
        tile_batch,
        color_fix: match spec.color_fix {
            ColorFix::None => invsr::ColorFix::None,
            ColorFix::Wavelet => invsr::ColorFix::Wavelet,
            ColorFix::Adain => invsr::ColorFix::AdaIn,
            ColorFix::Ycbcr => invsr::ColorFix::YCbCr,
        },
        noise: None,
    })
}

/// `None`: the input's.
fn output_format(format: OutputFormat) -> Option<Format> {
    match format {
        OutputFormat::Keep => None,
        OutputFormat::Png => Some(Format::Png),
        OutputFormat::Tiff => Some(Format::Tiff),
        OutputFormat::Jpeg => Some(Format::Jpeg),
        OutputFormat::Webp => Some(Format::WebP),
    }
}

fn address(text: &str) -> Result<ObjectUri, ProcessError> {
    text.parse()
        .map_err(|error: upres_common::objects::AddressError| {
            ProcessError::Lease(error.to_string())
        })
}

fn progress_of(upscaled: &Upscaled) -> Progress {
    progress(upscaled.tiles, upscaled.tiles, upscaled.tile_steps)
}

fn progress(done: usize, total: usize, tile_steps: usize) -> Progress {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Progress {
        tiles: count(done),
        tiles_total: count(total),
        tile_steps_total: count(tile_steps),
    }
}

fn signed(side_px: u32) -> i32 {
    i32::try_from(side_px).unwrap_or(i32::MAX)
}

/// Milliseconds by stage.
struct Clock {
    last: Instant,
    laps: BTreeMap<String, u64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            laps: BTreeMap::new(),
        }
    }
}

impl Clock {
    fn lap(&mut self, stage: &str) {
        let now = Instant::now();
        self.add(stage, now - self.last);
        self.last = now;
    }

    fn add_stages(&mut self, timings: &Timings) {
        let stages = [
            ("predictor", timings.predictor),
            ("vae_encode", timings.vae_encode),
            ("unet", timings.unet),
            ("vae_decode", timings.vae_decode),
            ("blend", timings.blend),
            ("color_fix", timings.color_fix),
        ];
        for (stage, time) in stages {
            self.add(stage, time);
        }
    }

    fn add(&mut self, stage: &str, time: Duration) {
        self.laps.insert(
            stage.to_owned(),
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        );
    }
}
