//! A program under test, started by us and ended by its pid.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::services::build_folder;
use crate::until;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` from the build folder; its output goes to a file in `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        folder: &Path,
        name: &str,
        program: &str,
        args: &[&str],
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let path = program_path(program)?;
        let child = Command::new(&path)
            .args(args)
            .envs(env.iter().cloned())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name, such as `STOP`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let done = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid().to_string()])
            .status()?;
        if !done.success() {
            bail!("{} is gone", self.name);
        }
        Ok(())
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it does not end within `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM")?;
        let child = &mut self.child;
        let mut status = None;
        until("the process ends", deadline, async || {
            status = child.try_wait()?;
            Ok(status.is_some())
        })
        .await?;
        status.context("the process has ended")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, tail(&self.log()));
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Where a program of the workspace was built.
///
/// # Errors
/// When it was not built.
pub fn program_path(program: &str) -> anyhow::Result<PathBuf> {
    let path = build_folder()?.join(program);
    if !path.exists() {
        bail!(
            "{} is not built: run `cargo build --workspace --bins` (make test does)",
            path.display()
        );
    }
    Ok(path)
}
