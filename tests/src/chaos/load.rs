//! What the jobs of a run are made of, and what becomes of each picture while nothing is broken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use image::ImageFormat;
use reqwest::Method;
use serde_json::{Value, json};
use upres_common::objects::sha256_hex;

use super::cast::Cast;
use super::plan::{INPUTS, LARGE_INPUTS, Submission};
use crate::{DEADLINE, grain, photo, program_path, until};

/// Where the results of undisturbed jobs go.
pub(super) const UNDISTURBED: &str = "undisturbed/";
/// Crops of the sample photos.
const CROPS: usize = 40;
const CROP_PX: (u32, u32) = (96, 64);

/// What works on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// An engine that only enlarges, with production's tiles: small pictures, and some whose results have
    /// several parts.
    Fake,
    /// The bundled model on photos.
    Real,
}

impl Load {
    /// The key of the picture that this submission names.
    pub(super) fn input(self, submission: &Submission) -> String {
        let (kind, number) = match self {
            _ if submission.poison => ("poison", submission.input),
            Self::Fake if submission.large => ("large", submission.input % LARGE_INPUTS),
            Self::Fake => ("photo", submission.input),
            Self::Real => ("photo", submission.index % CROPS),
        };
        format!("in/{kind}-{number}.png")
    }

    /// The worker, and its manners.
    pub(super) fn worker(self) -> (&'static str, Vec<&'static str>) {
        let manners = ["--identity", "--tile-ms", "50", "--drain-secs", "1"];
        match self {
            Self::Fake => ("fake-worker", manners.to_vec()),
            Self::Real => ("upres-worker", vec!["run", "--drain-secs", "1"]),
        }
    }

    /// What it finds in its environment.
    pub(super) fn settings(self) -> anyhow::Result<Vec<(String, String)>> {
        Ok(match self {
            Self::Fake => Vec::new(),
            Self::Real => {
                let model = project()?.join("models/upres-tiny");
                let model = model.to_str().context("a path in UTF-8")?;
                vec![("UPRES_MODEL_DIR".to_owned(), model.to_owned())]
            }
        })
    }

    fn pictures(self) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut pictures = Vec::new();
        match self {
            Self::Fake => {
                for (number, side) in (0..INPUTS).zip(8_u32..) {
                    pictures.push((format!("photo-{number}.png"), photo(side, side + 4)));
                }
                for (number, height) in (0..LARGE_INPUTS).zip([1000, 1300, 1600]) {
                    pictures.push((format!("large-{number}.png"), grain(512, height)));
                }
            }
            Self::Real => {
                let crops = crops()?.into_iter().enumerate();
                pictures.extend(crops.map(|(number, crop)| (format!("photo-{number}.png"), crop)));
            }
        }
        Ok(pictures)
    }
}

fn project() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here
        .parent()
        .context("the tests lie in the project")?
        .to_owned())
}

/// Each sample photo cut up, no two crops alike.
fn crops() -> anyhow::Result<Vec<Vec<u8>>> {
    let mut photos: Vec<_> = std::fs::read_dir(project()?.join("samples"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    photos.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
    photos.sort();
    let (width, height) = CROP_PX;
    let mut crops = Vec::new();
    for step in 0.. {
        for path in &photos {
            if crops.len() == CROPS {
                return Ok(crops);
            }
            let photo = image::open(path)?;
            let (right, down) = (photo.width() - width, photo.height() - height);
            let crop = photo.crop_imm(5 * step % right, 3 * step % down, width, height);
            let mut file = std::io::Cursor::new(Vec::new());
            crop.write_to(&mut file, ImageFormat::Png)?;
            crops.push(file.into_inner());
        }
    }
    Ok(crops)
}

/// Stores the pictures, and files that are none.
pub(super) async fn put_inputs(cast: &Cast) -> anyhow::Result<()> {
    for (name, picture) in cast.load.pictures()? {
        cast.store.put(&format!("in/{name}"), picture).await?;
    }
    for number in 0..INPUTS {
        let key = format!("in/poison-{number}.png");
        cast.store.put(&key, b"no picture at all".to_vec()).await?;
    }
    Ok(())
}

/// The SHA-256 of the result of each picture, by the picture's key: of a job that nothing disturbs, or from
/// the program that needs no services.
pub(super) async fn undisturbed_results(
    cast: &Cast,
    folder: &Path,
) -> anyhow::Result<BTreeMap<String, String>> {
    match cast.load {
        Load::Fake => from_jobs(cast).await,
        Load::Real => from_the_program(&folder.join("undisturbed"), &Load::Real.pictures()?),
    }
}

async fn from_jobs(cast: &Cast) -> anyhow::Result<BTreeMap<String, String>> {
    let mut jobs = Vec::new();
    for (name, _) in cast.load.pictures()? {
        let input = format!("in/{name}");
        let output = cast.store.uri(&format!("{UNDISTURBED}{name}"));
        let body = json!({"input": cast.store.uri(&input), "output": output});
        let answer = cast
            .request(Method::POST, 0, "/v1/jobs")
            .json(&body)
            .send()
            .await?;
        let job: Value = answer.error_for_status()?.json().await?;
        jobs.push((
            input,
            job["id"].as_str().context("a job has an id")?.to_owned(),
        ));
    }
    let mut results = BTreeMap::new();
    for (input, id) in jobs {
        let path = format!("/v1/jobs/{id}");
        until("an undisturbed job has succeeded", DEADLINE, async || {
            let answer = cast.request(Method::GET, 0, &path).send().await?;
            let job: Value = answer.error_for_status()?.json().await?;
            let attempts = job["attempts"].as_array().map_or(0, Vec::len);
            ensure!(attempts <= 1, "an undisturbed job was disturbed: {job}");
            let sha256 = job["result"]["sha256"].as_str();
            results.extend(sha256.map(|sha256| (input.clone(), sha256.to_owned())));
            Ok(job["state"] == "succeeded")
        })
        .await?;
    }
    Ok(results)
}

fn from_the_program(
    folder: &Path,
    pictures: &[(String, Vec<u8>)],
) -> anyhow::Result<BTreeMap<String, String>> {
    let (inputs, outputs) = (folder.join("in"), folder.join("out"));
    std::fs::create_dir_all(&inputs)?;
    for (name, picture) in pictures {
        std::fs::write(inputs.join(name), picture)?;
    }
    let done = Command::new(program_path("upres")?)
        .arg("upscale")
        .arg(&inputs)
        .arg("-o")
        .arg(&outputs)
        .envs(Load::Real.settings()?)
        .output()?;
    ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let mut results = BTreeMap::new();
    for (name, _) in pictures {
        let result =
            std::fs::read(outputs.join(name)).with_context(|| format!("result of {name}"))?;
        results.insert(format!("in/{name}"), sha256_hex(&result));
    }
    Ok(results)
}
