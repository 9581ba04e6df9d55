//! The program as a person runs it, without what this machine's environment would say.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `upres` in a folder.
pub fn upres(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_upres"));
    command.current_dir(folder).args(args);
    for name in [
        "UPRES_MODEL_DIR",
        "UPRES_DEVICE",
        "UPRES_DTYPE",
        "UPRES_CONFIG",
    ] {
        command.env_remove(name);
    }
    command.output().expect("the program starts")
}
