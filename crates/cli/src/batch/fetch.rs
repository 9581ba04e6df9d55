//! `upres batch fetch`: results of a batch, brought into a folder of this machine. What is there already
//! stays, so that a fetch that broke off is simply repeated.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::json;
use upres_common::batch::BatchView;
use upres_common::batch::view::{Phase, ReportLine};
use upres_common::job::JobId;

use crate::api::{Api, digest};
use crate::upscale::write;

/// Results on their way at once.
const AT_ONCE: usize = 4;

/// An item of a batch, as far as its result goes.
pub struct Item {
    /// Its place in the source, from 1.
    pub line: i64,
    /// Where its result is, or will be.
    output: String,
    /// Whose result is there: that of a batch before it, if nothing has changed since.
    done: Option<Done>,
}

struct Done {
    job: JobId,
    /// Lower-case hex.
    sha256: Option<String>,
}

/// How results are written and told of.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub overwrite: bool,
    pub json: bool,
}

enum Brought {
    Fetched,
    /// The same bytes were there.
    ThereAlready,
}

/// Fetches the results of a batch, and tells on standard error what has none. Returns whether every item's result
/// is there now.
///
/// - `name`: where each result goes; `None` leaves one out, which is told. It is asked of all items at once, those
///   that are not done too, so that names stay what they are.
///
/// # Errors
/// The batch is still being listed, or its report cannot be read. A result that cannot be fetched or written is
/// told and stops no other.
pub async fn fetch(
    api: &Api,
    batch: &str,
    how: How,
    name: impl FnOnce(&[Item]) -> Vec<Option<PathBuf>>,
) -> anyhow::Result<bool> {
    let path = format!("batches/{batch}");
    let view: BatchView = api.send(api.request(Method::GET, &path)).await?;
    if view.phase == Phase::Listing {
        bail!(
            "the batch is still being listed: fetch its results when it is not (`upres batch status {batch}`)"
        );
    }
    let over = view.phase == Phase::Finished;
    let (items, mut failed) = read_report(api, batch).await?;
    let names = name(&items);
    let ready: Vec<_> = items
        .iter()
        .zip(&names)
        .filter_map(|(item, path)| Some((item, item.done.as_ref()?, path.as_deref())))
        .collect();
    let (mut fetched, mut there) = (0, 0);
    for some in ready.chunks(16 * AT_ONCE) {
        let bringing = some
            .iter()
            .map(|(_, done, path)| Box::pin(bring(api, done, *path, how.overwrite)));
        let bringing: Vec<_> = bringing.collect();
        let mut brought = stream::iter(bringing).buffered(AT_ONCE);
        for (item, done, path) in some {
            match brought.next().await {
                Some(Ok(Brought::Fetched)) => fetched += 1,
                Some(Ok(Brought::ThereAlready)) => there += 1,
                Some(Err(error)) => {
                    failed += 1;
                    eprintln!("{}: {error:#}", item.output);
                    continue;
                }
                None => break,
            }
            let path = path.unwrap_or(Path::new(""));
            match how.json {
                true => println!("{}", json!({ "file": path, "job_id": done.job })),
                false => println!("{}", path.display()),
            }
        }
    }
    eprintln!("{fetched} fetched, {there} there already, {failed} failed");
    if !over {
        eprintln!("the batch is not over yet: fetch the rest when it is");
    }
    Ok(over && failed == 0)
}

/// Every item that has, or may yet have, a result, and how many have none, which is told.
async fn read_report(api: &Api, batch: &str) -> anyhow::Result<(Vec<Item>, usize)> {
    let path = format!("batches/{batch}/report");
    let mut report = api.ask_at_leisure(api.request(Method::GET, &path)).await?;
    let (mut items, mut failed) = (Vec::new(), 0);
    let mut lines = Vec::new();
    loop {
        let piece = report.chunk().await.map_err(reqwest::Error::without_url);
        let piece = piece.context("the report broke off: nothing was fetched")?;
        let last = piece.is_none();
        lines.extend(piece.iter().flatten());
        let whole = match last {
            true => lines.len(),
            false => lines.iter().rposition(|byte| *byte == b'\n').unwrap_or(0),
        };
        let rest = lines.split_off(whole);
        for line in std::mem::replace(&mut lines, rest).split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let line: ReportLine = serde_json::from_slice(line).context("the report")?;
            let done = match (line.status.as_str(), line.job_id) {
                ("succeeded" | "unchanged", Some(job)) => Some(Done {
                    job,
                    sha256: line.output_sha256,
                }),
                ("scheduled" | "queued" | "running", _) => None,
                (status, _) => {
                    failed += 1;
                    let reason = line.reason.unwrap_or_default();
                    eprintln!("{}: {status} {reason}", line.input);
                    None
                }
            };
            if let Some(output) = line.output {
                items.push(Item {
                    line: line.line,
                    output,
                    done,
                });
            }
        }
        if last {
            return Ok((items, failed));
        }
    }
}

async fn bring(
    api: &Api,
    done: &Done,
    path: Option<&Path>,
    overwrite: bool,
) -> anyhow::Result<Brought> {
    let path =
        path.context("its address makes no name for a file: `upres jobs result` fetches it")?;
    if !overwrite && path.symlink_metadata().is_ok() {
        let there = digest(path).with_context(|| format!("cannot read {}", path.display()))?;
        if done.sha256.as_ref() == Some(&there) {
            return Ok(Brought::ThereAlready);
        }
        bail!(
            "{} is another file: --overwrite replaces it",
            path.display()
        );
    }
    result(api, done.job, done.sha256.as_deref(), path, overwrite).await?;
    Ok(Brought::Fetched)
}

/// Downloads one job's result; the file appears whole, or not at all.
///
/// - `sha256`: what its bytes must have, if it is known.
///
/// # Errors
/// The store does not hand it out, it arrives damaged, or cannot be written.
pub async fn result(
    api: &Api,
    job: JobId,
    sha256: Option<&str>,
    path: &Path,
    overwrite: bool,
) -> anyhow::Result<()> {
    let mut file = write::begin(path).map_err(|failure| anyhow!(failure.detail))?;
    let found = api.download(job, file.as_file_mut()).await?;
    if let Some(sha256) = sha256
        && found != sha256
    {
        bail!("it arrived with SHA-256 {found}, not {sha256}");
    }
    write::finish(file, path, overwrite).map_err(|failure| anyhow!(failure.detail))
}

/// Names below `folder` for what lies in the store. Of a file that was uploaded that is the name it had on
/// its machine, which follows the job's own folder; of others what their addresses do not share.
pub fn names(folder: &Path, items: &[Item]) -> Vec<Option<PathBuf>> {
    let segments: Vec<Vec<&str>> = items
        .iter()
        .map(|item| {
            let key = item.output.trim_start_matches("s3://");
            key.split('/').filter(|s| !s.is_empty()).collect()
        })
        .collect();
    let tails = after_an_id(&segments).unwrap_or_else(|| after_what_is_shared(&segments));
    tails
        .into_iter()
        .map(|tail| {
            // An address may hold none of these, but it comes from elsewhere.
            let leads_out = |s: &&str| matches!(*s, "." | "..") || s.contains(['\0', '\\']);
            (!tail.is_empty() && !tail.iter().any(leads_out))
                .then(|| folder.join(tail.iter().collect::<PathBuf>()))
        })
        .collect()
}

fn after_an_id<'a>(segments: &'a [Vec<&'a str>]) -> Option<Vec<&'a [&'a str]>> {
    let tails: Option<Vec<_>> = segments
        .iter()
        .map(|segments| {
            let id = segments.iter().position(|s| s.parse::<JobId>().is_ok())?;
            Some(&segments[id + 1..])
        })
        .collect();
    let tails = tails?;
    let different = tails.iter().collect::<HashSet<_>>().len() == tails.len();
    different.then_some(tails)
}

fn after_what_is_shared<'a>(segments: &'a [Vec<&'a str>]) -> Vec<&'a [&'a str]> {
    let shared = segments.first().map_or(0, |first| {
        let folders = 0..first.len().saturating_sub(1);
        let is_shared = |at: &usize| {
            let all = segments.iter().skip(1);
            let mut all = all.map(|other| at + 1 < other.len() && other[*at] == first[*at]);
            all.all(|same| same)
        };
        folders.take_while(is_shared).count()
    });
    segments
        .iter()
        .map(|segments| &segments[shared..])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(outputs: &[&str]) -> Vec<Option<String>> {
        let items: Vec<_> = outputs
            .iter()
            .map(|output| Item {
                line: 1,
                output: (*output).to_owned(),
                done: None,
            })
            .collect();
        let names = names(Path::new("out"), &items).into_iter();
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        names.map(|path| path.map(text)).collect()
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| Some((*name).to_owned())).collect()
    }

    #[test]
    fn uploaded_files_get_their_own_names_back() {
        let (a, b) = (JobId::fresh(), JobId::fresh());
        let first = format!("s3://upres/results/default/{a}/box/1.png");
        let second = format!("s3://upres/results/default/{b}/1.png");
        assert_eq!(named(&[&first]), some(&["out/box/1.png"]));
        assert_eq!(
            named(&[&first, &second]),
            some(&["out/box/1.png", "out/1.png"])
        );
        // Two of one name keep what tells them apart.
        let third = format!("s3://upres/results/default/{a}/1.png");
        let expected = [&third, &second].map(|name| format!("out/{}", &name[27..]));
        assert_eq!(
            named(&[&third, &second]),
            some(&[&expected[0], &expected[1]])
        );
    }

    #[test]
    fn objects_get_what_their_addresses_do_not_share() {
        assert_eq!(
            named(&["s3://out/box-1/a.tif", "s3://out/box-12/a.tif"]),
            some(&["out/box-1/a.tif", "out/box-12/a.tif"])
        );
        assert_eq!(
            named(&["s3://out/x/a.tif", "s3://out/x/b/a.tif"]),
            some(&["out/a.tif", "out/b/a.tif"])
        );
        assert_eq!(named(&["s3://out/x/a.tif"]), some(&["out/a.tif"]));
        assert_eq!(named(&[]), []);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for address in ["s3://out/../../a", "s3://out/x/.."] {
            let other = "s3://other/a";
            assert_eq!(named(&[address, other])[0], None, "{address}");
        }
        assert_eq!(named(&["s3://out//etc/passwd"]), some(&["out/passwd"]));
    }
}
