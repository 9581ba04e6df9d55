//! `upres-worker run | check-config | bench`

use std::path::PathBuf;
use std::process::ExitCode;

use upres_worker::cli::{self, Cli};

fn main() -> ExitCode {
    let files = [PathBuf::from("upres.toml")];
    let (cli, refused) = upres_common::config::parse_or_refuse::<Cli>("worker", &files);
    let runtime = tokio::runtime::Runtime::new().expect("the operating system starts threads");
    let ended = runtime.block_on(cli::run(cli, refused));
    // A tile that is still being computed for a job that was handed back is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
