//! The engine as this command uses it: flags become its options, its progress a bar, Ctrl-C its end.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use imaging::Provenance;
use invsr::{
    ColorFix, InjectedNoise, InvSr, MemoryLimit, NpyDump, Observer, Options, Schedule, Spent,
    Start, Tensor, TensorError, Timings, Upscale as _, UpscaleError,
};
use upres_common::job::spec;

use super::UpscaleArgs;
use super::failure::Failure;
use super::report::{Progress, Reporter};
use super::rows::{FileRows, FileSink, decode_failure};
use super::sheets::{Sheet, Sheets};
use crate::interrupt::Interrupt;
use crate::spec::SpecArgs;

/// A loaded model with the options of the command line.
pub struct Engine {
    model: InvSr,
    options: Options,
    memory_limit: MemoryLimit,
    dump: Option<NpyDump>,
}

/// What a result took.
pub struct Upscaled {
    pub tiles: usize,
    /// What a careful person should know.
    pub warning: Option<String>,
    pub stages: [(&'static str, Duration); 6],
}

/// Why there is no result.
pub enum EngineError {
    /// Ctrl-C.
    Interrupted,
    Failed(Failure),
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Engine {
    /// Loads the model and says so once if it was never trained.
    ///
    /// # Errors
    /// The noise or the model cannot be read, the device is not there, the dump folder cannot be
    /// made, or tile side, overlap or guidance do not suit the model.
    pub fn load(args: &UpscaleArgs, model: &Path, reporter: Reporter) -> anyhow::Result<Self> {
        let options = options(args)?;
        let dump = match &args.dump {
            Some(folder) => Some(
                NpyDump::create(folder)
                    .with_context(|| format!("make the folder {}", folder.display()))?,
            ),
            None => None,
        };
        let limit = args.memory_limit;
        let memory_limit = limit.unwrap_or_else(MemoryLimit::of_this_machine);
        let loaded = InvSr::load_within(memory_limit, model, &args.device, args.dtype)
            .with_context(|| format!("load the model {}", model.display()))?;
        let multiple = loaded.info().tile_multiple_px;
        if !args.spec.tile.is_multiple_of(multiple) {
            anyhow::bail!(
                "--tile must be a multiple of {multiple} for the model {}",
                model.display()
            );
        }
        let any_size = Options {
            noise: None,
            ..options.clone()
        };
        match loaded.plan(1, 1, &any_size) {
            Err(error @ (UpscaleError::Guidance(_) | UpscaleError::NoNegativePrompt)) => {
                anyhow::bail!("--guidance: {error}");
            }
            Err(error) if args.spec.overlap.is_some() => anyhow::bail!("--overlap: {error}"),
            _ => {}
        }
        if !loaded.info().trained {
            reporter.say(&format!(
                "warning: the model {} was never trained: the result will be noise",
                model.display()
            ));
        }
        Ok(Self {
            model: loaded,
            options,
            memory_limit,
            dump,
        })
    }

    /// What the result's file says of how it was made; the queue's workers write the same.
    pub fn provenance(&self, spec: &SpecArgs) -> Provenance {
        let info = self.model.info();
        let digest = info.digest.as_ref();
        Provenance {
            software: concat!("upres ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: info.name.clone(),
            model_digest: digest.map(|digest| format!("sha256:{digest}")),
            timesteps: spec.schedule().as_slice().to_vec(),
            seed: spec.seed,
            color_fix: spec.color_fix.name().to_owned(),
            tile: spec.tile,
            overlap: self.options.overlap(),
            guidance: self.options.guidance,
        }
    }

    /// SHA-256 of the model's manifest, where it has one.
    pub fn model_sha256(&self) -> Option<String> {
        self.model.info().digest.clone()
    }

    /// How often a tile goes through the large network.
    pub fn steps_a_tile(&self) -> usize {
        self.options.steps_a_tile()
    }

    /// Tiles of all pages.
    ///
    /// - `held`: what the caller holds meanwhile, in bytes of main memory.
    ///
    /// # Errors
    /// [`EngineError`] if there is a page that this engine will not take.
    pub fn tiles(&mut self, sheets: &Sheets, held: u64) -> Result<usize, EngineError> {
        self.options.memory_limit = self.memory_limit.less(held).bytes();
        let mut tiles = 0;
        for Sheet { info, .. } in &sheets.all {
            let plan = self.model.plan(info.width, info.height, &self.options);
            tiles += plan.map_err(|error| self.failed(error, held))?.tiles;
        }
        Ok(tiles)
    }

    /// Upscales four times in each direction; stops at the next tile after Ctrl-C.
    ///
    /// - `held`: what the caller holds meanwhile, in bytes of main memory.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn upscale(
        &mut self,
        source: &mut FileRows,
        held: u64,
        sink: &mut FileSink,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Result<Upscaled, EngineError> {
        let mut watcher = Watcher {
            progress,
            interrupt,
            dump: self.dump.as_mut(),
        };
        self.options.memory_limit = self.memory_limit.less(held).bytes();
        let done =
            self.model
                .upscale_rows(source, Start::Row(0), &self.options, sink, &mut watcher);
        if let Some(failure) = sink.failure.take() {
            return Err(failure.into());
        }
        let Spent {
            tiles,
            timings,
            widened,
            ..
        } = done.map_err(|error| self.failed(error, held))?;
        Ok(Upscaled {
            tiles,
            warning: widened.map(|widened| widened.to_string()),
            stages: stages(&timings),
        })
    }

    fn failed(&self, error: UpscaleError, held: u64) -> EngineError {
        match &error {
            UpscaleError::Cancelled => EngineError::Interrupted,
            UpscaleError::Source(cause) => decode_failure(&**cause)
                .unwrap_or_else(|| Failure::upscaling(&error))
                .into(),
            UpscaleError::Memory { needed, .. } => {
                let all = self.memory_limit.needing(needed + held);
                let mut failure = Failure::upscaling(&all);
                failure
                    .detail
                    .push_str(": raise --memory-limit, or take smaller tiles with --tile");
                failure.into()
            }
            error => Failure::upscaling(error).into(),
        }
    }
}

fn options(args: &UpscaleArgs) -> anyhow::Result<Options> {
    let noise = match &args.noise {
        Some(file) => Some(
            InjectedNoise::read(file)
                .with_context(|| format!("read the noise {}", file.display()))?,
        ),
        None => None,
    };
    Ok(Options {
        schedule: Schedule::new(args.spec.schedule().as_slice())?,
        seed: args.spec.seed,
        tile_px: args.spec.tile,
        overlap_px: args.spec.overlap()?,
        tile_batch: usize::from(args.tile_batch),
        color_fix: match args.spec.color_fix {
            spec::ColorFix::None => ColorFix::None,
            spec::ColorFix::Wavelet => ColorFix::Wavelet,
            spec::ColorFix::Adain => ColorFix::AdaIn,
            spec::ColorFix::Ycbcr => ColorFix::YCbCr,
        },
        guidance: args.spec.guidance,
        noise,
        ..Options::default()
    })
}

/// The names are the queue's, so that both kinds of timings can be compared.
fn stages(timings: &Timings) -> [(&'static str, Duration); 6] {
    [
        ("predictor", timings.predictor),
        ("vae_encode", timings.vae_encode),
        ("unet", timings.unet),
        ("vae_decode", timings.vae_decode),
        ("blend", timings.blend),
        ("color_fix", timings.color_fix),
    ]
}

struct Watcher<'a> {
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
    dump: Option<&'a mut NpyDump>,
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: invsr::Progress) -> ControlFlow<()> {
        self.progress.set(progress.tiles_done, progress.tiles_total);
        if self.interrupt.pressed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn tensor(&mut self, name: &str, value: &Tensor) -> Result<(), TensorError> {
        self.dump
            .as_mut()
            .map_or(Ok(()), |dump| dump.tensor(name, value))
    }

    fn wants_tensors(&self) -> bool {
        self.dump.is_some()
    }
}
