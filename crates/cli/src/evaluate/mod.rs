//! `upres evaluate`: how good a model and its schedules are, on pictures whose truth is known.
//!
//! Each truth is made small in two ways ([`degrade`]), enlarged again ([`model`], and bicubically),
//! and compared ([`metrics`], [`niqe`]); [`table`] and [`page`] show the outcome.

mod degrade;
mod eigen;
mod metrics;
mod model;
mod niqe;
mod page;
mod picture;
mod plane;
mod resize;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use imaging::Format;
use invsr::{ColorFix, DeviceSpec, Dtype};
use upres_common::job::spec::Timesteps;

use crate::cli::{ModelRootArgs, USAGE};
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::model_dir::{Roots, folder_name};
use crate::spec::{default_schedule, parse_tile};
use model::Model;
use page::Page;
use picture::{Outcome, Truth};
use table::Report;

/// Flags of `upres evaluate`.
#[derive(Debug, clap::Args)]
pub struct EvaluateArgs {
    /// Sharp pictures: a folder, or one file
    #[arg(long, value_name = "DIR")]
    pub truth: PathBuf,
    /// Model folder, or the name of a model that `upres models list` shows [default: upres-tiny]
    #[arg(long, value_name = "DIR|NAME")]
    pub model: Option<String>,
    #[command(flatten)]
    pub roots: ModelRootArgs,
    /// Number of denoising steps, 1 to 5, on the published schedule; may be given several times
    #[arg(long, value_name = "N", value_parser = default_schedule)]
    pub steps: Vec<Timesteps>,
    /// Denoising schedule such as 250,150,50; may be given several times [default: 200]
    #[arg(long, value_name = "T,T,...")]
    pub timesteps: Vec<Timesteps>,
    /// Seed of the noise
    #[arg(long, default_value_t = 12345)]
    pub seed: u64,
    /// Side of a tile, in pixels of the small picture: a multiple of 16 from 32 to 512
    #[arg(long, value_name = "PX", default_value = "128", value_parser = parse_tile)]
    pub tile: u32,
    /// How the result's colours are brought back: none, wavelet, adain or ycbcr
    #[arg(long, default_value = "wavelet")]
    pub color_fix: ColorFix,
    /// cpu or cuda:N
    #[arg(long, env = "UPRES_DEVICE", default_value = "cpu")]
    pub device: DeviceSpec,
    /// f32, bf16 or f16; the CPU computes in f32 only
    #[arg(long, env = "UPRES_DTYPE", default_value = "f32")]
    pub dtype: Dtype,
    /// Write a page with the pictures side by side, everything in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// One JSON object on stdout instead of the table
    #[arg(long)]
    pub json: bool,
}

impl EvaluateArgs {
    /// Every schedule asked for, once, or one step.
    fn schedules(&self) -> Vec<Timesteps> {
        let mut schedules: Vec<Timesteps> = Vec::new();
        for schedule in self.steps.iter().chain(&self.timesteps) {
            if !schedules.contains(schedule) {
                schedules.push(schedule.clone());
            }
        }
        if schedules.is_empty() {
            schedules.push(Timesteps::default());
        }
        schedules
    }
}

/// Measures every truth. A file that fails is reported and does not stop the others.
///
/// # Errors
/// The page cannot be written, or the engine fails; wrong usage is status 2.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let prepared = pictures(&args.truth).and_then(|truths| {
        let folder = Roots::new(args.roots.model_dir.clone()).find(args.model.as_deref())?;
        let model = Model::load(args, &folder)?;
        Ok((truths, folder_name(&folder), model))
    });
    let (truths, name, mut model) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let interrupt = Interrupt::watch()?;
    let mut report = Report::new(&name, args);
    let mut page = args.html.as_ref().map(|_| Page::default());
    let mut failed = false;
    for (i, path) in truths.iter().enumerate() {
        eprintln!("{} of {}: {}", i + 1, truths.len(), path.display());
        let truth = match Truth::read(path) {
            Ok(truth) => truth,
            Err(error) => {
                eprintln!("error: {}: {error:#}", path.display());
                failed = true;
                continue;
            }
        };
        match picture::evaluate(&truth, &mut model, &interrupt)? {
            Outcome::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
            Outcome::Done(attempts) => {
                if let Some(page) = &mut page {
                    page.add(&truth, &attempts)?;
                }
                report.add(attempts);
            }
        }
    }
    if report.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if let (Some(page), Some(path)) = (page, &args.html) {
        fs::write(path, page.finish(&report))
            .with_context(|| format!("write {}", path.display()))?;
        eprintln!("the pictures side by side: {}", path.display());
    }
    report.print(args.json)?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The pictures in a folder by name, or the one file.
fn pictures(truth: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if truth.is_file() {
        return Ok(vec![truth.to_owned()]);
    }
    let fail = || format!("read folder {}", truth.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(truth).with_context(fail)? {
        let path = entry.with_context(fail)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_file() && extension.and_then(Format::from_extension).is_some() {
            found.push(path);
        }
    }
    if found.is_empty() {
        anyhow::bail!("there is no jpeg, png, tiff or webp in {}", truth.display());
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn schedules(flags: &[&str]) -> Vec<Vec<u32>> {
        let line = [&["upres", "evaluate", "--truth", "x"], flags].concat();
        let Command::Evaluate(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        let schedules = args.schedules();
        schedules.iter().map(|s| s.as_slice().to_vec()).collect()
    }

    #[test]
    fn schedules_may_be_given_several_times_and_each_counts_once() {
        assert_eq!(schedules(&[]), [[200]]);
        let flags = [
            "--steps",
            "3",
            "--timesteps",
            "200,100,50",
            "--timesteps",
            "250,50",
        ];
        assert_eq!(schedules(&flags), [vec![200, 100, 50], vec![250, 50]]);
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), "notes").unwrap();
        assert!(pictures(folder.path()).is_err());
        fs::write(folder.path().join("b.PNG"), "").unwrap();
        fs::write(folder.path().join("a.jpg"), "").unwrap();
        let names = pictures(folder.path()).unwrap();
        assert_eq!(
            names,
            ["a.jpg", "b.PNG"].map(|name| folder.path().join(name))
        );
    }
}
