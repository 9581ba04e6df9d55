//! `upres models pull`: fetches a model's parts from a hub, once their licences are accepted.

use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use invsr::Dtype;

use super::hub::{Hub, HubArgs, HubError, Repo, note_of, with_suffix};
use super::import::{MakingArgs, Parts, licences_in, make};
use crate::api::block_on;
use crate::cli::{USAGE, Usage};
use crate::interrupt::INTERRUPTED;

/// The one published model, and where its parts lie.
const PUBLISHED: &str = "invsr-sd-turbo";
const BASE: &str = "stabilityai/sd-turbo";
const NOISE_PREDICTOR: &str = "OAOA/InvSR";
const NOISE_PREDICTOR_FILE: &str = "noise_predictor_sd_turbo_v5.pth";

/// What to fetch.
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// The model
    #[arg(value_parser = [PUBLISHED], default_value = PUBLISHED, value_name = "NAME")]
    model: String,
    /// The model folder to make; it must not exist or be empty [default: models/NAME]
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Accept the licences that this command states, without being asked
    #[arg(long)]
    accept_licences: bool,
    /// Fetch the base model from this repository; @REVISION may follow
    #[arg(long, default_value = BASE, value_name = "OWNER/NAME")]
    base_repo: Repo,
    /// Fetch the noise predictor from this repository; @REVISION may follow
    #[arg(long, default_value = NOISE_PREDICTOR, value_name = "OWNER/NAME")]
    noise_predictor_repo: Repo,
    /// The noise predictor's file there
    #[arg(long, default_value = NOISE_PREDICTOR_FILE, value_name = "FILE")]
    noise_predictor_file: String,
    /// Keep what was fetched, in DIR.pull
    #[arg(long)]
    keep_downloads: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    making: MakingArgs,
}

/// What is known of a repository's licence.
struct Terms {
    repo: &'static str,
    what: &'static str,
    licence: &'static str,
    summary: &'static str,
}

const TERMS: [Terms; 3] = [
    Terms {
        repo: BASE,
        what: "SD-Turbo, by Stability AI",
        licence: "Stability AI Community License",
        summary: "research and non-commercial use are free; commercial use is free below a yearly \
                  revenue of 1 million USD and wants registration, above it a licence",
    },
    Terms {
        repo: "stabilityai/stable-diffusion-2-base",
        what: "Stable Diffusion 2.0 base, by Stability AI",
        licence: "CreativeML Open RAIL++-M License",
        summary: "commercial use is allowed, certain uses are ruled out",
    },
    Terms {
        repo: NOISE_PREDICTOR,
        what: "the InvSR noise predictor, by S-Lab",
        licence: "S-Lab License 1.0",
        summary: "non-commercial use only; commercial use needs its authors' permission",
    },
];

fn terms_of(repo: &str) -> Option<&'static Terms> {
    TERMS.iter().find(|terms| terms.repo == repo)
}

impl FromStr for Repo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts: Vec<&str> = name.split('/').collect();
        let plain = |part: &&str| !part.is_empty() && !part.starts_with('.');
        if parts.len() == 2 && parts.iter().all(plain) && !revision.is_empty() {
            let (name, revision) = (name.to_owned(), revision.to_owned());
            return Ok(Self { name, revision });
        }
        Err("write OWNER/NAME or OWNER/NAME@REVISION".to_owned())
    }
}

/// Carries out the command.
///
/// # Errors
/// A licence that is not accepted, a hub that does not hand out a file, or parts that do not make a
/// model.
pub fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| Path::new("models").join(&args.model));
    if out
        .read_dir()
        .map_or(out.exists(), |mut entries| entries.next().is_some())
    {
        let problem = format!(
            "{} exists and is not empty: name another folder",
            out.display()
        );
        anyhow::bail!(Usage(problem));
    }
    let hub = Hub::new(args.hub.clone()).context("prepare the connection")?;
    let repos = [&args.base_repo, &args.noise_predictor_repo];
    eprintln!("{}", statement(&hub, &repos));
    if !args.accept_licences && !asked()? {
        eprintln!("error: the licences are not accepted, and nothing was fetched");
        return Ok(ExitCode::from(USAGE));
    }
    let absolute = std::path::absolute(&out).context("find the current folder")?;
    let downloads = with_suffix(&absolute, ".pull");
    let lock = lock(&downloads)?;
    let Some(fetched) = block_on(fetch(args, &hub, &downloads))? else {
        eprintln!(
            "what arrived is kept in {}: the same command goes on",
            downloads.display()
        );
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let licences = repos.map(|repo| match terms_of(&repo.name) {
        Some(terms) => format!("{}: {}", repo.name, terms.licence),
        None => format!("{}: see {}", repo.name, hub.page(&repo.name)),
    });
    let (base, predictor) = (downloads.join("base"), downloads.join("noise_predictor"));
    let mut enclosed = licences_in(&base, "licences/base");
    enclosed.extend(licences_in(&predictor, "licences/noise_predictor"));
    let parts = Parts {
        base: &base,
        noise_predictor: &predictor.join(&args.noise_predictor_file),
        licence: licences.join("; "),
        source: fetched.join(" and "),
        enclosed,
    };
    let made = make(&parts, &args.making, &out)?;
    drop(lock);
    if made == ExitCode::SUCCESS && !args.keep_downloads {
        fs::remove_dir_all(&downloads)
            .with_context(|| format!("take away {}", downloads.display()))?;
    }
    Ok(made)
}

/// What is fetched, and under which terms.
fn statement(hub: &Hub, repos: &[&Repo]) -> String {
    let mut text = "This fetches two models of others, each under terms of its own:".to_owned();
    for repo in repos {
        let page = hub.page(&repo.name);
        let line = match terms_of(&repo.name) {
            Some(terms) => format!("{}: {} ({})", terms.what, terms.licence, terms.summary),
            None => format!("{}: its licence is not known here", repo.name),
        };
        text = format!("{text}\n  {line}\n    read it at {page}");
    }
    text
}

fn asked() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let problem = "nobody is there to accept the licences: give --accept-licences";
        anyhow::bail!(Usage(problem.to_owned()));
    }
    accepts(io::stdin().lock(), io::stderr()).context("ask for the licences")
}

/// Asks once; everything but a clear yes is a no.
fn accepts(mut answers: impl BufRead, mut questions: impl Write) -> io::Result<bool> {
    write!(questions, "Do you accept both licences? Type yes: ")?;
    questions.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// Keeps a second run from writing into the same files.
fn lock(downloads: &Path) -> anyhow::Result<File> {
    let path = downloads.join("lock");
    let opened = fs::create_dir_all(downloads).and_then(|()| File::create(&path));
    let file = opened.with_context(|| format!("write {}", path.display()))?;
    if file.try_lock().is_err() {
        let problem = format!(
            "another run fetches into {}: wait for it",
            downloads.display()
        );
        anyhow::bail!(problem);
    }
    Ok(file)
}

/// Brings all files into `downloads`, and takes away what lies there from other runs; returns what was fetched, as `owner/name@commit`.
async fn fetch(args: &PullArgs, hub: &Hub, downloads: &Path) -> anyhow::Result<[String; 2]> {
    // The small one first: what cannot be had shows before gigabytes are on their way.
    let folder = downloads.join("noise_predictor");
    let files = [(args.noise_predictor_file.as_str(), Need::Must)];
    let predictor = fetch_all(hub, &args.noise_predictor_repo, &files, &folder).await?;
    let files = base_files(args.making.dtype);
    let files: Vec<_> = files
        .iter()
        .map(|(file, need)| (file.as_str(), *need))
        .collect();
    let base = fetch_all(hub, &args.base_repo, &files, &downloads.join("base")).await?;
    Ok([base, predictor])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    /// Fetched if it is there.
    May,
}

const LICENCES: [&str; 3] = ["LICENSE.md", "LICENSE.txt", "LICENSE"];

/// The base model's files. For a model in f16 those in f16 do, at half the size.
fn base_files(dtype: Option<Dtype>) -> Vec<(String, Need)> {
    let variant = match dtype {
        Some(Dtype::F16) => ".fp16",
        _ => "",
    };
    let mut files = Vec::new();
    for small in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "unet/config.json",
        "vae/config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    ] {
        files.push((small.to_owned(), Need::Must));
    }
    for optional in [
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
    ] {
        files.push((optional.to_owned(), Need::May));
    }
    for (network, stem) in [
        ("text_encoder", "model"),
        ("vae", "diffusion_pytorch_model"),
        ("unet", "diffusion_pytorch_model"),
    ] {
        files.push((format!("{network}/{stem}{variant}.safetensors"), Need::Must));
    }
    files
}

async fn fetch_all(
    hub: &Hub,
    repo: &Repo,
    files: &[(&str, Need)],
    folder: &Path,
) -> anyhow::Result<String> {
    let mut repo = repo.clone();
    let optional = LICENCES.map(|licence| (licence, Need::May));
    let mut kept = Vec::new();
    for (file, need) in files.iter().copied().chain(optional) {
        let bar = FileBar::new(file);
        let mut progress = |done, total| bar.show(done, total);
        let fetched = hub
            .fetch(&repo, file, &folder.join(file), &mut progress)
            .await;
        match fetched {
            // From here on the files of one commit: the branch may move meanwhile.
            Ok(identity) => {
                let is_weights = file.ends_with(".safetensors") || file.ends_with(".pth");
                if is_weights && identity.sha256().is_none() {
                    eprintln!("warning: the hub states no SHA-256 for {file}, which is unchecked");
                }
                repo.revision = identity.commit().unwrap_or(&repo.revision).to_owned();
                kept.push(folder.join(file));
            }
            Err(HubError::NotFound { .. }) if need == Need::May => {}
            Err(error) => return Err(error).with_context(|| format!("fetch {}", repo.name)),
        }
    }
    // Files of another repository, commit or precision, from an earlier run: they would be imported, too.
    keep_only(folder, &kept).with_context(|| format!("clear {}", folder.display()))?;
    Ok(format!("{}@{}", repo.name, repo.revision))
}

/// Takes every file below `folder` away that is not among `kept`, but for the notes beside those.
fn keep_only(folder: &Path, kept: &[PathBuf]) -> io::Result<()> {
    let notes: Vec<_> = kept.iter().map(|file| note_of(file)).collect();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            keep_only(&path, kept)?;
        } else if !kept.contains(&path) && !notes.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A bar a file on a terminal, else a line a file.
struct FileBar {
    bar: ProgressBar,
}

impl FileBar {
    fn new(file: &str) -> Self {
        if !io::stderr().is_terminal() {
            eprintln!("fetching {file}");
            let bar = ProgressBar::hidden();
            return Self { bar };
        }
        let bar = ProgressBar::new(0).with_message(file.to_owned());
        let template = "{msg:<45} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    fn show(&self, done: u64, total: Option<u64>) {
        self.bar.set_length(total.unwrap_or(done));
        self.bar.set_position(done);
    }
}

impl Drop for FileBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_accepts() {
        let told = |answer: &str| accepts(answer.as_bytes(), io::sink()).unwrap();
        assert!(told("yes\n") && told(" YES \n"));
        assert!(!told("") && !told("\n") && !told("y\n") && !told("no\n"));
    }

    #[test]
    fn a_repository_is_an_owner_and_a_name() {
        let repo: Repo = "owner/name@v1/x".parse().unwrap();
        assert_eq!(
            (repo.name.as_str(), repo.revision.as_str()),
            ("owner/name", "v1/x")
        );
        for wrong in ["name", "a/b/c", "/b", "../b", "a/b@"] {
            assert!(wrong.parse::<Repo>().is_err(), "{wrong}");
        }
    }
}
