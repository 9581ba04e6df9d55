//! The engine as this command uses it: several schedules, one picture at a time.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use invsr::{InvSr, Observer, Options, Progress, RgbImage, Schedule, Upscale as _, UpscaleError};
use upres_common::job::spec::Timesteps;

use super::EvaluateArgs;
use crate::interrupt::Interrupt;

/// A loaded model, and the schedules to compare.
pub struct Model {
    engine: InvSr,
    options: Options,
    schedules: Vec<Timesteps>,
}

impl Model {
    /// # Errors
    /// The model cannot be read, the device is not there, or the tile does not suit the model.
    pub fn load(args: &EvaluateArgs, folder: &Path) -> anyhow::Result<Self> {
        let engine = InvSr::load(folder, &args.device, args.dtype)
            .with_context(|| format!("load the model {}", folder.display()))?;
        let multiple = engine.info().tile_multiple_px;
        if !args.tile.is_multiple_of(multiple) {
            anyhow::bail!(
                "--tile must be a multiple of {multiple} for the model {}",
                folder.display()
            );
        }
        if !engine.info().trained {
            eprintln!(
                "warning: the model {} was never trained: the results will be noise",
                folder.display()
            );
        }
        Ok(Self {
            engine,
            options: Options {
                seed: args.seed,
                tile_px: args.tile,
                tile_batch: 1,
                color_fix: args.color_fix,
                ..Options::default()
            },
            schedules: args.schedules(),
        })
    }

    pub fn schedules(&self) -> Vec<Timesteps> {
        self.schedules.clone()
    }

    /// Four times the size in each direction; `None` after Ctrl-C.
    ///
    /// # Errors
    /// The engine's.
    pub fn upscale(
        &mut self,
        small: &RgbImage,
        schedule: &Timesteps,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<RgbImage>> {
        self.options.schedule = Schedule::new(schedule.as_slice())?;
        let mut watcher = Watcher(interrupt);
        match self.engine.upscale(small, &self.options, &mut watcher) {
            Ok(upscaled) => Ok(Some(upscaled.image)),
            Err(UpscaleError::Cancelled) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

struct Watcher<'a>(&'a Interrupt);

impl Observer for Watcher<'_> {
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        if self.0.pressed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
