//! `upres upscale`: reads, upscales and writes files on this machine.
//!
//! [`plan`] decides what becomes what, [`picture`] takes one file through, [`engine`] is the model,
//! [`sheets`] are its pages, [`rows`] go in and come out of it, [`draft`] and [`write`](mod@write) let a result appear whole,
//! [`report`] tells.

mod draft;
mod engine;
pub mod failure;
mod picture;
pub mod plan;
mod report;
mod rows;
mod sheets;
mod sidecar;
pub mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use imaging::Limits;
use invsr::{DeviceSpec, Dtype, MemoryLimit};

use crate::cli::{ModelRootArgs, USAGE};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::limits::LimitArgs;
use crate::model_dir::Roots;
use crate::spec::SpecArgs;
use engine::Engine;
use picture::Outcome;
pub use picture::SCALE;
use plan::{Item, Plan, Request, Target};
use report::Reporter;
pub use sheets::choose;

/// Flags of `upres upscale`.
#[derive(Debug, clap::Args)]
pub struct UpscaleArgs {
    /// Pictures, or folders of pictures (jpeg, png, tiff, webp, gif, bmp)
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// The result: a file for one picture, else a folder, which is made
    #[arg(short = 'o', long = "output", value_name = "OUT")]
    pub out: PathBuf,
    /// Model folder, or the name of a model that `upres models list` shows [default: upres-tiny]
    #[arg(long, value_name = "DIR|NAME")]
    pub model: Option<String>,
    #[command(flatten)]
    pub roots: ModelRootArgs,
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Tiles that go through the networks at once; more need more memory and change no pixel
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pub tile_batch: u16,
    /// Main memory to take at most, such as 6GiB: fewer tiles at once where it is little; what does
    /// not fit at all is refused; none for no limit [default: three quarters of the machine's]
    #[arg(long, env = "UPRES_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<MemoryLimit>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// cpu or cuda:N
    #[arg(long, env = "UPRES_DEVICE", default_value = "cpu")]
    pub device: DeviceSpec,
    /// f32, bf16 or f16; the CPU computes in f32 only
    #[arg(long, env = "UPRES_DTYPE", default_value = "f32")]
    pub dtype: Dtype,
    /// Replace results that are there already
    #[arg(long)]
    pub overwrite: bool,
    /// Write what was done beside each result, into a file named like it with .upres.json behind
    #[arg(long)]
    pub sidecar: bool,
    /// Replay this noise instead of the seed's; one picture only
    #[arg(long, value_name = "FILE.safetensors")]
    pub noise: Option<PathBuf>,
    /// Write the tensors between the stages into this folder, as .npy; one picture only
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,
    /// One JSON object per picture on stdout
    #[arg(long)]
    pub json: bool,
    /// Say how long each stage took
    #[arg(short, long)]
    pub verbose: bool,
}

impl UpscaleArgs {
    /// What is accepted of an input.
    pub fn limits(&self) -> Limits {
        self.limits.into()
    }
}

/// Upscales every input. A file that fails is reported and does not stop the others.
///
/// # Errors
/// What stops all of them once the model is being loaded; wrong usage is status 2.
pub fn run(args: &UpscaleArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(args.json, args.verbose);
    let prepared = prepare(args).and_then(|plan| {
        let model = Roots::new(args.roots.model_dir.clone()).find(args.model.as_deref())?;
        Ok((plan, model))
    });
    let (plan, model) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            reporter.say(&format!("error: {error:#}"));
            return Ok(ExitCode::from(USAGE));
        }
    };
    for sentence in plan.passed_over.sentences() {
        reporter.say(&sentence);
    }
    if let Some(warning) = args.spec.schedule().warning() {
        reporter.say(&format!("warning: {warning}"));
    }
    let interrupt = Interrupt::watch()?;
    upscale_all(args, &plan, &model, reporter, &interrupt)
}

fn prepare(args: &UpscaleArgs) -> anyhow::Result<Plan> {
    let request = Request {
        inputs: &args.inputs,
        out: &args.out,
        format: args.spec.format.into(),
    };
    let plan = plan::plan(&request)?;
    if plan.items.len() > 1 && (args.noise.is_some() || args.dump.is_some()) {
        anyhow::bail!(
            "--noise and --dump are for one picture, not for {}",
            plan.items.len()
        );
    }
    Ok(plan)
}

fn upscale_all(
    args: &UpscaleArgs,
    plan: &Plan,
    model: &Path,
    reporter: Reporter,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    // Loaded for the first picture that can be read: a folder of broken files needs no model.
    let mut loaded = None;
    let mut failed = 0;
    for Item { input, target } in &plan.items {
        let prepared = match target {
            Ok(Target { output, format }) => picture::read(input, output, *format, args),
            Err(failure) => Err(failure.clone()),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                reporter.failed(input, &failure);
                failed += 1;
                continue;
            }
        };
        let mut engine = match loaded.take() {
            Some(engine) => engine,
            None => match Engine::load(args, model, reporter) {
                Ok(engine) => engine,
                Err(error) => {
                    reporter.say(&format!("error: {error:#}"));
                    return Ok(ExitCode::from(USAGE));
                }
            },
        };
        let outcome = if interrupt.pressed() {
            Outcome::Interrupted
        } else {
            picture::upscale(prepared, &mut engine, args, reporter, interrupt)
        };
        loaded = Some(engine);
        match outcome {
            Outcome::Done => {}
            Outcome::Failed(failure) => {
                reporter.failed(input, &failure);
                failed += 1;
            }
            Outcome::Interrupted => {
                reporter.say("interrupted: what was finished before is complete");
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
    if plan.items.len() > 1 {
        let all = plan.items.len();
        reporter.say(&format!("{} of {all} pictures upscaled", all - failed));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
