//! Tile time by stage.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use journey_tests::program_path;
use serde_json::{Value, json};

use crate::peer::{self, Standing};
use crate::table::{self, median, percentile, row};

/// What to measure, and against whom.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// The model's folder.
    #[arg(long)]
    model: PathBuf,
    /// The schedule.
    #[arg(long, default_value = "200")]
    timesteps: String,
    /// How often each side has its turn. Short turns in quick succession: what else the machine does
    /// then falls on both.
    #[arg(long, default_value_t = 8)]
    turns: usize,
    /// Measured rounds in a turn, after one that is not.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Threads of each side.
    #[arg(long)]
    threads: usize,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
    /// A program that takes --model, --timesteps, --rounds and --threads, and answers every line on
    /// its standard input with what `upres-worker bench --json` prints.
    #[arg(last = true)]
    peer: Vec<String>,
}

/// What `upres-worker bench` calls them, and what they are.
const STAGES: [(&str, &str); 7] = [
    ("predictor", "noise predictor"),
    ("vae_encode", "VAE encode"),
    ("unet", "UNet, all steps"),
    ("vae_decode", "VAE decode"),
    ("blend", "blend"),
    ("color_fix", "colour fix"),
    ("total", "tile"),
];

/// Milliseconds by stage, a number a turn.
#[derive(Debug, Default)]
struct Side(BTreeMap<String, Vec<f64>>);

/// Measures, prints the table, writes the numbers.
pub(crate) fn run(args: &EngineArgs) -> anyhow::Result<()> {
    let mut peer = start_peer(args)?;
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    for turn in 0..args.turns {
        // Whoever comes second may find the machine warmer: they take turns in that too.
        if turn % 2 == 0 {
            ours.add(&measure_ours(args)?)?;
        }
        if let Some(peer) = &mut peer {
            theirs.add(&peer.measure()?)?;
        }
        if turn % 2 == 1 {
            ours.add(&measure_ours(args)?)?;
        }
    }
    let numbers = numbers(args, &ours, &theirs)?;
    std::fs::write(&args.out, format!("{numbers:#}\n"))?;
    print_table(args, &ours, &theirs);
    Ok(())
}

fn start_peer(args: &EngineArgs) -> anyhow::Result<Option<Standing>> {
    let Some(mut command) = peer::command(&args.peer) else {
        return Ok(None);
    };
    command.arg("--model").arg(&args.model);
    command.args(["--timesteps", &args.timesteps]);
    command.args(["--rounds", &args.rounds.to_string()]);
    command.args(["--threads", &args.threads.to_string()]);
    Standing::start(&mut command).map(Some)
}

fn measure_ours(args: &EngineArgs) -> anyhow::Result<Value> {
    let mut command = Command::new(program_path("upres-worker")?);
    command.args(["bench", "--json", "--tile-batch", "1", "--model-dir"]);
    command.arg(&args.model);
    command.args(["--timesteps", &args.timesteps]);
    command.args(["--rounds", &args.rounds.to_string()]);
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    peer::measure(&mut command)
}

impl Side {
    fn add(&mut self, turn: &Value) -> anyhow::Result<()> {
        let rounds: BTreeMap<String, Vec<f64>> =
            serde_json::from_value(turn["rounds_ms"].clone()).context("rounds_ms")?;
        for (stage, times) in rounds {
            self.0.entry(stage).or_default().push(median(&times));
        }
        Ok(())
    }

    /// Of the turn that was disturbed least. Not the median: what else runs on the machine slows one
    /// side more than the other, because threads wait for each other.
    fn least(&self, stage: &str) -> Option<f64> {
        self.0.get(stage).map(|times| percentile(times, 0.0))
    }

    /// How many times as fast as the other side.
    fn speed(&self, other: &Self, stage: &str) -> Option<f64> {
        let (own, other) = (self.least(stage)?, other.least(stage)?);
        Some(other / own)
    }

    fn numbers(&self) -> Value {
        let of_each = |what: fn(&[f64]) -> f64| -> BTreeMap<_, _> {
            let stages = self.0.iter();
            stages.map(|(stage, times)| (stage, what(times))).collect()
        };
        json!({
            "least_ms": of_each(|times| percentile(times, 0.0)),
            "median_ms": of_each(median),
            "turns_ms": self.0,
        })
    }
}

fn numbers(args: &EngineArgs, ours: &Side, theirs: &Side) -> anyhow::Result<Value> {
    let manifest = std::fs::read_to_string(args.model.join("upres-model.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    Ok(json!({
        "model": manifest["name"], "timesteps": args.timesteps, "threads": args.threads,
        "upres": ours.numbers(), "pytorch": (!theirs.0.is_empty()).then(|| theirs.numbers()),
        "speed": ours.speed(theirs, "total"),
    }))
}

fn print_table(args: &EngineArgs, ours: &Side, theirs: &Side) {
    println!(
        "One tile of 128 px, model {}, timesteps {}, {} threads: milliseconds, the least of {} turns",
        args.model.file_name().unwrap_or_default().to_string_lossy(),
        args.timesteps,
        args.threads,
        args.turns
    );
    let mut rows = vec![row(["stage", "upres", "PyTorch", "speed"])];
    for (stage, name) in STAGES {
        let show = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
        let mut line = row([name]);
        line.extend([show(ours.least(stage)), show(theirs.least(stage))]);
        line.extend(
            ours.speed(theirs, stage)
                .map(|speed| format!("{speed:.2}x")),
        );
        rows.push(line);
    }
    table::print(&rows);
    println!();
}
