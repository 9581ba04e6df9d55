//! `upres keys`: API keys.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use upres_common::objects::UriPrefix;

use crate::api::{Api, ApiArgs, block_on};

const SCOPES: [&str; 5] = ["submit", "read", "cancel", "admin", "worker"];

/// Make, list and revoke API keys; needs a key with the scope `admin`.
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
            common,
        } => {
            let api = Api::new(common.api)?;
            let request = serde_json::json!({
                "scopes": scopes, "label": label,
                "read_prefixes": read_prefixes, "write_prefixes": write_prefixes,
            });
            block_on(create(&api, &request, common.json))?
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

async fn create(api: &Api, request: &serde_json::Value, json: bool) -> anyhow::Result<()> {
    let key: NewKey = api
        .send(api.request(Method::POST, "keys").json(request))
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
