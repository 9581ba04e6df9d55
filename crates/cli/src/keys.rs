//! `upres keys`: API keys.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use upres_common::objects::UriPrefix;

use crate::api::{Api, ApiArgs, block_on};

const SCOPES: [&str; 5] = ["submit", "read", "cancel", "admin", "worker"];

/// Make, list, rotate and revoke API keys; needs a key with the scope `admin`.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeysCommand {
    /// Make a key. It is shown once.
    Create {
        /// What it may do; may be repeated or separated by commas.
        #[arg(long = "scope", required = true, value_delimiter = ',', value_parser = PossibleValuesParser::new(SCOPES))]
        scopes: Vec<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
        /// What its jobs may read: `*` or s3://bucket/prefix; may be repeated.
        #[arg(long = "read", value_parser = prefix, value_name = "PREFIX")]
        read_prefixes: Vec<String>,
        /// Where its jobs may write: `*` or s3://bucket/prefix; may be repeated.
        #[arg(long = "write", value_parser = prefix, value_name = "PREFIX")]
        write_prefixes: Vec<String>,
        /// For how many days it is good; without it, until it is revoked.
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=3650))]
        expires_days: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Make a key with the same rights in another's place, which is good for a while longer. It is shown
    /// once.
    Rotate {
        /// The old key: the part between `upres_` and the next `_`.
        id: String,
        /// For how many hours the old key is good beside the new one.
        #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(0..=168))]
        overlap_hours: u64,
        #[command(flatten)]
        common: Common,
    },
    /// List the keys in force.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// End a key at once.
    Revoke {
        /// The part between `upres_` and the next `_`.
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Print JSON, one value a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Serialize, Deserialize)]
struct NewKey {
    key: String,
    id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Key {
    id: String,
    label: String,
    scopes: Vec<String>,
    read_prefixes: Vec<String>,
    write_prefixes: Vec<String>,
    created_at: String,
    expires_at: Option<String>,
}

fn prefix(text: &str) -> Result<String, String> {
    match text.parse::<UriPrefix>() {
        Ok(prefix) => Ok(prefix.as_str().to_owned()),
        Err(_) => Err("write `*` or s3://bucket/prefix".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// What the coordinator answers, in sentences.
pub fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let done = match args.command {
        KeysCommand::Create {
            scopes,
            label,
            read_prefixes,
            write_prefixes,
            expires_days,
            common,
        } => {
            let api = Api::new(common.api)?;
            let request = serde_json::json!({
                "scopes": scopes, "label": label,
                "read_prefixes": read_prefixes, "write_prefixes": write_prefixes,
                "expires_in_secs": expires_days.map(|days| days * 24 * 3600),
            });
            block_on(create(&api, "keys", &request, common.json))?
        }
        KeysCommand::Rotate {
            id,
            overlap_hours,
            common,
        } => {
            let api = Api::new(common.api)?;
            let request = serde_json::json!({"overlap_secs": overlap_hours * 3600});
            let path = format!("keys/{id}/rotate");
            block_on(create(&api, &path, &request, common.json))?
        }
        KeysCommand::List { common } => {
            let api = Api::new(common.api)?;
            block_on(list(&api, common.json))?
        }
        KeysCommand::Revoke { id, common } => {
            let api = Api::new(common.api)?;
            block_on(async {
                api.ask(api.request(Method::DELETE, &format!("keys/{id}")))
                    .await?;
                Ok(())
            })?
        }
    };
    Ok(done.map_or(ExitCode::from(130), |()| ExitCode::SUCCESS))
}

async fn create(
    api: &Api,
    path: &str,
    request: &serde_json::Value,
    json: bool,
) -> anyhow::Result<()> {
    let key: NewKey = api
        .send(api.request(Method::POST, path).json(request))
        .await?;
    if json {
        println!("{}", serde_json::to_string(&key)?);
    } else {
        eprintln!("this key is shown once, keep it:");
        println!("{}", key.key);
    }
    Ok(())
}

async fn list(api: &Api, json: bool) -> anyhow::Result<()> {
    let keys: Vec<Key> = api.send(api.request(Method::GET, "keys")).await?;
    for key in keys {
        if json {
            println!("{}", serde_json::to_string(&key)?);
        } else {
            println!("{}  {:<32}  {}", key.id, key.scopes.join(","), key.label);
        }
    }
    Ok(())
}
