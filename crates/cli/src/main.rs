//! `upres`: upscales images on this machine, and talks to the queue.

mod api;
mod batch;
mod cli;
mod evaluate;
mod inspect;
mod interrupt;
mod jobs;
mod keys;
mod limits;
mod model_dir;
mod models;
mod spec;
mod submit;
mod upscale;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{Cli, USAGE, Usage};

/// Whoever reads our output may stop, as `head` does; that is no fault to be told of.
fn end_quietly_with_the_reader() {
    const OF_THE_SHELL: i32 = 141;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_pipe =
            |text: &str| text.starts_with("failed printing to std") && text.contains("Broken pipe");
        if panic.payload_as_str().is_some_and(is_pipe) {
            std::process::exit(OF_THE_SHELL);
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    end_quietly_with_the_reader();
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
