//! `upres jobs`: list, get, result, cancel, retry.

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::builder::PossibleValuesParser;
use reqwest::Method;
use serde_json::json;
use upres_common::job::JobId;
use upres_common::job::state::STATE_NAMES;
use upres_common::job::view::{JobPage, JobView};

use crate::api::{Api, ApiArgs, block_on};
use crate::batch::fetch;
use crate::interrupt::INTERRUPTED;
use crate::submit::label;
use crate::upscale::write;

/// Look at jobs, fetch their results, cancel or retry them.
#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// List jobs, newest first.
    List {
        /// Only jobs in this state.
        #[arg(long, value_parser = PossibleValuesParser::new(STATE_NAMES))]
        state: Option<String>,
        /// Only jobs with this label: name=value, may be repeated.
        #[arg(long = "label", value_parser = label, value_name = "NAME=VALUE")]
        labels: Vec<(String, String)>,
        /// Show at most this many.
        #[arg(long, default_value = "50", value_parser = at_least_one, allow_negative_numbers = true, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Show one job with all its attempts.
    Get {
        /// The job's id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Fetch the result of a job that succeeded.
    Result {
        /// The job's id.
        id: JobId,
        /// Where it goes.
        #[arg(short = 'o', long = "download", value_name = "FILE")]
        file: PathBuf,
        /// Replace what is there already.
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Cancel jobs, waiting or running. Final.
    Cancel {
        /// The jobs' ids.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Try failed jobs anew, quarantined ones too, under the same ids.
    Retry {
        /// The jobs' ids.
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Print JSON, one job a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Runs the command.
///
/// # Errors
/// What the coordinator answers, in sentences.
pub fn run(args: JobsArgs) -> anyhow::Result<ExitCode> {
    let done = match args.command {
        JobsCommand::List {
            state,
            labels,
            limit,
            common,
        } => {
            let api = Api::new(common.api)?;
            block_on(list(&api, state, labels, limit, common.json))?
        }
        JobsCommand::Get { id, common } => {
            let api = Api::new(common.api)?;
            block_on(async {
                show(&api.job(&id).await?, common.json)?;
                Ok(ExitCode::SUCCESS)
            })?
        }
        JobsCommand::Result {
            id,
            file,
            overwrite,
            common,
        } => {
            write::check(&file, overwrite).map_err(|failure| anyhow!(failure.detail))?;
            let api = Api::new(common.api)?;
            block_on(async {
                let job = api.job(&id.to_string()).await?;
                let sha256 = job.result.as_ref().map(|result| result.sha256.as_str());
                fetch::result(&api, id, sha256, &file, overwrite).await?;
                match common.json {
                    true => println!("{}", json!({ "file": file, "job_id": id })),
                    false => println!("{}", file.display()),
                }
                Ok(ExitCode::SUCCESS)
            })?
        }
        JobsCommand::Cancel { ids, common } => {
            let api = Api::new(common.api)?;
            block_on(change(&api, ids, "cancel", common.json))?
        }
        JobsCommand::Retry { ids, common } => {
            let api = Api::new(common.api)?;
            block_on(change(&api, ids, "retry", common.json))?
        }
    };
    Ok(done.unwrap_or(ExitCode::from(INTERRUPTED)))
}

async fn list(
    api: &Api,
    state: Option<String>,
    labels: Vec<(String, String)>,
    limit: usize,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut query: Vec<(String, String)> = Vec::new();
    query.extend(state.map(|state| ("state".to_owned(), state)));
    for (name, value) in labels {
        query.push((format!("label.{name}"), value));
    }
    let mut headed = json || !stdout().is_terminal();
    let mut left = limit;
    let mut cursor: Option<String> = None;
    while left > 0 {
        let mut page = query.clone();
        page.push(("limit".to_owned(), left.min(500).to_string()));
        page.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
        let page: JobPage = api
            .send(api.request(Method::GET, "jobs").query(&page))
            .await?;
        left -= page.jobs.len().min(left);
        for job in &page.jobs {
            if !headed {
                println!("{}", row("ID", "STATE", "TIMESTEPS", "INPUT"));
                headed = true;
            }
            line(job, json)?;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn change(api: &Api, ids: Vec<String>, verb: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match api
            .send::<JobView>(api.request(Method::POST, &format!("jobs/{id}/{verb}")))
            .await
        {
            Ok(job) => line(&job, json)?,
            Err(error) => {
                eprintln!("{id}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn line(job: &JobView, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(job)?);
        return Ok(());
    }
    let why = job
        .error
        .as_ref()
        .map(|error| error.error_type.as_str())
        .unwrap_or_default();
    let state = format!("{:10} {why}", job.state);
    let timesteps = job.upscale.timesteps.to_string();
    println!(
        "{}",
        row(
            &job.id.to_string(),
            state.trim_end(),
            &timesteps,
            &job.input
        )
    );
    Ok(())
}

fn row(id: &str, state: &str, timesteps: &str, input: &str) -> String {
    format!("{id:<36}  {state:<32}  {timesteps:<18}  {input}")
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| "give a whole number, at least 1".to_owned())
}

fn show(job: &JobView, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(job)?);
        return Ok(());
    }
    println!("{}  {}", job.id, job.state);
    println!("  input      {}", job.input);
    println!("  output     {}", job.output);
    println!("  timesteps  {}", job.upscale.timesteps);
    if let Some(progress) = job.progress {
        println!(
            "  tiles      {} of {}",
            progress.tiles, progress.tiles_total
        );
    }
    if let Some(result) = &job.result {
        println!(
            "  result     {}x{} px, {} bytes, sha256 {}",
            result.width, result.height, result.bytes, result.sha256
        );
    }
    if let Some(error) = &job.error {
        println!("  error      {}: {}", error.error_type, error.detail);
    }
    for warning in &job.warnings {
        println!("  warning    {warning}");
    }
    for attempt in &job.attempts {
        let why = attempt
            .error
            .as_ref()
            .map(|error| format!(": {}", error.detail));
        println!(
            "  attempt {}  {} on worker {}{}",
            attempt.attempt,
            attempt.outcome,
            attempt.worker,
            why.unwrap_or_default()
        );
    }
    Ok(())
}
