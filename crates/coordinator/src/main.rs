//! `upres-coordinator serve | migrate | check-config`

use std::path::PathBuf;
use std::process::ExitCode;

use upres_coordinator::cli::{self, Cli};

fn main() -> ExitCode {
    let cli: Cli = upres_common::config::parse("coordinator", &[PathBuf::from("upres.toml")]);
    let runtime = tokio::runtime::Runtime::new().expect("the operating system starts threads");
    match runtime.block_on(cli::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
