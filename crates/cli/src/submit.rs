//! `upres submit`: hands images to the queue.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use imaging::Format;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::Deserialize;
use upres_common::job::request::UpscaleRequest;
use upres_common::job::spec::OutputFormat;
use upres_common::job::view::JobView;
use upres_common::job::{Class, IfExists, JobRequest};

use crate::api::{Api, ApiArgs, block_on};
use crate::cli::Usage;
use crate::interrupt::INTERRUPTED;
use crate::spec::SpecArgs;
use crate::upscale::plan::{FormatChoice, PlanError, identity, named_format, promised};
use crate::upscale::write;

/// Stand in for the addresses of a file that is not uploaded yet while the request is checked.
const NOT_UPLOADED: [&str; 2] = ["s3://not-uploaded/input", "s3://not-uploaded/output"];

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
    #[command(flatten)]
    spec: SpecArgs,
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

#[derive(Debug, Deserialize)]
struct Upload {
    url: String,
    input: String,
    output: String,
}

/// What is submitted, once it was found to be possible as far as this machine can tell.
struct Prepared {
    input: Input,
    /// `None`: the input's.
    format: Option<OutputFormat>,
}

enum Input {
    /// It is in the store already.
    Object(String),
    /// It is uploaded first.
    File { name: String, bytes: Vec<u8> },
}

/// Runs the command.
///
/// # Errors
/// What keeps the job from being submitted or followed; [`Usage`] when nothing was sent.
pub fn run(args: SubmitArgs) -> anyhow::Result<ExitCode> {
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

/// Everything that can be refused before anything is sent.
fn prepare(args: &SubmitArgs) -> anyhow::Result<Prepared> {
    let input = if args.input.starts_with("s3://") {
        if args.output.is_none() {
            let problem = "say where the result goes: --output s3://bucket/key";
            bail!(Usage(problem.to_owned()));
        }
        Input::Object(args.input.clone())
    } else {
        let path = Path::new(&args.input);
        if let Some(out) = &args.download
            && identity(path).is_some_and(|file| identity(out) == Some(file))
        {
            bail!(Usage(PlanError::OutputIsInput(out.clone()).to_string()));
        }
        read(path)?
    };
    let format = format(args, &input).map_err(|error| Usage(error.to_string()))?;
    let prepared = Prepared { input, format };
    let [input, output] = match &prepared.input {
        Input::Object(uri) => [uri.as_str(), NOT_UPLOADED[1]],
        Input::File { .. } => NOT_UPLOADED,
    };
    let output = args.output.as_deref().unwrap_or(output);
    if let Err(errors) = request(args, format, input, output).validate() {
        let sentences: Vec<_> = errors
            .iter()
            .map(|error| {
                format!(
                    "{}: {}",
                    error.pointer.trim_start_matches('/'),
                    error.detail
                )
            })
            .collect();
        bail!(Usage(sentences.join("\n  ")));
    }
    if let Some(file) = &args.download {
        write::check(file, args.overwrite).map_err(|failure| anyhow!(failure.detail))?;
    }
    Ok(prepared)
}

fn read(file: &Path) -> anyhow::Result<Input> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    Ok(Input::File { name, bytes })
}

/// The format that the results' names ask for, unless a flag does; a name that would lie is refused.
fn format(args: &SubmitArgs, input: &Input) -> Result<Option<OutputFormat>, PlanError> {
    let found = match input {
        Input::Object(uri) => promised(Path::new(uri)),
        // What is no picture is refused by the queue, in its own words.
        Input::File { bytes, .. } => imaging::sniff(bytes).ok(),
    };
    let object = args.output.as_deref().map(Path::new);
    let object = object.filter(|uri| promised(uri).is_some());
    let mut choice = FormatChoice::from(args.spec.format);
    for name in args.download.as_deref().into_iter().chain(object) {
        if let Some(format) = named_format(name, choice, found)? {
            choice = FormatChoice::Fixed(format);
        }
    }
    Ok(match choice {
        FormatChoice::Fixed(Format::Png) => Some(OutputFormat::Png),
        FormatChoice::Fixed(Format::Tiff) => Some(OutputFormat::Tiff),
        FormatChoice::Fixed(Format::Jpeg) => Some(OutputFormat::Jpeg),
        FormatChoice::Fixed(Format::WebP) => Some(OutputFormat::Webp),
        FormatChoice::Keep | FormatChoice::Unsaid => None,
    })
}

fn request(
    args: &SubmitArgs,
    format: Option<OutputFormat>,
    input: &str,
    output: &str,
) -> JobRequest {
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
        timesteps: Some(args.spec.schedule().into()),
        steps: None,
        seed: Some(args.spec.seed),
        color_fix: Some(args.spec.color_fix),
        tile: Some(args.spec.tile),
        model: None,
        format,
    };
    request
}

async fn submit(
    api: &Api,
    args: &SubmitArgs,
    prepared: Prepared,
    taken: &OnceCell<String>,
) -> anyhow::Result<ExitCode> {
    let Prepared { input, format } = prepared;
    let (input, output) = match input {
        Input::Object(uri) => (uri, NOT_UPLOADED[1].to_owned()),
        Input::File { name, bytes } => {
            let upload = upload(api, &name, bytes).await?;
            (upload.input, named_like(upload.output, format))
        }
    };
    let request = request(
        args,
        format,
        &input,
        args.output.as_deref().unwrap_or(&output),
    );
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
        let bytes = api.result(&job.id.to_string()).await?;
        if let Err(failure) = write::write(file, &bytes, args.overwrite) {
            bail!("{}; the result is {}", failure.detail, job.output);
        }
        if !args.json {
            println!("{}", file.display());
        }
    } else if let Some(result) = job.result.filter(|_| !args.json) {
        println!("{}", result.uri);
    }
    Ok(ExitCode::SUCCESS)
}

async fn upload(api: &Api, name: &str, bytes: Vec<u8>) -> anyhow::Result<Upload> {
    let ask = api
        .request(Method::POST, "uploads")
        .json(&serde_json::json!({"file_name": name}));
    let upload: Upload = api.send(ask).await?;
    api.put(&upload.url, bytes).await?;
    Ok(upload)
}

/// The address suggested for a result is named like its input, which may be of another format.
fn named_like(output: String, format: Option<OutputFormat>) -> String {
    let FormatChoice::Fixed(format) = FormatChoice::from(format) else {
        return output;
    };
    let path = Path::new(&output);
    match promised(path) {
        Some(named) if named != format => {
            let renamed = path.with_extension(format.extension());
            renamed.to_string_lossy().into_owned()
        }
        _ => output,
    }
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

/// Reads one of an enumeration's words as the API writes them.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|error| error.to_string())
}

/// Reads `name=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("`{text}` is no label: write name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &[&str]) -> SubmitArgs {
        match Cli::parse_from([&["upres", "submit"], line].concat()).command {
            Command::Submit(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn asked(line: &[&str], found: Format) -> Result<Option<OutputFormat>, String> {
        let head: &[u8] = match found {
            Format::Png => b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            _ => b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        };
        assert_eq!(imaging::sniff(head).ok(), Some(found));
        let args = args(line);
        let input = match args.input.starts_with("s3://") {
            true => Input::Object(args.input.clone()),
            false => Input::File {
                name: args.input.clone(),
                bytes: head.to_vec(),
            },
        };
        format(&args, &input).map_err(|error| error.to_string())
    }

    #[test]
    fn the_name_of_the_result_says_its_format() {
        for (line, expected) in [
            (vec!["a.jpg", "-o", "a.png"], Some(OutputFormat::Png)),
            (vec!["a.jpg", "-o", "a"], Some(OutputFormat::Jpeg)),
            (vec!["a.jpg"], None),
            (
                vec!["a.jpg", "--format", "keep", "-o", "b.jpg"],
                Some(OutputFormat::Jpeg),
            ),
            (
                vec!["s3://abc/a.jpg", "--output", "s3://abc/b.tif"],
                Some(OutputFormat::Tiff),
            ),
            (vec!["s3://abc/a", "--output", "s3://abc/b"], None),
            (vec!["s3://abc/a", "--output", "s3://abc/b.2026"], None),
        ] {
            assert_eq!(asked(&line, Format::Jpeg), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn a_name_that_would_lie_is_refused() {
        for line in [
            vec!["a.jpg", "-o", "a.png", "--format", "jpeg"],
            vec!["a.jpg", "-o", "a.png", "--format", "keep"],
            vec!["a.jpg", "-o", "a.png", "--output", "s3://abc/a.jpg"],
            vec!["a.jpg", "--format", "png", "--output", "s3://abc/a.jpg"],
        ] {
            let problem = asked(&line, Format::Jpeg).unwrap_err();
            assert!(problem.contains("is named like"), "{problem}");
        }
        let problem = asked(&["a.png", "-o", "a.gif"], Format::Png).unwrap_err();
        assert!(problem.contains("not written as"), "{problem}");
    }

    #[test]
    fn the_suggested_address_gets_the_formats_extension() {
        let suggested = || "s3://upres/results/1/a.jpg".to_owned();
        let named = |format| named_like(suggested(), format);
        assert_eq!(named(None), suggested());
        assert_eq!(named(Some(OutputFormat::Jpeg)), suggested());
        assert_eq!(named(Some(OutputFormat::Png)), "s3://upres/results/1/a.png");
    }
}
