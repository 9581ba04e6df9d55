//! `upres batch create` and `upres batch rerun`.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use upres_common::batch::view::BatchPrice;
use upres_common::batch::{BatchRequest, BatchView};
use upres_common::job::file_options::FileOptions;
use upres_common::job::request::UpscaleRequest;
use upres_common::job::spec::Timesteps;
use upres_common::job::{Class, IfExists};

use super::fetch::{self, Item};
use super::local::Local;
use super::{show, watch};
use crate::api::{Api, ApiArgs, block_on};
use crate::cli::Usage;
use crate::spec::{SpecArgs, parse_timesteps};
use crate::submit::{label, word};

/// A batch, as flags.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// s3://bucket/prefix/ for every object under it, s3://bucket/list.jsonl (.ndjson, .csv, each also .gz)
    /// for what it lists; or files and folders of this machine, which are uploaded first.
    #[arg(value_name = "s3://…|FILE", required = true)]
    pub sources: Vec<String>,
    /// Where results go, with {bucket}, {prefix}, {dir}, {name}, {stem}, {ext}, {steps} and {line}: for
    /// example s3://derivatives/{dir}/{stem}.{ext}.
    #[arg(long, value_name = "s3://…")]
    pub output: Option<String>,
    /// Fetch the results of files of this machine into this folder at the end; implies --watch.
    #[arg(short = 'o', long, value_name = "FOLDER")]
    pub download: Option<PathBuf>,
    /// Upscale each file of this machine under this schedule, too, such as 250,150,50; may be repeated. The
    /// names of the results tell their schedule then.
    #[arg(long, value_name = "T,T,...", value_parser = parse_timesteps, requires = "download")]
    pub also: Vec<Timesteps>,
    /// Of the objects under the prefix only these, such as '**/*.tif'; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// And none of these; may be repeated.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Replace results that are there already; otherwise their inputs fail with output/exists.
    #[arg(long)]
    pub overwrite: bool,
    /// Start nothing unless every item is acceptable.
    #[arg(long)]
    pub atomic: bool,
    /// Write the report into this folder at the end, as report.jsonl and report.csv.
    #[arg(long, value_name = "s3://…")]
    pub report: Option<String>,
    /// Make that folder a bag (BagIt): complete if results go to data/ below it.
    #[arg(long, requires = "report")]
    pub bagit: bool,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub spec: SpecArgs,
    /// interactive or bulk.
    #[arg(long, value_parser = word::<Class>, default_value = "bulk")]
    pub class: Class,
    /// Higher goes first within its class; -100 to 100.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub priority: i32,
    /// For finding the batch and its jobs again: name=value, may be repeated.
    #[arg(long = "label", value_parser = label, value_name = "NAME=VALUE")]
    pub labels: Vec<(String, String)>,
    /// Address to be told when it is finished, by a signed message.
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,
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
pub struct How {
    /// Say what the batch would be, from the sources and a sample of the images, and submit nothing.
    #[arg(long, conflicts_with = "watch")]
    pub dry_run: bool,
    /// Follow it to its end; exit status 1 unless every input succeeded.
    #[arg(long)]
    pub watch: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub api: ApiArgs,
}

/// Endings of what is a list and not a folder.
const LISTS: [&str; 3] = [".jsonl", ".ndjson", ".csv"];

pub fn run(args: CreateArgs) -> anyhow::Result<Option<ExitCode>> {
    let [source] = args.sources.as_slice() else {
        if args.sources.iter().any(|source| in_store(source)) {
            let problem = "of the object store give one prefix or one manifest".to_owned();
            bail!(Usage(problem));
        }
        return of_this_machine(&args);
    };
    if !in_store(source) {
        return of_this_machine(&args);
    }
    if args.download.is_some() {
        let problem = "results of objects stay in the store: say where, with --output".to_owned();
        bail!(Usage(problem));
    }
    let request = request(&args, Some(source))?;
    submit(args.how, &request)
}

fn in_store(source: &str) -> bool {
    source.starts_with("s3://")
}

fn of_this_machine(args: &CreateArgs) -> anyhow::Result<Option<ExitCode>> {
    let bound_to_the_store = [
        (args.output.is_some(), "--output"),
        (!args.include.is_empty(), "--include"),
        (!args.exclude.is_empty(), "--exclude"),
    ];
    if let Some((_, flag)) = bound_to_the_store.iter().find(|(given, _)| *given) {
        let problem = format!("{flag} is about objects in the store, these are files");
        bail!(Usage(problem));
    }
    let local = Local::new(args)?;
    let api = Api::new(args.how.api.clone())?;
    let taken = OnceCell::new();
    let ended = block_on(send_and_fetch(&api, args, &local, &taken))?;
    if ended.is_none() {
        let folder = args.download.as_deref().unwrap_or(Path::new("."));
        match taken.get() {
            Some(id) => eprintln!(
                "interrupted; the batch goes on: `upres batch fetch {id} -o {}` fetches its results, `upres batch cancel {id}` ends it",
                folder.display()
            ),
            None => eprintln!("interrupted; `upres batch list` shows whether the batch was taken"),
        }
    }
    Ok(ended)
}

async fn send_and_fetch(
    api: &Api,
    args: &CreateArgs,
    local: &Local,
    taken: &OnceCell<String>,
) -> anyhow::Result<ExitCode> {
    let mut request = request(args, None)?;
    request.manifest = Some(local.send(api, &request).await?);
    let post = api.request(Method::POST, "batches").json(&request);
    let batch: BatchView = api.send(post).await?;
    let id = taken.get_or_init(|| batch.id.to_string());
    eprintln!("batch {id}");
    watch::watch(api, id, args.how.json).await?;
    let how = fetch::How {
        overwrite: args.overwrite,
        json: args.how.json,
    };
    let results = local.results();
    let name = |item: &Item| results.get(usize::try_from(item.line - 1).ok()?).copied();
    let fetched = fetch::fetch(api, id, how, |items| {
        let names = items.iter().map(name);
        names.map(|name| name.map(Path::to_owned)).collect()
    });
    let whole = fetched.await? && local.is_whole();
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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
    let taken = OnceCell::new();
    let ended = block_on(async {
        let post = api.request(Method::POST, "batches").json(request);
        if dry_run {
            let price = api.ask_at_leisure(post.query(&[("validate_only", "true")]));
            print_price(&price.await?.json().await?, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let batch: BatchView = api.send(post).await?;
        if follow {
            let id = taken.get_or_init(|| batch.id.to_string());
            eprintln!("batch {id}");
            return watch::watch(&api, id, json).await;
        }
        show(&batch, json)?;
        Ok(ExitCode::SUCCESS)
    })?;
    if let (None, Some(id)) = (&ended, taken.get()) {
        eprintln!(
            "interrupted; the batch goes on: `upres batch watch {id}` follows it, `upres batch cancel {id}` ends it"
        );
    }
    Ok(ended)
}

/// - `source`: in the object store.
fn request(args: &CreateArgs, source: Option<&str>) -> Result<BatchRequest, Usage> {
    let is_list = |source: &&str| {
        let plain = source.strip_suffix(".gz").unwrap_or(source);
        LISTS.iter().any(|ending| plain.ends_with(ending))
    };
    let manifest = source.filter(is_list).map(str::to_owned);
    let prefix = source.filter(|source| !is_list(source)).map(str::to_owned);
    let spec = &args.spec;
    let upscale = UpscaleRequest {
        timesteps: Some(spec.schedule().into()),
        seed: Some(spec.seed),
        color_fix: Some(spec.color_fix),
        tile: Some(spec.tile),
        overlap: spec.overlap()?,
        guidance: Some(spec.guidance),
        format: spec.format,
        strip_gps: spec.strip_gps.then_some(true),
        pages: (!spec.pages.is_all()).then(|| spec.pages.to_string()),
        file: Some(spec.file.options()).filter(|file| *file != FileOptions::default()),
        ..UpscaleRequest::default()
    };
    Ok(BatchRequest {
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
    })
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
