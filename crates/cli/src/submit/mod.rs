//! `upres submit`: hands images to the queue. [`mod@prepare`] refuses what it can before that.

mod prepare;

use std::cell::OnceCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::Deserialize;
use upres_common::job::Class;
use upres_common::job::view::JobView;

use crate::api::{Api, ApiArgs, Content, block_on, digest};
use crate::batch::{self, CreateArgs, How, fetch};
use crate::cli::Usage;
use crate::interrupt::INTERRUPTED;
use crate::spec::SpecArgs;
use prepare::{Input, NOT_UPLOADED, Prepared, named_like, prepare, request};

/// Submit an image to the queue, or all images of a folder.
#[derive(Debug, clap::Args)]
pub struct SubmitArgs {
    /// A file, which is uploaded first, or the address of an object (s3://bucket/key). A folder's pictures
    /// are uploaded and become a batch, as with `upres batch create`.
    #[arg(value_name = "FILE|FOLDER|s3://…")]
    input: String,
    /// Where the result goes in the object store; needed for an s3:// input.
    #[arg(long, value_name = "s3://…")]
    output: Option<String>,
    /// Fetch the result into this file, those of a folder into this folder; implies --wait.
    #[arg(short = 'o', long, value_name = "FILE")]
    download: Option<PathBuf>,
    /// Replace what is there already: the object at --output, the file at --download.
    #[arg(long)]
    overwrite: bool,
    /// Follow the job to its end; exit status 1 unless it succeeds.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    spec: SpecArgs,
    /// Write no record of what was done beside the result.
    #[arg(long)]
    no_sidecar: bool,
    /// SHA-256 that the input must have, in hexadecimal [default: that of the file, if it is one].
    #[arg(long, value_name = "HEX")]
    input_sha256: Option<String>,
    /// interactive or bulk.
    #[arg(long, value_parser = word::<Class>, default_value = "interactive")]
    class: Class,
    /// Higher goes first within its class; -100 to 100.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
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

/// Where a file may be put, and what are good addresses for a job then.
#[derive(Debug, Deserialize)]
pub struct Upload {
    url: String,
    pub input: String,
    pub output: String,
}

/// Runs the command.
///
/// # Errors
/// What keeps the job from being submitted or followed; [`Usage`] when nothing was sent.
pub fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
    if Path::new(&args.input).is_dir() {
        return batch::create_of(folder(args)?);
    }
    let prepared = prepare(&args)?;
    let api = Api::new(args.api.clone())?;
    let taken = OnceCell::new();
    if let Some(code) = block_on(submit(&api, &args, prepared, &taken))? {
        return Ok(code);
    }
    match taken.get() {
        Some(id) => eprintln!(
            "interrupted; the job goes on: `upres jobs get {id}` shows it, `upres jobs cancel {id}` ends it"
        ),
        None => eprintln!("interrupted; `upres jobs list` shows whether the job was taken"),
    }
    Ok(ExitCode::from(INTERRUPTED))
}

/// The batch of a folder's pictures.
fn folder(args: SubmitArgs) -> anyhow::Result<CreateArgs> {
    let of_one_image = [
        (args.output.is_some(), "--output"),
        (args.no_sidecar, "--no-sidecar"),
        (args.input_sha256.is_some(), "--input-sha256"),
    ];
    if let Some((_, flag)) = of_one_image.iter().find(|(given, _)| *given) {
        let problem = format!("{flag} is about one image, {} is a folder", args.input);
        bail!(Usage(problem));
    }
    Ok(CreateArgs {
        sources: vec![args.input],
        download: args.download,
        overwrite: args.overwrite,
        spec: args.spec,
        class: args.class,
        priority: args.priority,
        labels: args.labels,
        how: How {
            dry_run: false,
            watch: true,
            json: args.json,
            api: args.api,
        },
        output: None,
        also: Vec::new(),
        include: Vec::new(),
        exclude: Vec::new(),
        atomic: false,
        report: None,
        bagit: false,
        webhook: None,
    })
}

async fn submit(
    api: &Api,
    args: &SubmitArgs,
    prepared: Prepared,
    taken: &OnceCell<String>,
) -> anyhow::Result<ExitCode> {
    let Prepared { input, format } = prepared;
    let mut sha256 = None;
    let (input, output) = match input {
        Input::Object(uri) => (uri, NOT_UPLOADED[1].to_owned()),
        Input::File { name, path, .. } => {
            let found = digest(&path).with_context(|| format!("cannot read {}", path.display()))?;
            sha256 = Some(found);
            let upload = upload(api, &name, Content::File(path)).await?;
            (upload.input, named_like(upload.output, format))
        }
    };
    let mut request = request(
        args,
        format,
        &input,
        args.output.as_deref().unwrap_or(&output),
    )?;
    request.upscale.input_sha256 = args.input_sha256.clone().or(sha256);
    let job: JobView = api
        .send(api.request(Method::POST, "jobs").json(&request))
        .await?;
    let _ = taken.set(job.id.to_string());
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
    finish(api, args, &job).await
}

/// Follows the job to its end and brings back the result.
async fn finish(api: &Api, args: &SubmitArgs, job: &JobView) -> anyhow::Result<ExitCode> {
    let job = follow(api, job, args.json).await?;
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
        let sha256 = job.result.as_ref().map(|result| result.sha256.as_str());
        let fetched = fetch::result(api, job.id, sha256, file, args.overwrite).await;
        fetched.with_context(|| {
            format!(
                "the result is {}, but was not fetched (`upres jobs result {} -o FILE` does)",
                job.output, job.id
            )
        })?;
        if !args.json {
            println!("{}", file.display());
        }
    } else if let Some(result) = job.result.filter(|_| !args.json) {
        println!("{}", result.uri);
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a file where the coordinator says.
///
/// # Errors
/// When either does not take it.
pub async fn upload(api: &Api, name: &str, content: Content) -> anyhow::Result<Upload> {
    let ask = api
        .request(Method::POST, "uploads")
        .json(&serde_json::json!({"file_name": name}));
    let upload: Upload = api.send(ask).await?;
    api.put(&upload.url, content).await?;
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

/// Reads a word of the API, such as a class.
pub fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| error.to_string())
}

/// Reads `name=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("`{text}` is no label: write name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}
