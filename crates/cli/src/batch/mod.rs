//! `upres batch`: many images at once. [`create`] submits, [`watch`] follows, the rest is said here.

mod create;
pub mod fetch;
mod local;
mod watch;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::json;
use upres_common::batch::BatchView;
use upres_common::batch::view::{BatchPage, Phase};
use upres_common::job::Class;
use upres_common::job::view::Explanation;

use crate::api::{Api, ApiArgs, block_on};
use crate::interrupt::INTERRUPTED;
use create::RerunArgs;
pub use create::{CreateArgs, How};

/// Submit many images at once, follow and steer them.
#[derive(Debug, clap::Args)]
pub struct BatchArgs {
    #[command(subcommand)]
    command: BatchCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BatchCommand {
    /// Submit a batch: everything under a prefix, what a manifest lists, or files of this machine.
    Create(Box<CreateArgs>),
    /// Run the sources of a batch again: what did not succeed, and what has changed since.
    Rerun(RerunArgs),
    /// List batches, newest first.
    List {
        /// Show at most this many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Show how far a batch is.
    Status(One),
    /// Follow a batch to its end; exit status 1 unless every input succeeded.
    Watch(One),
    /// Print what became of every input, a line each.
    Report {
        /// The batch's id.
        id: String,
        /// JSON lines or a table.
        #[arg(long, default_value = "jsonl", value_parser = ["jsonl", "csv"])]
        format: String,
        /// JSON lines, as without it.
        #[arg(long, conflicts_with = "format")]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Fetch the results of a batch into a folder, under the names that their files had, or of what their
    /// addresses do not share. Results that are there already stay: it may be repeated.
    Fetch {
        /// Where they go.
        #[arg(short = 'o', long = "download", value_name = "FOLDER")]
        folder: PathBuf,
        /// Replace other files of these names.
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        one: One,
    },
    /// Start nothing more of a batch; what runs goes on.
    Pause(One),
    /// Go on with a paused batch.
    Resume(One),
    /// Cancel what has not ended of a batch. Final.
    Cancel(One),
    /// Try failed jobs of a batch anew: all that another attempt can help, or those with an error of a type.
    RetryFailed {
        /// Only errors whose type begins with this, such as transient/ or input/not_found.
        #[arg(long, value_name = "TYPE")]
        error_type: Option<String>,
        #[command(flatten)]
        one: One,
    },
    /// Change the class or the priority of a batch.
    #[command(group = clap::ArgGroup::new("what").args(["class", "priority"]).required(true).multiple(true))]
    Change {
        /// interactive or bulk.
        #[arg(long, value_parser = crate::submit::word::<Class>)]
        class: Option<Class>,
        /// Higher goes first; -100 to 100.
        #[arg(long, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
        priority: Option<i32>,
        #[command(flatten)]
        one: One,
    },
}

#[derive(Debug, clap::Args)]
struct One {
    /// The batch's id.
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Print JSON, one value a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Ask why a job is not running yet, or how it ended.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The job's id.
    id: String,
    #[command(flatten)]
    common: Common,
}

/// Runs `upres batch`.
///
/// # Errors
/// What the coordinator answers, in sentences.
pub fn run(args: BatchArgs) -> anyhow::Result<ExitCode> {
    let done = match args.command {
        BatchCommand::Create(args) => create::run(*args)?,
        BatchCommand::Rerun(args) => create::rerun(args)?,
        BatchCommand::List { limit, common } => with_api(common, async |api, json| {
            let query = [("limit", limit.to_string())];
            let page: BatchPage = api
                .send(api.request(Method::GET, "batches").query(&query))
                .await?;
            for batch in &page.batches {
                show(batch, json)?;
            }
            Ok(ExitCode::SUCCESS)
        })?,
        BatchCommand::Status(one) => ask(one, Method::GET, "", None)?,
        BatchCommand::Watch(one) => {
            let id = one.id;
            with_api(one.common, async |api, json| {
                watch::watch(api, &id, json).await
            })?
        }
        BatchCommand::Report {
            id, format, api, ..
        } => {
            let api = Api::new(api)?;
            block_on(report(&api, &id, &format))?
        }
        BatchCommand::Fetch {
            folder,
            overwrite,
            one,
        } => with_api(one.common, async |api, json| {
            let how = fetch::How { overwrite, json };
            let name = |items: &[fetch::Item]| fetch::names(&folder, items);
            let whole = fetch::fetch(api, &one.id, how, name).await?;
            Ok(ExitCode::from(u8::from(!whole)))
        })?,
        BatchCommand::Pause(one) => ask(one, Method::POST, "/pause", None)?,
        BatchCommand::Resume(one) => ask(one, Method::POST, "/resume", None)?,
        BatchCommand::Cancel(one) => ask(one, Method::POST, "/cancel", None)?,
        BatchCommand::RetryFailed { error_type, one } => {
            let body = json!({ "error_type": error_type });
            ask(one, Method::POST, "/retry-failed", Some(body))?
        }
        BatchCommand::Change {
            class,
            priority,
            one,
        } => {
            let body = json!({ "class": class, "priority": priority });
            ask(one, Method::PATCH, "", Some(body))?
        }
    };
    Ok(done.unwrap_or(ExitCode::from(INTERRUPTED)))
}

/// Runs `upres batch create`.
///
/// # Errors
/// What the coordinator answers, in sentences.
pub fn create_of(args: CreateArgs) -> anyhow::Result<ExitCode> {
    Ok(create::run(args)?.unwrap_or(ExitCode::from(INTERRUPTED)))
}

/// Runs `upres explain`.
///
/// # Errors
/// What the coordinator answers, in sentences.
pub fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let id = args.id;
    let done = with_api(args.common, async |api, json| {
        let path = format!("jobs/{id}/explain");
        let explanation: Explanation = api.send(api.request(Method::GET, &path)).await?;
        if json {
            println!("{}", serde_json::to_string(&explanation)?);
        } else {
            println!("{}: {}", explanation.state, explanation.sentence);
        }
        Ok(ExitCode::SUCCESS)
    })?;
    Ok(done.unwrap_or(ExitCode::from(INTERRUPTED)))
}

fn with_api(
    common: Common,
    work: impl AsyncFnOnce(&Api, bool) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<Option<ExitCode>> {
    let api = Api::new(common.api)?;
    block_on(work(&api, common.json))
}

/// One call about one batch, which is shown as it is then.
fn ask(
    one: One,
    method: Method,
    verb: &str,
    body: Option<serde_json::Value>,
) -> anyhow::Result<Option<ExitCode>> {
    let path = format!("batches/{}{verb}", one.id);
    with_api(one.common, async |api, json| {
        let mut request = api.request(method, &path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        show(&api.send(request).await?, json)?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn report(api: &Api, id: &str, format: &str) -> anyhow::Result<ExitCode> {
    let path = format!("batches/{id}/report");
    let request = api.request(Method::GET, &path).query(&[("format", format)]);
    let mut answer = api.ask_at_leisure(request).await?;
    let mut out = std::io::stdout().lock();
    loop {
        let piece = answer.chunk().await.map_err(reqwest::Error::without_url);
        let Some(piece) = piece.context("the report broke off: what was printed is not all")?
        else {
            break;
        };
        if let Err(error) = out.write_all(&piece) {
            // Whoever read the beginning wants no more, such as `head`.
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                break;
            }
            bail!(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(batch: &BatchView, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(batch)?);
        return Ok(());
    }
    println!("{}  {}", batch.id, state(batch));
    println!("  source     {}", source(batch));
    println!(
        "  items      {} read, {} skipped, {} refused",
        batch.listed, batch.skipped, batch.refused
    );
    if let Some(parent) = batch.parent {
        println!("  unchanged  {} since {parent}", batch.unchanged);
    }
    println!("  jobs       {}", counts(batch));
    let work = &batch.work;
    println!(
        "  work       {} of {} tile-steps done",
        work.done,
        work.done + work.left
    );
    if let Some(eta) = &batch.eta {
        let late = eta
            .p90
            .map(|late| format!(", nine times of ten by {}", late.format("%F %R UTC")));
        println!(
            "  done by    {}{}",
            eta.p50.format("%F %R UTC"),
            late.unwrap_or_default()
        );
    }
    for (error_type, jobs) in &batch.errors {
        println!("  failed     {jobs} with {error_type}");
    }
    if let Some(failure) = &batch.failure {
        println!("  failure    {failure}");
    }
    if let Some(report) = &batch.report {
        println!("  report     {report}");
    }
    if let Some(why) = &batch.report_failure {
        println!("  report     not written: {why}");
    }
    Ok(())
}

fn source(batch: &BatchView) -> String {
    let source = &batch.source;
    let address = source.get("prefix").or_else(|| source.get("manifest"));
    match address.and_then(serde_json::Value::as_str) {
        Some(address) => address.to_owned(),
        None => format!("{} items", source["items"]),
    }
}

/// The phase, and what its owner made of it.
fn state(batch: &BatchView) -> String {
    let phase = match batch.phase {
        Phase::Listing => "listing",
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Finishing => "finishing",
        Phase::Finished => "finished",
    };
    let more = match (batch.cancelled, batch.paused) {
        (true, _) => ", cancelled",
        (_, true) => ", paused",
        _ => "",
    };
    format!("{phase}{more}")
}

/// Jobs by state, those states that there are.
fn counts(batch: &BatchView) -> String {
    let counts = &batch.counts;
    let words = [
        (counts.scheduled, "scheduled"),
        (counts.queued, "queued"),
        (counts.running, "running"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.expired, "expired"),
    ];
    let words: Vec<_> = words
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if words.is_empty() {
        return "none".to_owned();
    }
    words.join(", ")
}
