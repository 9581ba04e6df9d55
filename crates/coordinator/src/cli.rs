//! The command line of `upres-coordinator`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use upres_common::config::Refused;
use upres_common::objects::{ObjectStore, S3Args, UriPrefix};
use upres_common::telemetry::{self, LogArgs};

use crate::auth::Scope;
use crate::config::{Config, DatabaseConfig, JanitorConfig, PlaceConfig};
use crate::store::audit::{self, Act};
use crate::{api, auth, janitor, serve, store};

/// Takes jobs in, sends them out to workers, watches over them and answers for them.
#[derive(Debug, Parser)]
#[command(name = "upres-coordinator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Applies migrations, then serves the API and runs the relay and the reaper. Prints a first admin key when
    /// there is no key yet, as `migrate` does.
    Serve(Box<Config>),
    /// Applies migrations and ends. Prints a first admin key when there is no key yet.
    Migrate(DatabaseConfig),
    /// Removes leftovers once, as `serve` does every hour: orphaned uploads, unfinished work that nobody
    /// goes on with, old idempotency keys, jobs past their retention. Prints the counts as JSON.
    Janitor {
        /// Only count.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        config: Box<JanitorArgs>,
    },
    /// Makes a key with the database at hand: the first of a new tenant, or another for one that has lost
    /// its last. Prints it once.
    CreateKey(Box<CreateKeyArgs>),
    /// Prints the API's description, OpenAPI 3.1, as JSON.
    Openapi,
    /// Prints every problem with the configuration and ends.
    CheckConfig(Box<Config>),
}

/// What the janitor needs.
#[derive(Debug, clap::Args)]
struct JanitorArgs {
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    s3: S3Args,
    #[command(flatten)]
    place: PlaceConfig,
    #[command(flatten)]
    janitor: JanitorConfig,
    #[command(flatten)]
    log: LogArgs,
}

/// The key to be made.
#[derive(Debug, clap::Args)]
struct CreateKeyArgs {
    #[command(flatten)]
    database: DatabaseConfig,
    /// Whose jobs it sees: a name of letters, digits, dots, hyphens and underscores.
    #[arg(long, value_parser = tenant, value_name = "NAME")]
    tenant: String,
    /// What it may do; a tenant's own keys can hand out no more than it may.
    #[arg(
        long = "scope",
        value_enum,
        value_delimiter = ',',
        default_value = "submit,read,cancel,admin",
        value_name = "SCOPE"
    )]
    scopes: Vec<Scope>,
    /// What it is for.
    #[arg(long, default_value = "made by the operator")]
    label: String,
    /// What its jobs may read: `*` or s3://bucket/prefix; may be repeated.
    #[arg(long = "read", value_parser = prefix, value_name = "PREFIX")]
    read_prefixes: Vec<UriPrefix>,
    /// Where its jobs may write: `*` or s3://bucket/prefix; may be repeated.
    #[arg(long = "write", value_parser = prefix, value_name = "PREFIX")]
    write_prefixes: Vec<UriPrefix>,
}

fn prefix(text: &str) -> Result<UriPrefix, String> {
    let prefix = text.parse();
    prefix.map_err(|_| "write `*` or s3://bucket/prefix".to_owned())
}

fn tenant(text: &str) -> Result<String, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // It is the name of a folder, too.
    let is_name = (1..=64).contains(&text.len()) && !text.starts_with('.');
    match is_name && text.chars().all(harmless) {
        true => Ok(text.to_owned()),
        false => Err(
            "write 1 to 64 letters, digits, dots, hyphens and underscores, no dot first".to_owned(),
        ),
    }
}

/// Runs the program. Exit status 2: wrong usage or configuration; `refused` is what `check-config`
/// is to tell beside its own findings.
pub async fn run(cli: Cli, refused: Refused) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::CheckConfig(config) => Ok(report(&refused.and(problems(&config)), true)),
        Command::Migrate(database) => migrate(&database).await,
        Command::Janitor { dry_run, config } => sweep(&config, dry_run).await,
        Command::CreateKey(args) => create_key(*args).await,
        Command::Openapi => {
            println!("{}", api::description().to_pretty_json()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve(config) => {
            let problems = problems(&config);
            if !problems.is_empty() {
                return Ok(report(&problems, false));
            }
            telemetry::init(&config.log).map_err(anyhow::Error::msg)?;
            serve::serve(*config).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn problems(config: &Config) -> Vec<String> {
    let mut problems = config.problems();
    problems.extend(config.log.problems());
    problems
}

fn report(problems: &[String], say_if_none: bool) -> ExitCode {
    for problem in problems {
        eprintln!("error: {problem}");
    }
    if problems.is_empty() {
        if say_if_none {
            println!("the configuration is valid");
        }
        return ExitCode::SUCCESS;
    }
    ExitCode::from(2)
}

async fn sweep(args: &JanitorArgs, dry_run: bool) -> anyhow::Result<ExitCode> {
    let mut problems = args.s3.problems();
    let pool = store::pool(
        &args.database.database_url,
        args.database.database_connections,
    );
    problems.extend(pool.as_ref().err().cloned());
    problems.extend(args.place.problem());
    problems.extend(args.log.problems());
    let (Ok(pool), true) = (pool, problems.is_empty()) else {
        return Ok(report(&problems, false));
    };
    telemetry::init(&args.log).map_err(anyhow::Error::msg)?;
    let objects = ObjectStore::new(&args.s3).await;
    let uploads = args.place.prefix();
    let (swept, is_whole) =
        janitor::sweep(&pool, &objects, uploads.as_ref(), &args.janitor, dry_run).await;
    println!("{}", serde_json::to_string(&swept)?);
    Ok(match is_whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn migrate(config: &DatabaseConfig) -> anyhow::Result<ExitCode> {
    let pool = match store::pool(&config.database_url, config.database_connections) {
        Ok(pool) => pool,
        Err(problem) => return Ok(report(&[problem], false)),
    };
    store::MIGRATOR.run(&pool).await?;
    print_first_key(&pool).await?;
    Ok(ExitCode::SUCCESS)
}

async fn create_key(args: CreateKeyArgs) -> anyhow::Result<ExitCode> {
    let pool = match store::pool(
        &args.database.database_url,
        args.database.database_connections,
    ) {
        Ok(pool) => pool,
        Err(problem) => return Ok(report(&[problem], false)),
    };
    let new = auth::NewKey {
        tenant: args.tenant.clone(),
        label: args.label,
        scopes: args.scopes,
        read_prefixes: args.read_prefixes,
        write_prefixes: args.write_prefixes,
        lifetime: None,
    };
    let mut tx = pool.begin().await?;
    let (key, id) = auth::create(&mut tx, new).await?;
    audit::note(&mut tx, &args.tenant, None, Act::KeyCreated, &id).await?;
    tx.commit().await?;
    eprintln!("this key is shown once, keep it:");
    println!("{key}");
    Ok(ExitCode::SUCCESS)
}

/// Makes the first admin key if there is none. The key alone goes to standard output, so that a
/// script can keep it; it is never shown again and never logged.
pub(crate) async fn print_first_key(pool: &sqlx::PgPool) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    let key = auth::create_first(&mut tx).await?;
    tx.commit().await?;
    if let Some(key) = key {
        eprintln!("first start: this admin key is shown once, keep it:");
        println!("{key}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
