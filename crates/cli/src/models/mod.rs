//! `upres models`: fetches, makes, checks and lists model folders.

mod hub;
mod import;
mod pull;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use invsr::{MANIFEST_FILE, Manifest};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cli::{ModelRootArgs, USAGE, Usage};
use crate::model_dir::{Roots, folder_name};

/// What to do with models.
#[derive(Debug, clap::Subcommand)]
pub enum ModelsCommand {
    /// Make a model of a base model and a noise predictor that you have
    Import(Box<import::ImportArgs>),
    /// Fetch base model and noise predictor from a hub, and make a model of them
    Pull(Box<pull::PullArgs>),
    /// Make an untrained model of a given size, to measure speed and to test; its pictures are noise
    Random {
        /// How large
        #[arg(long, value_enum, default_value_t = Size::Tiny)]
        size: Size,
        /// Same size, same seed, same files
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The model folder to make; it must not exist or be empty
        #[arg(short = 'o', long = "output", value_name = "DIR")]
        out: PathBuf,
    },
    /// Compare every file of a model with the digests in its upres-model.json
    Verify {
        /// The model folder, or the name of one
        model: String,
        #[command(flatten)]
        roots: ModelRootArgs,
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Show the models that --model finds by name
    List {
        #[command(flatten)]
        roots: ModelRootArgs,
        /// One JSON object per model on stdout
        #[arg(long)]
        json: bool,
    },
}

/// Sizes of an untrained model.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Size {
    /// The structure of the release with few channels, 6 MB
    Tiny,
    /// The structure of the bundled model
    Quarter,
    /// The shapes of the release, 4 GB
    Full,
}

/// Carries out the command.
///
/// # Errors
/// A folder that cannot be read or written.
pub fn run(command: &ModelsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModelsCommand::Random { size, seed, out } => random(*size, *seed, out),
        ModelsCommand::Import(args) => import::run(args),
        ModelsCommand::Pull(args) => pull::run(args),
        ModelsCommand::Verify { model, roots, json } => {
            verify(&folder(model, &Roots::new(roots.model_dir.clone()))?, *json)
        }
        ModelsCommand::List { roots, json } => list(&Roots::new(roots.model_dir.clone()), *json),
    }
}

/// The folder that is meant: one that is there, whole or not, else the model of that name.
fn folder(model: &str, roots: &Roots) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(model);
    if path.is_dir() {
        return Ok(path);
    }
    Ok(roots
        .find(Some(model))
        .map_err(|error| Usage(error.to_string()))?)
}

fn random(size: Size, seed: u64, out: &Path) -> anyhow::Result<ExitCode> {
    let taken = out
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some());
    if taken || out.is_file() {
        eprintln!(
            "error: {} exists and is not empty: name another folder",
            out.display()
        );
        return Ok(ExitCode::from(USAGE));
    }
    let size = match size {
        Size::Tiny => invsr::Size::Tiny,
        Size::Quarter => invsr::Size::Quarter,
        Size::Full => invsr::Size::Full,
    };
    invsr::write_random_model(size, seed, out)
        .with_context(|| format!("make the model {}", out.display()))?;
    eprintln!(
        "{} is an untrained model: its pictures are noise",
        out.display()
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Verified<'a> {
    dir: &'a Path,
    name: &'a str,
    files: usize,
    missing: Vec<String>,
    changed: Vec<String>,
    /// Files that the engine may read though the manifest does not list them.
    unlisted: Vec<String>,
}

fn verify(dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let Some(manifest) = Manifest::read(dir)? else {
        eprintln!(
            "error: {} has no {MANIFEST_FILE}: there is nothing to compare",
            dir.display()
        );
        return Ok(ExitCode::FAILURE);
    };
    let (changed, missing): (Vec<_>, Vec<_>) = manifest
        .mismatches(dir)?
        .into_iter()
        .partition(|file| dir.join(file).is_file());
    for file in &missing {
        eprintln!("error: {} is missing", dir.join(file).display());
    }
    for file in &changed {
        eprintln!(
            "error: {} is not what the manifest says",
            dir.join(file).display()
        );
    }
    let unlisted = manifest.unlisted(dir)?;
    for file in &unlisted {
        eprintln!(
            "error: {} is not in the manifest, and the engine may read it",
            dir.join(file).display()
        );
    }
    let (name, files) = (manifest.name.as_str(), manifest.files.len());
    let whole = missing.is_empty() && changed.is_empty() && unlisted.is_empty();
    if json {
        print(&Verified {
            dir,
            name,
            files,
            missing,
            changed,
            unlisted,
        });
    } else if whole {
        say(&format!(
            "{name}: all {files} files are what the manifest says"
        ));
    }
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[derive(Serialize)]
struct Listed {
    name: String,
    dir: PathBuf,
    /// SHA-256 of the manifest, which names every weight; `None` without one.
    digest: Option<String>,
    trained: bool,
    licence: Option<String>,
}

fn list(roots: &Roots, json: bool) -> anyhow::Result<ExitCode> {
    let known = roots.known();
    if known.is_empty() {
        eprintln!("no model found: fetch one with `upres models pull`, or set UPRES_MODEL_DIR");
    }
    let mut status = ExitCode::SUCCESS;
    for dir in known {
        let model = match describe(dir) {
            Ok(model) => model,
            // One damaged folder does not hide the others.
            Err(error) => {
                eprintln!("error: {error:#}");
                status = ExitCode::FAILURE;
                continue;
            }
        };
        if json {
            print(&model);
            continue;
        }
        let digest = model.digest.as_deref().unwrap_or("no manifest");
        let trained = if model.trained {
            "trained"
        } else {
            "untrained"
        };
        let digest = digest.get(..12).unwrap_or(digest);
        say(&format!(
            "{:<20} {digest:<12} {trained:<9} {}",
            model.name,
            model.dir.display()
        ));
    }
    Ok(status)
}

fn describe(dir: PathBuf) -> anyhow::Result<Listed> {
    let name = folder_name(&dir);
    let Some(manifest) = Manifest::read(&dir)? else {
        return Ok(Listed {
            name,
            dir,
            digest: None,
            trained: true,
            licence: None,
        });
    };
    let path = dir.join(MANIFEST_FILE);
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(Listed {
        name,
        dir,
        digest: Some(hex::encode(Sha256::digest(bytes))),
        trained: manifest.trained,
        licence: Some(manifest.licence),
    })
}

fn print(line: &impl Serialize) {
    if let Ok(line) = serde_json::to_string(line) {
        say(&line);
    }
}

/// One line on stdout; a reader that has gone away is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
