//! `upres batch watch`: a live display on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use upres_common::batch::BatchView;
use upres_common::batch::view::Phase;

use super::{counts, show, state};
use crate::api::Api;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A coordinator that restarts is asked again for this many seconds.
const PATIENCE: u32 = 60;

/// Follows a batch to its end. Status 1 unless every input succeeded.
pub async fn watch(api: &Api, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let bar = (!json && std::io::stderr().is_terminal()).then(|| {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
        ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let mut said = String::new();
    let mut failures = 0;
    let mut first = true;
    loop {
        let read = api.send::<BatchView>(api.request(Method::GET, &format!("batches/{id}")));
        let batch = match read.await {
            Ok(batch) => batch,
            Err(error) if first || failures >= PATIENCE => return Err(error),
            Err(_) => {
                failures += 1;
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        (first, failures) = (false, 0);
        let line = line(&batch);
        if let Some(bar) = &bar {
            let work = &batch.work;
            bar.set_length(u64::try_from(work.done + work.left).unwrap_or(0).max(1));
            bar.set_position(u64::try_from(work.done).unwrap_or(0));
            bar.set_message(line);
        } else if line != said {
            if json {
                show(&batch, true)?;
            } else {
                println!("{line}");
            }
            said = line;
        }
        if batch.phase == Phase::Finished {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            if !json {
                show(&batch, false)?;
            }
            let whole = batch.failure.is_none()
                && batch.report_failure.is_none()
                && batch.refused == 0
                && batch.counts.succeeded == batch.counts.total();
            return Ok(if whole {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Phase, jobs by state, pace, time of the end, and what fails.
fn line(batch: &BatchView) -> String {
    let mut words = vec![state(batch), counts(batch)];
    if batch.phase == Phase::Listing {
        words.push(format!("{} items read", batch.listed));
    }
    if let Some(pace) = batch.work.pace {
        words.push(format!("{pace:.1} tile-steps/s"));
    }
    if let Some(eta) = &batch.eta {
        words.push(format!("done by {}", eta.p50.format("%F %R UTC")));
    }
    let worst = batch.errors.iter().max_by_key(|(_, jobs)| **jobs);
    if let Some((error_type, jobs)) = worst {
        words.push(format!("{jobs} {error_type}"));
    }
    if let Some(why) = &batch.report_failure {
        words.push(format!("the report cannot be written: {why}"));
    }
    words.join("; ")
}
