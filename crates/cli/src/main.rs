//! `upres`: upscales images on this machine, and talks to the queue.

mod api;
mod batch;
mod cli;
mod evaluate;
mod inspect;
mod interrupt;
mod jobs;
mod keys;
mod model_dir;
mod models;
mod spec;
mod submit;
mod upscale;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{Cli, USAGE, Usage};

fn main() -> ExitCode {
    let cli: Cli = upres_common::config::parse(
        "cli",
        &[
            PathBuf::from("upres.toml"),
            PathBuf::from(".upres/upres.toml"),
        ],
    );
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() {
                return ExitCode::from(USAGE);
            }
            ExitCode::FAILURE
        }
    }
}
