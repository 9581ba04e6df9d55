//! `upres submit`: hands images to the queue.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::Deserialize;
use upres_common::job::request::UpscaleRequest;
use upres_common::job::spec::{ColorFix, OutputFormat, Timesteps};
use upres_common::job::view::JobView;
use upres_common::job::{Class, IfExists, JobRequest};

use crate::api::{Api, ApiArgs, block_on};

/// Submit an image to the queue.
#[derive(Debug, clap::Args)]
pub struct SubmitArgs {
    /// A file, which is uploaded first, or the address of an object (s3://bucket/key).
    #[arg(value_name = "FILE|s3://…")]
    input: String,
    /// Where the result goes in the object store; needed for an s3:// input.
    #[arg(long, value_name = "s3://…")]
    output: Option<String>,
    /// Fetch the result into this file; implies --wait.
    #[arg(short = 'o', long, value_name = "FILE")]
    download: Option<PathBuf>,
    /// Replace what is there already: the object at --output, the file at --download.
    #[arg(long)]
    overwrite: bool,
    /// Follow the job to its end; exit status 1 unless it succeeds.
    #[arg(long)]
    wait: bool,
    /// The default schedule of 1 to 5 steps.
    #[arg(long, conflicts_with = "timesteps", value_name = "N")]
    steps: Option<u32>,
    /// The denoising schedule, falling, for example 250,150,50.
    #[arg(long, value_name = "LIST")]
    timesteps: Option<Timesteps>,
    /// Keys the noise.
    #[arg(long, value_name = "U64")]
    seed: Option<u64>,
    /// Side of a tile in low-resolution pixels.
    #[arg(long, value_name = "PX")]
    tile: Option<u32>,
    /// none, wavelet, adain or ycbcr.
    #[arg(long, value_parser = word::<ColorFix>, value_name = "FIX")]
    color_fix: Option<ColorFix>,
    /// keep, png, tiff, jpeg or webp.
    #[arg(long, value_parser = word::<OutputFormat>)]
    format: Option<OutputFormat>,
    /// interactive or bulk.
    #[arg(long, value_parser = word::<Class>, default_value = "interactive")]
    class: Class,
    /// Higher goes first within its class; -100 to 100.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i32,
    /// For finding it again: name=value, may be repeated.
    #[arg(long = "label", value_parser = label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Print JSON: the job, or with --wait every state of it, one a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct Upload {
    url: String,
    input: String,
    output: String,
}

/// Runs the command.
///
/// # Errors
/// What keeps the job from being submitted or followed.
pub fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.download
        && file.exists()
        && !args.overwrite
    {
        bail!(
            "{} exists: give another file, or --overwrite",
            file.display()
        );
    }
    let api = Api::new(args.api.clone())?;
    match block_on(submit(&api, args))? {
        Some(code) => Ok(code),
        None => {
            eprintln!("interrupted; a job that was submitted goes on: see `upres jobs list`");
            Ok(ExitCode::from(130))
        }
    }
}

async fn submit(api: &Api, args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let request = request(api, &args).await?;
    let job: JobView = api
        .send(api.request(Method::POST, "jobs").json(&request))
        .await?;
    for warning in &job.warnings {
        eprintln!("warning: {warning}");
    }
    if args.download.is_none() && !args.wait {
        if args.json {
            println!("{}", serde_json::to_string(&job)?);
        } else {
            println!("{}", job.id);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let job = follow(api, &job, args.json).await?;
    if job.state != "succeeded" {
        let why = job
            .error
            .as_ref()
            .map(|error| format!(": {}", error.detail))
            .unwrap_or_default();
        eprintln!("{} is {}{why}", job.id, job.state);
        return Ok(ExitCode::FAILURE);
    }
    if let Some(file) = &args.download {
        save(file, &api.result(&job.id.to_string()).await?)?;
        if !args.json {
            println!("{}", file.display());
        }
    } else if let Some(result) = job.result.filter(|_| !args.json) {
        println!("{}", result.uri);
    }
    Ok(ExitCode::SUCCESS)
}

async fn request(api: &Api, args: &SubmitArgs) -> anyhow::Result<JobRequest> {
    let (input, suggested) = if args.input.starts_with("s3://") {
        (args.input.clone(), None)
    } else {
        let upload = upload(api, Path::new(&args.input)).await?;
        (upload.input, Some(upload.output))
    };
    let Some(output) = args.output.clone().or(suggested) else {
        bail!("say where the result goes: --output s3://bucket/key");
    };
    let mut request = JobRequest::new(input, output);
    request.if_exists = if args.overwrite {
        IfExists::Overwrite
    } else {
        IfExists::Fail
    };
    request.class = args.class;
    request.priority = args.priority;
    request.labels = args.labels.iter().cloned().collect::<BTreeMap<_, _>>();
    request.upscale = UpscaleRequest {
        timesteps: args.timesteps.clone().map(Into::into),
        steps: args.steps,
        seed: args.seed,
        color_fix: args.color_fix,
        tile: args.tile,
        model: None,
        format: args.format,
    };
    Ok(request)
}

async fn upload(api: &Api, file: &Path) -> anyhow::Result<Upload> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let ask = api
        .request(Method::POST, "uploads")
        .json(&serde_json::json!({"file_name": name}));
    let upload: Upload = api.send(ask).await?;
    api.put(&upload.url, bytes).await?;
    Ok(upload)
}

async fn follow(api: &Api, job: &JobView, json: bool) -> anyhow::Result<JobView> {
    let bar = match std::io::stderr().is_terminal() && !json {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    let style = ProgressStyle::with_template("{msg:10} {bar:30} {pos}/{len} tiles");
    bar.set_style(style.expect("the template is valid"));
    let mut shown = String::new();
    let done = api
        .follow(&job.id.to_string(), |job| {
            if json {
                println!(
                    "{}",
                    serde_json::to_string(job).expect("a job is plain data")
                );
            } else if bar.is_hidden() && shown != job.state {
                eprintln!("{} {}", job.id, job.state);
            }
            shown.clone_from(&job.state);
            bar.set_message(job.state.clone());
            if let Some(progress) = job.progress {
                bar.set_length(u64::from(progress.tiles_total));
                bar.set_position(u64::from(progress.tiles));
            }
        })
        .await?;
    bar.finish_and_clear();
    Ok(done)
}

/// Writes beside the file and renames, so that it is whole or absent.
fn save(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Reads one of an enumeration's words as the API writes them.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("`{text}` is no label: write name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}
