//! The engine's door: what is asked, what is told on the way, and what comes back.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use candle_core::Tensor;

use crate::bands::BAND_ROWS;
use crate::color_fix::ColorFix;
use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::hand_over::HandOver;
use crate::image::RgbImage;
use crate::noise::InjectedNoise;
use crate::rows::{Collect, ImageRows, RowSink, RowSource};
use crate::scheduler::Schedule;

/// Enlarges images four times each way.
pub trait Upscale: Send {
    /// How much work an image of this size is, without doing any.
    ///
    /// # Errors
    /// Those of [`Upscale::upscale`] that sizes and options alone decide.
    fn plan(&self, width: u32, height: u32, options: &Options) -> Result<Plan, UpscaleError>;

    /// Enlarges one image, band by band. The result depends on the image, the options and the model
    /// only; memory on the image's width and the tiles, not on its height, unless the colour fix
    /// [needs the whole result](ColorFix::streams) or the observer wants tensors.
    ///
    /// Any row of the result can be the first: its tiles and those whose edges reach it are
    /// computed, the rows above are not, and what comes is bit for bit what an uninterrupted run
    /// gives. The source is still taken from its top; rows not needed are skipped.
    ///
    /// - `start`: the first row of the result that the sink wants, or what a suspended run handed
    ///   over; then nothing is computed twice.
    ///
    /// # Errors
    /// [`UpscaleError::Suspended`] when the observer [asks for it](Observer::suspend), any other
    /// [`UpscaleError`] when something went wrong; its [`fault`](UpscaleError::fault) says whether to try again.
    fn upscale_rows(
        &mut self,
        source: &mut dyn RowSource,
        start: Start,
        options: &Options,
        sink: &mut dyn RowSink,
        observer: &mut dyn Observer,
    ) -> Result<Spent, UpscaleError>;

    /// Enlarges one image in memory: [`Upscale::upscale_rows`] with input and output whole.
    ///
    /// # Errors
    /// As there.
    fn upscale(
        &mut self,
        image: &RgbImage,
        options: &Options,
        observer: &mut dyn Observer,
    ) -> Result<Upscaled, UpscaleError> {
        let blank = enlarged_size(image)?;
        let mut rows = Collect(Vec::with_capacity(blank.values));
        let Spent {
            timings,
            tiles,
            tile_steps,
            widened,
        } = self.upscale_rows(
            &mut ImageRows::new(image),
            Start::Row(0),
            options,
            &mut rows,
            observer,
        )?;
        let image = RgbImage {
            width: blank.width,
            height: blank.height,
            data: rows.0,
        };
        Ok(Upscaled {
            image,
            timings,
            tiles,
            tile_steps,
            widened,
        })
    }
}

/// The size of a result.
struct Enlarged {
    width: u32,
    height: u32,
    values: usize,
}

/// Refuses an image whose data contradict its sides, or whose result could not be addressed.
fn enlarged_size(image: &RgbImage) -> Result<Enlarged, UpscaleError> {
    let RgbImage {
        width,
        height,
        ref data,
    } = *image;
    let size = |width: u32, height: u32| {
        let scale = u32::try_from(SCALE).ok()?;
        let (width, height) = (width.checked_mul(scale)?, height.checked_mul(scale)?);
        let pixels = (width as usize).checked_mul(height as usize)?;
        let values = pixels.checked_mul(3)?;
        (values > 0 && data.len().checked_mul(SCALE * SCALE)? == values).then_some(Enlarged {
            width,
            height,
            values,
        })
    };
    size(width, height).ok_or(UpscaleError::ImageSize { width, height })
}

/// What neighbouring tiles share if nothing else is said, in input pixels: with the bundled model
/// their borders show no more than with the published half tile, for fewer than half the tiles.
/// `docs/performance.md` has the figures.
pub const DEFAULT_OVERLAP_PX: u32 = 32;

/// How to enlarge.
#[derive(Debug, Clone)]
pub struct Options {
    /// The timesteps of the sampler.
    pub schedule: Schedule,
    /// Picks the noise, together with each tile's place.
    pub seed: u64,
    /// Side of a tile, in input pixels; a multiple of the model's
    /// [`tile_multiple_px`](crate::ModelInfo::tile_multiple_px). The encoder and decoder see a tile
    /// whole, so that memory grows with its square.
    pub tile_px: u32,
    /// What neighbouring tiles share at least, in input pixels: less means fewer tiles. A multiple of
    /// the input pixels that a latent pixel stands for (2), less than a tile. Half a tile is the
    /// published tiling, blended with the published window. `None` for [`DEFAULT_OVERLAP_PX`], or
    /// half a tile if that is less.
    pub overlap_px: Option<u32>,
    /// Tiles that go through the networks together; changes speed and memory, and on the CPU not the
    /// result; on a card, whose libraries choose by shape, that was not measured.
    pub tile_batch: usize,
    /// Rows of the result that are blended and fixed together; changes memory, not the result.
    pub band_rows: usize,
    /// Bytes of main memory that this process may take while it works on the image, weights included;
    /// what the source, the sink and the caller hold is for the caller to take off. Where the tile
    /// batch and the rows of a band would take more they are lowered; an image that does not fit
    /// even so is refused. Tensors that an observer wants come on top.
    pub memory_limit: Option<u64>,
    /// What brings the input's colours back.
    pub color_fix: ColorFix,
    /// How far each step goes from what the negative prompt suggests towards what the prompt does,
    /// and beyond: 1 is the prompt alone, as the method was published. More takes a second pass of
    /// the UNet each step.
    pub guidance: f64,
    /// Noise to use instead of the seed's.
    pub noise: Option<InjectedNoise>,
}

impl Default for Options {
    /// One step from timestep 200, seed 12345, tiles of 128 px four at a time, the wavelet fix, no
    /// guidance, no limit to the memory.
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            seed: 12345,
            tile_px: 128,
            overlap_px: None,
            tile_batch: 4,
            band_rows: BAND_ROWS,
            memory_limit: None,
            color_fix: ColorFix::default(),
            guidance: 1.0,
            noise: None,
        }
    }
}

impl Options {
    /// Whether the negative prompt has a say.
    pub(crate) fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }

    /// UNet passes of a tile: its timesteps, twice with guidance.
    #[must_use]
    pub fn steps_a_tile(&self) -> usize {
        let passes = if self.is_guided() { 2 } else { 1 };
        passes * self.schedule.timesteps().len()
    }

    /// The overlap in force, in input pixels.
    #[must_use]
    pub fn overlap(&self) -> u32 {
        self.overlap_px
            .unwrap_or(DEFAULT_OVERLAP_PX.min(self.tile_px / 2))
    }
}

/// Where the work on an image begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// With what shows in this row of the result, 0 for all of it.
    Row(u32),
    /// Where a suspended run stopped.
    HandOver(Box<HandOver>),
}

/// An amount of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Tiles of the image.
    pub tiles: usize,
    /// Tiles times [steps](Options::steps_a_tile).
    pub tile_steps: usize,
    /// The most main memory that this process is reckoned to hold on the way, in bytes, with a tile
    /// batch lowered to what the [limit](Options::memory_limit) allows.
    pub peak_bytes: u64,
}

/// How far an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tiles that are done.
    pub tiles_done: usize,
    /// Tiles of the image.
    pub tiles_total: usize,
}

/// Watches an image on its way. Every method has a default; `()` watches nothing.
pub trait Observer {
    /// Hears how far the image is; called before each network stage of each batch of tiles, often
    /// with the same numbers as before. `Break` cancels the work at once.
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        let _ = progress;
        ControlFlow::Continue(())
    }

    /// Whether to stop and keep what is half done: the run then ends with
    /// [`UpscaleError::Suspended`]. Asked after each batch of tiles but the last, and when
    /// [`Observer::progress`] answered `Break`, so that a batch that takes too long can be given up.
    /// With a colour fix that [does not stream](ColorFix::streams) nothing is kept.
    fn suspend(&mut self) -> bool {
        false
    }

    /// Takes a stage's output, once for the whole image; only if [`Observer::wants_tensors`].
    ///
    /// With `T` tiles in raster order, tile side `p`, latents `[C, h, w]` and result `H` by `W`:
    /// `prompt_embeds` and, with guidance, `negative_embeds` `[1, L, D]`; `sigmas` `[S + 1]`; `lr_tiles` `[T, 3, p, p]`; `noise_mean`,
    /// `noise_std`, `predictor_eps`, `noise`, `lr_latent_mean`, `lr_latent_std`, `vae_eps`,
    /// `lr_latent`, `start_latent`, `unet_K` (guided) and `latent_K` for step `K` from 0,
    /// all `[T, C, h, w]`; `decoded_tiles` `[T, 3, 4p, 4p]` in `[-1, 1]` before the clamp; `image_raw`
    /// `[1, 3, H, W]` before and `image` after the colour fix. All `f32`, in main memory.
    ///
    /// # Errors
    /// Ends the work with [`UpscaleError::Observer`].
    fn tensor(&mut self, name: &str, value: &Tensor) -> Result<(), candle_core::Error> {
        let _ = (name, value);
        Ok(())
    }

    /// Whether to keep every stage's output for [`Observer::tensor`], which costs memory.
    fn wants_tensors(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// Where the time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Noise predictor.
    pub predictor: Duration,
    /// Enlarging the tiles and encoding them.
    pub vae_encode: Duration,
    /// All steps of the UNet.
    pub unet: Duration,
    /// Decoding.
    pub vae_decode: Duration,
    /// Putting tiles together.
    pub blend: Duration,
    /// The colour fix.
    pub color_fix: Duration,
}

/// Tiles that half precision could not hold: they were computed once again in `f32`, which leaves no
/// trace in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widened {
    /// How many.
    pub tiles: usize,
    /// The first of them, counted from 0 in raster order.
    pub first_tile: usize,
    /// The stage that spoilt that one.
    pub stage: &'static str,
}

impl fmt::Display for Widened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tiles,
            first_tile,
            stage,
        } = self;
        let (were, first) = if *tiles == 1 {
            ("tile was", "")
        } else {
            ("tiles were", "first ")
        };
        write!(
            f,
            "{tiles} {were} computed again in f32, {first}tile {first_tile}: its {stage} left the range of half precision"
        )
    }
}

/// What one call of the engine took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Where the time went; waiting for source and sink is not in it.
    pub timings: Timings,
    /// Tiles that were computed: those of the image, or fewer when the first rows were not wanted.
    pub tiles: usize,
    /// Tiles times [steps](Options::steps_a_tile).
    pub tile_steps: usize,
    /// Tiles of this call that half precision could not hold.
    pub widened: Option<Widened>,
}

/// A finished image.
#[derive(Debug, Clone, PartialEq)]
pub struct Upscaled {
    /// Exactly four times as wide and high as the input, values in `[0, 1]`.
    pub image: RgbImage,
    /// Where the time went.
    pub timings: Timings,
    /// Tiles of the image.
    pub tiles: usize,
    /// Tiles times [steps](Options::steps_a_tile).
    pub tile_steps: usize,
    /// Tiles that half precision could not hold.
    pub widened: Option<Widened>,
}
