//! `upres models import`: a model folder from a base model and a noise predictor on disk.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use invsr::{Dtype, Import, ImportError, ImportProgress, Manifest, Prompts, import_model};
use sha2::{Digest as _, Sha256};

use crate::cli::{USAGE, Usage};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::model_dir::folder_name;

/// What to import.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The base model's folder in the diffusers layout: SD-Turbo, or SD-2.0-base
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// The noise predictor: safetensors, or the released .pth, which is read as data and never run
    #[arg(long, value_name = "FILE")]
    noise_predictor: PathBuf,
    /// The model folder to make; it must not exist or be empty
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    out: PathBuf,
    /// The licences of base and noise predictor, as the model's manifest should state them
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    #[command(flatten)]
    making: MakingArgs,
}

/// How to make a model folder; the same wherever its parts come from.
#[derive(Debug, clap::Args)]
pub struct MakingArgs {
    /// Store the networks in this number format: f32, bf16 or f16 [default: as they come]
    #[arg(long)]
    pub dtype: Option<Dtype>,
    /// The noise predictor's sizes, where they are not the release's [default: the config.json
    /// beside it, if that is a noise predictor's]
    #[arg(long, value_name = "FILE")]
    pub noise_predictor_config: Option<PathBuf>,
    /// The model's name [default: the folder's]
    #[arg(long)]
    pub name: Option<String>,
    /// What the model is told that every picture should be
    #[arg(long, value_name = "TEXT", default_value_t = Prompts::default().positive, hide_default_value = true)]
    pub prompt: String,
    /// What it is told that no picture should be; matters with guidance only
    #[arg(long, value_name = "TEXT", default_value_t = Prompts::default().negative, hide_default_value = true)]
    pub negative_prompt: String,
}

/// The parts of a model, and what is known of them.
pub struct Parts<'a> {
    pub base: &'a Path,
    pub noise_predictor: &'a Path,
    pub licence: String,
    pub source: String,
    /// Licences and notices, by their place in the model folder.
    pub enclosed: Vec<(String, PathBuf)>,
}

/// Carries out the command.
///
/// # Errors
/// What is wrong with the input, or with the place of the model.
pub fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let predictor = &args.noise_predictor;
    if !args.base.is_dir() {
        bail!(Usage(format!(
            "--base {} is not a folder",
            args.base.display()
        )));
    }
    if !predictor.is_file() {
        let problem = format!("--noise-predictor {} is not a file", predictor.display());
        bail!(Usage(problem));
    }
    let digest = sha256_of(predictor).with_context(|| format!("read {}", predictor.display()))?;
    let unstated = "not stated at its import: see licences/, and where its parts come from";
    let parts = Parts {
        base: &args.base,
        noise_predictor: predictor,
        licence: args.licence.clone().unwrap_or_else(|| unstated.to_owned()),
        source: format!(
            "base {}, noise predictor {} (sha256 {digest})",
            named(&args.base),
            named(predictor)
        ),
        enclosed: licences_in(&args.base, "licences/base"),
    };
    make(&parts, &args.making, &args.out)
}

/// Makes the model folder and says so.
///
/// # Errors
/// As [`run`].
pub fn make(parts: &Parts<'_>, making: &MakingArgs, out: &Path) -> anyhow::Result<ExitCode> {
    let import = Import {
        base: parts.base.to_owned(),
        noise_predictor: parts.noise_predictor.to_owned(),
        noise_predictor_config: making.noise_predictor_config.clone(),
        dtype: making.dtype,
        prompts: Prompts {
            positive: making.prompt.clone(),
            negative: making.negative_prompt.clone(),
        },
        name: making.name.clone().unwrap_or_else(|| named(out)),
        licence: parts.licence.clone(),
        source: parts.source.clone(),
        enclosed: parts.enclosed.clone(),
    };
    let interrupt = Interrupt::watch().context("listen for Ctrl-C")?;
    let mut bars = StageBars::default();
    let imported = import_model(&import, out, &mut |progress| {
        bars.show(progress);
        if interrupt.pressed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    drop(bars);
    match imported {
        Ok(manifest) => {
            tell(&manifest, out);
            Ok(ExitCode::SUCCESS)
        }
        Err(ImportError::Cancelled) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error @ ImportError::Taken(_)) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(USAGE))
        }
        Err(error) => Err(error).with_context(|| format!("make the model {}", out.display())),
    }
}

fn tell(manifest: &Manifest, out: &Path) {
    let text = format!(
        "{} is made: use it with --model {}\nlicences: {}",
        manifest.name,
        out.display(),
        manifest.licence
    );
    let _ = writeln!(io::stderr(), "{text}");
}

/// The licences and notices at the top of a folder, and where they go in the model folder.
pub fn licences_in(folder: &Path, place: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let name = folder_name(&path);
        let lower = name.to_lowercase();
        let is_licence = ["licen", "notice"]
            .iter()
            .any(|start| lower.starts_with(start));
        if is_licence && path.is_file() {
            found.push((format!("{place}/{name}"), path));
        }
    }
    found.sort();
    found
}

/// A path's last name, also of `.`.
fn named(path: &Path) -> String {
    let whole = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    folder_name(whole.as_deref().unwrap_or(path))
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// A bar a stage on a terminal, else a line a stage.
#[derive(Default)]
struct StageBars {
    stage: &'static str,
    bar: Option<ProgressBar>,
}

impl StageBars {
    fn show(&mut self, progress: ImportProgress) {
        if self.stage != progress.stage {
            self.stage = progress.stage;
            self.start(progress);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(progress.done);
        }
    }

    fn start(&mut self, progress: ImportProgress) {
        let encodes = progress.stage == "text_encoder";
        if !io::stderr().is_terminal() {
            let what = match encodes {
                true => "encoding the prompts".to_owned(),
                false => format!("{}: {} MB", progress.stage, progress.total / 1_000_000),
            };
            let _ = writeln!(io::stderr(), "{what}");
            return;
        }
        let template = match encodes {
            true => "{msg:<16} {bar:30} {pos}/{len} layers",
            false => "{msg:<16} {bar:30} {bytes}/{total_bytes}",
        };
        let bar = ProgressBar::new(progress.total).with_message(progress.stage);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        self.finish();
        self.bar = Some(bar);
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for StageBars {
    fn drop(&mut self) {
        self.finish();
    }
}
