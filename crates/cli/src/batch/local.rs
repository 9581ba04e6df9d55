//! `upres batch create FOLDER -o FOLDER`: a batch of files on this machine. They are uploaded with a list of
//! what shall become of them, the list is the batch's manifest, and the results are fetched at its end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::Method;
use upres_common::batch::{BatchItem, BatchRequest};
use upres_common::job::request::UpscaleRequest;
use upres_common::job::spec::Timesteps;
use upres_common::objects::ObjectUri;

use super::create::CreateArgs;
use crate::api::{Api, Content, digest};
use crate::cli::Usage;
use crate::submit::{Upload, upload};
use crate::upscale::plan::{Request, Target, plan};
use crate::upscale::write;

/// Files on their way at once.
const AT_ONCE: usize = 4;

/// What becomes of one file: one result a schedule, in the order of [`Local::schedules`].
struct File {
    input: PathBuf,
    results: Vec<PathBuf>,
}

/// Files of this machine, and where their results go.
pub struct Local {
    /// The folder of the results.
    out: PathBuf,
    files: Vec<File>,
    schedules: Vec<Timesteps>,
    overwrite: bool,
    /// Files that were refused by their first bytes.
    refused: usize,
}

impl Local {
    /// Names every result, and refuses what can be refused before anything is sent. A single file that is
    /// no picture is told on standard error and left out.
    ///
    /// # Errors
    /// [`Usage`], or the results cannot be written.
    pub fn new(args: &CreateArgs) -> anyhow::Result<Self> {
        let Some(out) = &args.download else {
            let problem =
                "these are files of this machine: say where their results go, with -o FOLDER";
            bail!(Usage(problem.to_owned()));
        };
        if args.how.dry_run {
            let problem = "--dry-run looks at the object store; `upres inspect` says what files of this machine cost";
            bail!(Usage(problem.to_owned()));
        }
        let inputs: Vec<_> = args.sources.iter().map(PathBuf::from).collect();
        let request = Request {
            inputs: &inputs,
            // A folder, also for one file.
            out: &out.join(""),
            format: args.spec.format.into(),
        };
        let planned = plan(&request).map_err(|error| Usage(error.to_string()))?;
        for sentence in planned.passed_over.sentences() {
            eprintln!("{sentence}");
        }
        let mut schedules = vec![args.spec.schedule()];
        schedules.extend(args.also.iter().cloned());
        let mut local = Self {
            out: out.clone(),
            files: Vec::new(),
            schedules,
            overwrite: args.overwrite,
            refused: 0,
        };
        for item in planned.items {
            match item.target {
                Ok(target) => local.add(item.input, &target)?,
                Err(failure) => {
                    eprintln!("left out {}: {}", item.input.display(), failure.detail);
                    local.refused += 1;
                }
            }
        }
        if local.files.is_empty() {
            bail!("none of these files is a picture");
        }
        Ok(local)
    }

    fn add(&mut self, input: PathBuf, target: &Target) -> anyhow::Result<()> {
        let several = self.schedules.len() > 1;
        let results: Vec<_> = self
            .schedules
            .iter()
            .map(|schedule| match several {
                true => marked(&target.output, schedule),
                false => target.output.clone(),
            })
            .collect();
        for result in &results {
            write::check(result, self.overwrite).map_err(|failure| anyhow!(failure.detail))?;
        }
        self.files.push(File { input, results });
        Ok(())
    }

    /// Whether every file was sent.
    pub fn is_whole(&self) -> bool {
        self.refused == 0
    }

    /// Uploads the files and the list of them; returns the list's address. What the coordinator would refuse
    /// of `request` it refuses after the first file.
    ///
    /// # Errors
    /// What is refused, or cannot be read or uploaded.
    pub async fn send(&self, api: &Api, request: &BatchRequest) -> anyhow::Result<String> {
        eprintln!("sending {} files", self.files.len());
        let (first, rest) = self.files.split_first().context("no file")?;
        let mut items = self.send_one(api, first).await?;
        let sample = BatchRequest {
            items: Some(items.clone()),
            ..request.clone()
        };
        let post = api.request(Method::POST, "batches").json(&sample);
        api.ask_at_leisure(post.query(&[("validate_only", "true")]))
            .await?;
        let sending: Vec<_> = rest
            .iter()
            .map(|file| Box::pin(self.send_one(api, file)))
            .collect();
        let sent: Vec<Vec<BatchItem>> = stream::iter(sending)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        items.extend(sent.into_iter().flatten());
        let mut list = Vec::new();
        for item in &items {
            serde_json::to_writer(&mut list, item)?;
            list.push(b'\n');
        }
        Ok(upload(api, "batch.jsonl", Content::Bytes(list))
            .await?
            .input)
    }

    async fn send_one(&self, api: &Api, file: &File) -> anyhow::Result<Vec<BatchItem>> {
        let path = &file.input;
        let sha256 = digest(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Upload { input, output, .. } = upload(api, &name, Content::File(path.clone())).await?;
        let folder = output.rsplit_once('/').map_or("", |(folder, _)| folder);
        let items = self.schedules.iter().zip(&file.results).enumerate();
        Ok(items
            .map(|(index, (schedule, result))| BatchItem {
                input: input.clone(),
                output: Some(self.address(folder, index, result)),
                upscale: Some(UpscaleRequest {
                    timesteps: Some(schedule.clone().into()),
                    input_sha256: Some(sha256.clone()),
                    ..UpscaleRequest::default()
                }),
                ..BatchItem::default()
            })
            .collect())
    }

    /// Where a result lies in the store: under the name it will have here, if objects can have it. By that
    /// name [`fetch`](super::fetch) finds its way back.
    ///
    /// - `folder`: the upload's own.
    fn address(&self, folder: &str, index: usize, result: &Path) -> String {
        let name = result.strip_prefix(&self.out).ok().and_then(Path::to_str);
        let address = name.map(|name| format!("{folder}/{name}"));
        address
            .filter(|address| address.parse::<ObjectUri>().is_ok())
            .unwrap_or_else(|| {
                let extension = result.extension().unwrap_or_default().to_string_lossy();
                format!("{folder}/{}.{extension}", index + 1)
            })
    }

    /// Where the results go, in the order of the list's lines.
    pub fn results(&self) -> Vec<&Path> {
        let results = self.files.iter().flat_map(|file| &file.results);
        results.map(PathBuf::as_path).collect()
    }
}

/// `a.png` becomes `a__t250-150-50.png`.
fn marked(path: &Path, schedule: &Timesteps) -> PathBuf {
    let steps: Vec<_> = schedule.as_slice().iter().map(u32::to_string).collect();
    let mut name: OsString = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("__t{}", steps.join("-")));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_result_tells_its_schedule() {
        let schedule = crate::spec::parse_timesteps("250,150,50").unwrap();
        let named = marked(Path::new("out/a.b.png"), &schedule);
        assert_eq!(named, Path::new("out/a.b__t250-150-50.png"));
    }
}
