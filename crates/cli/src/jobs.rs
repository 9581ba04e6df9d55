//! `upres jobs`: list, get, cancel, retry.

use std::process::ExitCode;

use reqwest::Method;
use upres_common::job::view::{JobPage, JobView};

use crate::api::{Api, ApiArgs, block_on};

/// Look at jobs, cancel or retry them.
#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// List jobs, newest first.
    List {
        /// scheduled, queued, running, succeeded, failed, cancelled or expired.
        #[arg(long)]
        state: Option<String>,
        /// Only jobs with this label: name=value, may be repeated.
        #[arg(long = "label", value_name = "NAME=VALUE")]
        labels: Vec<String>,
        /// Show at most this many.
        #[arg(long, default_value_t = 50)]
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
        JobsCommand::Cancel { ids, common } => {
            let api = Api::new(common.api)?;
            block_on(change(&api, ids, "cancel", common.json))?
        }
        JobsCommand::Retry { ids, common } => {
            let api = Api::new(common.api)?;
            block_on(change(&api, ids, "retry", common.json))?
        }
    };
    Ok(done.unwrap_or(ExitCode::from(130)))
}

async fn list(
    api: &Api,
    state: Option<String>,
    labels: Vec<String>,
    limit: usize,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut query: Vec<(String, String)> = Vec::new();
    query.extend(state.map(|state| ("state".to_owned(), state)));
    for label in labels {
        let (name, value) = label.split_once('=').unwrap_or((&label, ""));
        query.push((format!("label.{name}"), value.to_owned()));
    }
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
    println!(
        "{}  {:<32}  {:<18}  {}",
        job.id,
        state.trim_end(),
        job.upscale.timesteps,
        job.input
    );
    Ok(())
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
