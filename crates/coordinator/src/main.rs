//! `upres-coordinator serve | migrate | check-config`

use std::path::PathBuf;
use std::process::ExitCode;

use upres_coordinator::cli::{self, Cli};

fn main() -> ExitCode {
    let files = [PathBuf::from("upres.toml")];
    let (cli, refused) = upres_common::config::parse_or_refuse::<Cli>("coordinator", &files);
    let runtime = tokio::runtime::Runtime::new().expect("the operating system starts threads");
    match runtime.block_on(cli::run(cli, refused)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
