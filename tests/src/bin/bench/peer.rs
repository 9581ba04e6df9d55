//! Programs that measure something and print it as JSON.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

/// Runs a program to its end; the last line that it prints is the JSON. What it says on standard
/// error passes through.
///
/// # Errors
/// When it fails, or prints something else.
pub(crate) fn measure(command: &mut Command) -> anyhow::Result<Value> {
    let name = name(command);
    let done = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !done.status.success() {
        bail!("{name} failed: {}", done.status);
    }
    let printed = String::from_utf8(done.stdout)?;
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{name} printed no JSON: {last}"))
}

/// The other program as named after `--`; `None` when there is none.
pub(crate) fn command(words: &[String]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    Some(command)
}

/// A program that measures whenever it is sent a line, and answers with one of JSON; it keeps what
/// is slow to load. Ends when dropped.
pub(crate) struct Standing {
    name: String,
    child: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Standing {
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = name(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let asks = child.stdin.take().context("standard input is a pipe")?;
        let answers = child.stdout.take().context("standard output is a pipe")?;
        Ok(Self {
            name,
            child,
            asks,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// # Errors
    /// When it has ended, or answers something else.
    pub(crate) fn measure(&mut self) -> anyhow::Result<Value> {
        writeln!(self.asks)?;
        let answer = self.answers.next();
        let answer = answer.with_context(|| format!("{} has ended", self.name))??;
        serde_json::from_str(&answer)
            .with_context(|| format!("{} answered no JSON: {answer}", self.name))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
