//! `upres batch create` and `upres batch rerun`.

use std::process::ExitCode;

use anyhow::bail;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use upres_common::batch::view::BatchPrice;
use upres_common::batch::{BatchRequest, BatchView};
use upres_common::job::file_options::FileOptions;
use upres_common::job::request::UpscaleRequest;
use upres_common::job::{Class, IfExists};

use super::{show, watch};
use crate::api::{Api, ApiArgs, block_on};
use crate::cli::Usage;
use crate::spec::SpecArgs;
use crate::submit::{label, word};

/// A batch, as flags.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// s3://bucket/prefix/ for every object under it, or s3://bucket/list.jsonl (.ndjson, .csv, each also
    /// .gz) for what it lists.
    #[arg(value_name = "s3://…")]
    source: String,
    /// Where results go, with {bucket}, {prefix}, {dir}, {name}, {stem}, {ext}, {steps} and {line}: for
    /// example s3://derivatives/{dir}/{stem}.{ext}.
    #[arg(long, value_name = "s3://…")]
    output: Option<String>,
    /// Of the objects under the prefix only these, such as '**/*.tif'; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// And none of these; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Replace results that are there already; otherwise their inputs fail with output/exists.
    #[arg(long)]
    overwrite: bool,
    /// Start nothing unless every item is acceptable.
    #[arg(long)]
    atomic: bool,
    /// Write the report into this folder at the end, as report.jsonl and report.csv.
    #[arg(long, value_name = "s3://…")]
    report: Option<String>,
    /// Make that folder a bag (BagIt): complete if results go to data/ below it.
    #[arg(long, requires = "report")]
    bagit: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    spec: SpecArgs,
    /// interactive or bulk.
    #[arg(long, value_parser = word::<Class>, default_value = "bulk")]
    class: Class,
    /// Higher goes first within its class; -100 to 100.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: i32,
    /// For finding the batch and its jobs again: name=value, may be repeated.
    #[arg(long = "label", value_parser = label, value_name = "NAME=VALUE")]
    labels: Vec<(String, String)>,
    /// Address to be told when it is finished, by a signed message.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
}

/// A batch whose sources are run again, as flags.
#[derive(Debug, clap::Args)]
pub struct RerunArgs {
    /// The batch's id; it must be over.
    id: String,
    /// Write the report into this folder at the end, as report.jsonl and report.csv.
    #[arg(long, value_name = "s3://…")]
    report: Option<String>,
    /// Make that folder a bag (BagIt).
    #[arg(long, requires = "report")]
    bagit: bool,
    #[command(flatten)]
    how: How,
}

/// What is done with the request, and how the answer is shown.
#[derive(Debug, clap::Args)]
struct How {
    /// Say what the batch would be, from the sources and a sample of the images, and submit nothing.
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Follow it to its end; exit status 1 unless every input succeeded.
    #[arg(long)]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Endings of what is a list and not a folder.
const LISTS: [&str; 3] = [".jsonl", ".ndjson", ".csv"];

pub fn run(args: CreateArgs) -> anyhow::Result<Option<ExitCode>> {
    if !args.source.starts_with("s3://") {
        let problem = format!(
            "`{}` is not in the object store: give s3://bucket/prefix/, or a manifest there",
            args.source
        );
        bail!(Usage(problem));
    }
    let request = request(&args);
    submit(args.how, &request)
}

pub fn rerun(args: RerunArgs) -> anyhow::Result<Option<ExitCode>> {
    let mut request = json!({ "parent": args.id });
    if let Some(report) = args.report {
        request["report"] = json!(report);
        request["bagit"] = json!(args.bagit);
    }
    submit(args.how, &request)
}

fn submit(how: How, request: &impl Serialize) -> anyhow::Result<Option<ExitCode>> {
    let How {
        dry_run,
        watch: follow,
        json,
        api,
    } = how;
    let api = Api::new(api)?;
    block_on(async {
        let post = api.request(Method::POST, "batches").json(request);
        if dry_run {
            let price = api.ask_at_leisure(post.query(&[("validate_only", "true")]));
            print_price(&price.await?.json().await?, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let batch: BatchView = api.send(post).await?;
        if follow {
            eprintln!("batch {}", batch.id);
            return watch::watch(&api, &batch.id.to_string(), json).await;
        }
        show(&batch, json)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn request(args: &CreateArgs) -> BatchRequest {
    let plain = args.source.strip_suffix(".gz").unwrap_or(&args.source);
    let is_list = LISTS.iter().any(|ending| plain.ends_with(ending));
    let (manifest, prefix) = if is_list {
        (Some(args.source.clone()), None)
    } else {
        (None, Some(args.source.clone()))
    };
    let spec = &args.spec;
    let upscale = UpscaleRequest {
        timesteps: Some(spec.schedule().into()),
        seed: Some(spec.seed),
        color_fix: Some(spec.color_fix),
        tile: Some(spec.tile),
        overlap: spec.overlap(),
        guidance: Some(spec.guidance),
        format: spec.format,
        strip_gps: spec.strip_gps.then_some(true),
        file: Some(spec.file.options()).filter(|file| *file != FileOptions::default()),
        ..UpscaleRequest::default()
    };
    BatchRequest {
        prefix,
        manifest,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        output: args.output.clone(),
        if_exists: if args.overwrite {
            IfExists::Overwrite
        } else {
            IfExists::Fail
        },
        upscale,
        class: args.class,
        priority: args.priority,
        labels: args.labels.iter().cloned().collect(),
        atomic: args.atomic,
        report: args.report.clone(),
        bagit: args.bagit,
        webhook: args.webhook.clone(),
        ..BatchRequest::default()
    }
}

fn print_price(price: &BatchPrice, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(price)?);
        return Ok(());
    }
    let beginning = if price.partial {
        " in the beginning that was read"
    } else {
        ""
    };
    println!(
        "{} files{beginning}, {} skipped, {} refused",
        price.files, price.skipped, price.refused
    );
    if price.unchanged > 0 {
        println!("{} unchanged, not to be made again", price.unchanged);
    }
    if let Some(bytes) = price.bytes {
        println!("{bytes} bytes of inputs");
    }
    println!(
        "about {} tile-steps, reckoned from the headers of {} files",
        price.tile_steps, price.sampled
    );
    match price.seconds {
        Some(seconds) => println!("about {seconds:.0} s of work at the present pace"),
        None => println!("no pace is known: no job has ended lately"),
    }
    for problem in &price.problems {
        println!("refused: {problem}");
    }
    Ok(())
}
