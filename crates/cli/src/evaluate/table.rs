//! The numbers: rows, their means, and how both are printed.

use std::fmt;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use upres_common::job::spec::Timesteps;

use super::EvaluateArgs;
use super::degrade::Input;
use super::picture::Attempt;

/// How a small picture was enlarged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Bicubic,
    Schedule(Timesteps),
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bicubic => f.pad("bicubic"),
            Self::Schedule(schedule) => {
                let steps: Vec<String> = schedule.as_slice().iter().map(u32::to_string).collect();
                f.pad(&format!("{{{}}}", steps.join(",")))
            }
        }
    }
}

impl Serialize for How {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bicubic => serializer.serialize_str("bicubic"),
            Self::Schedule(schedule) => schedule.serialize(serializer),
        }
    }
}

/// One result, or the mean of several.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub picture: String,
    pub input: Input,
    /// `"bicubic"`, or the list of timesteps.
    pub how: How,
    /// Against the truth.
    pub psnr_y_db: f64,
    /// Of [`Row::psnr_y_db`], over bicubic's.
    pub gain_db: f64,
    /// Against the truth.
    pub ssim: f64,
    /// None for pictures that are too small.
    pub niqe: Option<f64>,
    /// Of the result, reduced again, against what was enlarged: PSNR of luma.
    pub consistency_db: f64,
    pub seconds: f64,
}

/// The mean over all pictures.
#[derive(Debug, Serialize)]
pub struct Mean {
    #[serde(flatten)]
    pub row: Row,
    /// The picture that gained least, or lost most.
    pub lowest_gain_db: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    seed: u64,
    tile: u32,
    color_fix: String,
    rows: Vec<Row>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    means: Vec<Mean>,
}

impl Report {
    pub fn new(model: &str, args: &EvaluateArgs) -> Self {
        Self {
            model: model.to_owned(),
            seed: args.seed,
            tile: args.tile,
            color_fix: args.color_fix.to_string(),
            rows: Vec::new(),
        }
    }

    pub fn add(&mut self, attempts: Vec<Attempt>) {
        self.rows
            .extend(attempts.into_iter().map(|attempt| attempt.row));
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A sentence about what was compared.
    pub fn title(&self) -> String {
        format!(
            "{}, tiles of {} px, colour fix {}, seed {}",
            self.model, self.tile, self.color_fix, self.seed
        )
    }

    /// One for each input and way of enlarging, in the order they were tried.
    pub fn means(&self) -> Vec<Mean> {
        let mut kinds: Vec<(Input, &How)> = Vec::new();
        for row in &self.rows {
            if !kinds.contains(&(row.input, &row.how)) {
                kinds.push((row.input, &row.how));
            }
        }
        let mean_of = |(input, how): (Input, &How)| {
            let alike = |row: &&Row| row.input == input && row.how == *how;
            mean(&self.rows.iter().filter(alike).collect::<Vec<_>>())
        };
        let mut means: Vec<Mean> = kinds.into_iter().filter_map(mean_of).collect();
        means.sort_by_key(|mean| mean.row.input != Input::Clean);
        means
    }

    /// The table, or one JSON object, on stdout.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let means = self.means();
        if json {
            let whole = Whole {
                report: self,
                means,
            };
            return writeln!(out, "{}", serde_json::to_string(&whole)?);
        }
        for input in Input::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.input == input).collect();
            let means = means.iter().filter(|mean| mean.row.input == input);
            writeln!(out, "{}", section(input, &rows, &means.collect::<Vec<_>>()))?;
        }
        Ok(())
    }
}

fn mean(rows: &[&Row]) -> Option<Mean> {
    let first = rows.first()?;
    let average =
        |value: fn(&Row) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
    let niqe: Vec<f64> = rows.iter().filter_map(|row| row.niqe).collect();
    Some(Mean {
        row: Row {
            picture: format!("mean of {}", rows.len()),
            input: first.input,
            how: first.how.clone(),
            psnr_y_db: average(|row| row.psnr_y_db),
            gain_db: average(|row| row.gain_db),
            ssim: average(|row| row.ssim),
            niqe: (!niqe.is_empty()).then(|| niqe.iter().sum::<f64>() / niqe.len() as f64),
            consistency_db: average(|row| row.consistency_db),
            seconds: average(|row| row.seconds),
        },
        lowest_gain_db: rows
            .iter()
            .map(|row| row.gain_db)
            .fold(f64::INFINITY, f64::min),
    })
}

fn section(input: Input, rows: &[&Row], means: &[&Mean]) -> String {
    let all = || {
        let rows = rows.iter().map(|row| (*row, None));
        rows.chain(
            means
                .iter()
                .map(|mean| (&mean.row, Some(mean.lowest_gain_db))),
        )
    };
    let wide = |text: fn(&Row) -> String| all().map(|(row, _)| text(row).len()).max();
    let name = wide(|row| row.picture.clone())
        .unwrap_or(0)
        .max(input.name().len());
    let how = wide(|row| row.how.to_string()).unwrap_or(0);
    let mut text = format!(
        "{:name$}  {:how$}  {:>7}  {:>6}  {:>6}  {:>6}  {:>8}  {:>7}",
        input.name(),
        "",
        "PSNR-Y",
        "gain",
        "SSIM",
        "NIQE",
        "consist.",
        "seconds"
    );
    let mut previous = "";
    for (row, lowest) in all() {
        let shown = if row.picture == previous {
            ""
        } else {
            &row.picture
        };
        previous = &row.picture;
        let gain = match row.how {
            How::Bicubic => String::new(),
            How::Schedule(_) => format!("{:+.2}", row.gain_db),
        };
        let niqe = row.niqe.map_or("-".to_owned(), |niqe| format!("{niqe:.2}"));
        text.push_str(&format!(
            "\n{shown:name$}  {:how$}  {:7.2}  {gain:>6}  {:6.3}  {niqe:>6}  {:8.2}  {:7.1}",
            row.how, row.psnr_y_db, row.ssim, row.consistency_db, row.seconds
        ));
        if let (Some(lowest), How::Schedule(_)) = (lowest, &row.how) {
            text.push_str(&format!("  lowest gain {lowest:+.2}"));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn row(picture: &str, how: How, psnr: f64, gain: f64) -> Row {
        Row {
            picture: picture.to_owned(),
            input: Input::Clean,
            how,
            psnr_y_db: psnr,
            gain_db: gain,
            ssim: 0.8,
            niqe: (picture == "large").then_some(5.0),
            consistency_db: 42.0,
            seconds: 1.0,
        }
    }

    pub fn report() -> Report {
        let steps = || How::Schedule(Timesteps::new(vec![200, 100]).unwrap());
        Report {
            model: "upres-tiny".to_owned(),
            seed: 1,
            tile: 128,
            color_fix: "wavelet".to_owned(),
            rows: vec![
                row("large", How::Bicubic, 25.0, 0.0),
                row("large", steps(), 26.0, 1.0),
                row("small <1>", How::Bicubic, 27.0, 0.0),
                row("small <1>", steps(), 26.5, -0.5),
            ],
        }
    }

    #[test]
    fn means_are_of_one_kind_and_know_their_worst() {
        let means = report().means();
        assert_eq!(means.len(), 2);
        assert_eq!(means[1].row.how.to_string(), "{200,100}");
        assert!((means[1].row.psnr_y_db - 26.25).abs() < 1e-9);
        assert!((means[1].row.gain_db - 0.25).abs() < 1e-9);
        assert!((means[1].lowest_gain_db + 0.5).abs() < 1e-9);
        assert_eq!(means[1].row.niqe, Some(5.0));
    }

    #[test]
    fn the_table_has_a_line_for_every_row() {
        let report = report();
        let rows: Vec<&Row> = report.rows.iter().collect();
        let means = report.means();
        let text = section(Input::Clean, &rows, &means.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 4 + 2, "{text}");
        assert!(lines[6].ends_with("lowest gain -0.50"), "{text}");
        assert!(
            lines[2].contains("+1.00") && lines[4].contains("-0.50"),
            "{text}"
        );
        assert!(lines[4].contains("     -"), "{text}");
    }

    #[test]
    fn json_names_a_way_by_its_timesteps() {
        let value = serde_json::to_value(&report().rows).unwrap();
        assert_eq!(value[0]["how"], "bicubic");
        assert_eq!(value[1]["how"], serde_json::json!([200, 100]));
        assert_eq!(value[2]["niqe"], serde_json::Value::Null);
    }
}
