//! What a person sees on stderr and a script reads from stdout.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Serialize, Serializer};
use upres_common::sidecar::PageRecord;

use super::failure::Failure;

/// How often a picture that takes long says so where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A picture that was upscaled, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Done<'a> {
    pub input: &'a Path,
    pub output: &'a Path,
    pub format: String,
    /// Of the result, in pixels.
    pub width: u32,
    /// Of the result, in pixels.
    pub height: u32,
    pub bytes: u64,
    pub sha256: String,
    pub tiles: usize,
    /// Those of a file of several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<PageRecord>,
    pub timings_ms: Timings,
    pub warnings: Vec<String>,
}

/// Names of stages and what each took, in the order they ran.
#[derive(Debug, Default)]
pub struct Timings(Vec<(&'static str, Duration)>);

impl Timings {
    /// Runs `work` and notes what it took.
    pub fn time<T>(&mut self, stage: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(stage, start.elapsed());
        result
    }

    /// Whole milliseconds by stage.
    pub fn whole_milliseconds(&self) -> BTreeMap<String, u64> {
        let whole = |took: &Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let stages = self.0.iter();
        stages
            .map(|(stage, took)| ((*stage).to_owned(), whole(took)))
            .collect()
    }

    /// Adds to a stage's time, which may come in parts.
    pub fn add(&mut self, stage: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, sum)) => *sum += took,
            None => self.0.push((stage, took)),
        }
    }
}

impl Serialize for Timings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(stage, took)| (*stage, milliseconds(*took))),
        )
    }
}

/// Whole microseconds, written as milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[derive(Serialize)]
struct Refused<'a> {
    input: &'a Path,
    error: &'a Failure,
}

/// Writes to the two outputs of the process.
#[derive(Debug, Clone, Copy)]
pub struct Reporter {
    pub json: bool,
    pub verbose: bool,
    pub terminal: bool,
}

impl Reporter {
    pub fn new(json: bool, verbose: bool) -> Self {
        Self {
            json,
            verbose,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// One line on stderr.
    pub fn say(self, text: &str) {
        // A closed stderr must not end the work.
        let _ = writeln!(io::stderr(), "{text}");
    }

    pub fn start(self, input: &Path) -> Progress {
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} tiles {eta}")
            {
                bar.set_style(style);
            }
            bar.set_message(input.display().to_string());
            bar
        });
        Progress {
            reporter: self,
            label: input.display().to_string(),
            bar,
            said: Instant::now(),
            before: 0,
            expected: 0,
        }
    }

    pub fn done(self, done: &Done<'_>) {
        let input = done.input.display();
        for warning in &done.warnings {
            self.say(&format!("warning: {input}: {warning}"));
        }
        let total: Duration = done.timings_ms.0.iter().map(|(_, took)| *took).sum();
        let Done {
            width,
            height,
            tiles,
            ..
        } = done;
        let tiles = if *tiles == 1 {
            "1 tile".to_owned()
        } else {
            format!("{tiles} tiles")
        };
        let size = match done.pages.as_slice() {
            [] => format!("{width}x{height} px"),
            [_] => format!("1 page of {width}x{height} px"),
            pages => format!("{} pages, the first {width}x{height} px", pages.len()),
        };
        self.say(&format!(
            "{input} -> {}: {size}, {tiles}, {:.1} s",
            done.output.display(),
            total.as_secs_f64()
        ));
        if self.verbose {
            for (stage, took) in &done.timings_ms.0 {
                self.say(&format!(
                    "  {stage:<16} {:>10.1} ms",
                    took.as_secs_f64() * 1e3
                ));
            }
        }
        self.print(done);
    }

    pub fn failed(self, input: &Path, failure: &Failure) {
        self.say(&format!("error: {}: {}", input.display(), failure.detail));
        self.print(&Refused {
            input,
            error: failure,
        });
    }

    fn print(self, line: &impl Serialize) {
        if !self.json {
            return;
        }
        if let Ok(line) = serde_json::to_string(line) {
            // A reader that has gone away must not end the work.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }
}

/// The progress of one picture: a bar on a terminal, else a line now and then.
pub struct Progress {
    reporter: Reporter,
    label: String,
    bar: Option<ProgressBar>,
    said: Instant,
    /// Tiles of pages that are done.
    before: usize,
    /// Tiles of all pages.
    expected: usize,
}

impl Progress {
    /// Tiles of all pages.
    pub fn expect(&mut self, tiles: usize) {
        self.expected = tiles;
    }

    /// A page of so many tiles is done.
    pub fn begin_page(&mut self, tiles: usize) {
        self.before += tiles;
    }

    /// - `done`, `total`: of the page in hand.
    pub fn set(&mut self, done: usize, total: usize) {
        let (done, total) = (self.before + done, self.expected.max(self.before + total));
        if let Some(bar) = &self.bar {
            bar.set_length(u64::try_from(total).unwrap_or(u64::MAX));
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        } else if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            self.reporter
                .say(&format!("{}: {done} of {total} tiles", self.label));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
