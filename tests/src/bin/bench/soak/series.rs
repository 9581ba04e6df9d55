//! Samples of many things over time, and which of them grow.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// What grows by less from the middle third of the time to the last is flat: allocators, caches and
/// vacuums come and go.
const GROWTH: f64 = 1.10;

/// Named numbers, sampled together.
#[derive(Debug, Default)]
pub(super) struct Series {
    times: Vec<Duration>,
    values: BTreeMap<String, Vec<f64>>,
}

impl Series {
    /// Begins a sample.
    pub(super) fn begin(&mut self, at: Duration) {
        self.times.push(at);
    }

    /// Adds to it. The last word of a name is its unit.
    pub(super) fn add(&mut self, name: String, value: f64) {
        self.values.entry(name).or_default().push(value);
    }

    /// The newest sample.
    pub(super) fn last_line(&self) -> String {
        let at = self.times.last().copied().unwrap_or_default().as_secs();
        let values = self.values.iter().filter_map(|(name, values)| {
            let value = values.last()?;
            Some(format!("{name} {value:.1}"))
        });
        format!("{at:>6} s  {}", values.collect::<Vec<_>>().join("  "))
    }

    /// The names of what grows.
    pub(super) fn growing(&self) -> Vec<String> {
        let grows = |(name, values): (&String, &Vec<f64>)| {
            let (middle, last) = thirds(values)?;
            (last > middle * GROWTH + slack(name)).then(|| name.clone())
        };
        self.values.iter().filter_map(grows).collect()
    }

    /// Means of the middle third and of the last.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{:<28}{:>14}{:>14}\n",
            "mean of", "middle third", "last third"
        );
        for (name, values) in &self.values {
            let (middle, last) = thirds(values).unwrap_or_default();
            text.push_str(&format!("{name:<28}{middle:>14.1}{last:>14.1}\n"));
        }
        text
    }

    /// Everything.
    pub(super) fn numbers(&self) -> Value {
        let seconds: Vec<_> = self.times.iter().map(Duration::as_secs_f64).collect();
        json!({"seconds": seconds, "values": self.values})
    }
}

/// What a difference must exceed to say anything, by unit.
fn slack(name: &str) -> f64 {
    match name.rsplit(' ').next() {
        Some("MiB") => 4.0,
        Some("connections") => 2.0,
        Some("bytes/row") => 50.0,
        Some("%") => 20.0,
        _ => 2000.0,
    }
}

/// Means of the middle third and the last; nothing of fewer than three values.
fn thirds(values: &[f64]) -> Option<(f64, f64)> {
    let third = values.len() / 3;
    if third == 0 {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let last = values.len() - third;
    Some((mean(&values[last - third..last]), mean(&values[last..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl Iterator<Item = f64>) -> Series {
        let mut series = Series::default();
        values.for_each(|value| series.add("coordinator 0 MiB".to_owned(), value));
        series
    }

    #[test]
    fn what_grows_is_named_and_what_swings_is_not() {
        let swings = series((0..90).map(|n| 60.0 + f64::from(n % 7)));
        assert_eq!(swings.growing(), Vec::<String>::new());
        let warms_up = series((0..90).map(|n| if n < 20 { 30.0 } else { 60.0 }));
        assert_eq!(warms_up.growing(), Vec::<String>::new());
        let grows = series((0..90).map(|n| 60.0 + f64::from(n)));
        assert_eq!(grows.growing(), ["coordinator 0 MiB"]);
    }
}
