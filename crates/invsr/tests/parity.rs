//! Every stage against tensors recorded from the PyTorch reference, on random-weight models.
//!
//! The fixtures hold no weights: `write_random_model` makes them again, and each case first checks
//! the digests of the weights that it was recorded with. `fixtures/record.py` records anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use invsr::{
    ColorFix, DeviceSpec, Dtype, InjectedNoise, InvSr, Manifest, Observer, Options, RgbImage,
    Schedule, Size, Upscale, write_random_model,
};
use safetensors::SafeTensors;
use serde::Deserialize;

/// The largest absolute difference allowed in any stage, where latents have a deviation near 1 and
/// images lie in `[0, 1]`; about four times what is seen.
const TOLERANCE: f32 = 5e-5;

#[derive(Deserialize)]
struct Case {
    family: String,
    timesteps: Vec<u32>,
    tile: u32,
    fixes: Vec<String>,
    guidance: Option<f64>,
    digests: BTreeMap<String, String>,
}

#[derive(Default)]
struct Recorder(HashMap<String, Tensor>);

impl Observer for Recorder {
    fn tensor(&mut self, name: &str, value: &Tensor) -> Result<(), candle_core::Error> {
        self.0.insert(name.to_owned(), value.clone());
        Ok(())
    }

    fn wants_tensors(&self) -> bool {
        true
    }
}

fn load(case: &Case) -> InvSr {
    let folder = tempfile::tempdir().unwrap();
    let size: Size = case.family.parse().unwrap();
    write_random_model(size, 1, folder.path()).unwrap();
    let manifest = Manifest::read(folder.path()).unwrap().unwrap();
    for (file, recorded) in &case.digests {
        assert_eq!(
            &manifest.files[file], recorded,
            "{file} changed: record the fixtures anew"
        );
    }
    InvSr::load(folder.path(), &DeviceSpec::Cpu, Dtype::F32).unwrap()
}

fn image(pixels: &Tensor) -> RgbImage {
    let (height, width, _) = pixels.dims3().unwrap();
    let data = pixels.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let data = data
        .into_iter()
        .map(|value| f32::from(value) / 255.0)
        .collect();
    RgbImage::new(
        u32::try_from(width).unwrap(),
        u32::try_from(height).unwrap(),
        data,
    )
    .unwrap()
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
        .with_extension("safetensors");
    let bytes = fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let case = &header.metadata().as_ref().unwrap()["case"];
    let case: Case = serde_json::from_str(case).unwrap();
    let recorded = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();

    let mut model = load(&case);
    let input = image(&recorded["input"]);
    let noise = ["predictor_eps", "vae_eps"].map(|name| recorded[name].clone());
    let [predictor, vae] = noise;
    let mut options = Options {
        schedule: Schedule::new(&case.timesteps).unwrap(),
        tile_px: case.tile,
        overlap_px: Some(case.tile / 2),
        tile_batch: 2,
        color_fix: ColorFix::None,
        guidance: case.guidance.unwrap_or(1.0),
        noise: Some(InjectedNoise::new(predictor, vae).unwrap()),
        ..Options::default()
    };
    let mut stages = Recorder::default();
    model.upscale(&input, &options, &mut stages).unwrap();
    for fix in &case.fixes {
        options.color_fix = fix.parse().unwrap();
        let mut fixed = Recorder::default();
        model.upscale(&input, &options, &mut fixed).unwrap();
        stages
            .0
            .insert(format!("image_{fix}"), fixed.0.remove("image").unwrap());
    }

    let mut failures = Vec::new();
    let mut names: Vec<&String> = recorded.keys().filter(|name| *name != "input").collect();
    names.sort();
    for stage in names {
        let difference = largest_difference(&stages.0[stage], &recorded[stage]);
        println!("{name} {stage} {difference:.1e}");
        if difference.is_nan() || difference > TOLERANCE {
            failures.push(format!("{stage} differs by {difference:.1e}"));
        }
    }
    assert!(failures.is_empty(), "{name}: {failures:#?}");
}

fn largest_difference(found: &Tensor, recorded: &Tensor) -> f32 {
    assert_eq!(found.dims(), recorded.dims());
    let recorded = recorded.to_dtype(DType::F32).unwrap();
    let difference = (found - recorded).unwrap().abs().unwrap();
    let values = difference.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values
        .into_iter()
        .fold(0.0, |a, b| if b.is_nan() || b > a { b } else { a })
}

#[test]
fn tiny_one_step_on_one_tile() {
    check("tiny-one-step-one-tile");
}

#[test]
fn tiny_three_steps_on_four_tiles() {
    check("tiny-three-steps-four-tiles");
}

#[test]
fn tiny_five_steps_on_a_reflected_image() {
    check("tiny-five-steps-reflected");
}

#[test]
fn tiny_two_free_timesteps_on_three_tiles() {
    check("tiny-237-61-three-tiles");
}

#[test]
fn tiny_one_step_reflected_one_way_and_tiled_the_other() {
    check("tiny-reflected-and-tiled");
}

#[test]
fn tiny_one_step_on_a_larger_tile() {
    check("tiny-large-tile");
}

#[test]
fn tiny_two_guided_steps() {
    check("tiny-two-guided-steps");
}

#[test]
fn quarter_one_step_on_one_tile() {
    check("quarter-one-step-one-tile");
}

#[test]
fn quarter_three_steps_on_four_tiles() {
    check("quarter-three-steps-four-tiles");
}

#[test]
fn quarter_five_steps_on_an_odd_image() {
    check("quarter-five-steps-odd");
}

#[test]
fn quarter_two_free_timesteps_on_six_tiles() {
    check("quarter-237-61-six-tiles");
}
