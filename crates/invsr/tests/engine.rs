//! What callers rely on beside the numbers: the same bytes whatever the batch, quick cancelling,
//! refusals that name the cause.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use invsr::{
    ColorFix, DeviceSpec, Dtype, Fault, InjectedNoise, InvSr, LoadError, Manifest, NpyDump,
    Observer, Options, Plan, Progress, RgbImage, Schedule, Size, Upscale, UpscaleError,
    write_random_model,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder(size: Size) -> &'static Path {
    static TINY: OnceLock<TempDir> = OnceLock::new();
    static QUARTER: OnceLock<TempDir> = OnceLock::new();
    let cell = if size == Size::Tiny { &TINY } else { &QUARTER };
    let written = cell.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_random_model(size, 7, folder.path()).unwrap();
        folder
    });
    written.path()
}

fn model(size: Size) -> InvSr {
    InvSr::load(folder(size), &DeviceSpec::Cpu, Dtype::F32).unwrap()
}

/// A copy of the tiny model's folder, to be spoilt.
fn copy_of_tiny() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let source = folder(Size::Tiny);
    for network in ["unet", "vae", "noise_predictor", "scheduler"] {
        fs::create_dir(copy.path().join(network)).unwrap();
        for entry in fs::read_dir(source.join(network)).unwrap() {
            let name = Path::new(network).join(entry.unwrap().file_name());
            fs::copy(source.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    let prompt = "prompt_embeds.safetensors";
    fs::copy(source.join(prompt), copy.path().join(prompt)).unwrap();
    copy
}

fn picture(width: u32, height: u32) -> RgbImage {
    let count = width * height * 3;
    let data = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0);
    RgbImage::new(width, height, data.collect()).unwrap()
}

fn options(tile_px: u32, timesteps: &[u32]) -> Options {
    Options {
        tile_px,
        schedule: Schedule::new(timesteps).unwrap(),
        ..Options::default()
    }
}

fn bits(image: &RgbImage) -> Vec<u32> {
    image.data.iter().map(|value| value.to_bits()).collect()
}

fn same_bytes_for_any_batch(size: Size, image: &RgbImage, base: &Options) {
    let mut model = model(size);
    let mut results = [1, 2, 3].map(|tile_batch| {
        let options = Options {
            tile_batch,
            ..base.clone()
        };
        bits(&model.upscale(image, &options, &mut ()).unwrap().image)
    });
    let [first, rest @ ..] = &mut results;
    for other in rest {
        assert!(other == first, "the tile batch shows in the output");
    }
}

#[test]
fn the_tile_batch_does_not_show_in_tiny_output() {
    same_bytes_for_any_batch(Size::Tiny, &picture(50, 20), &options(32, &[200, 100]));
}

/// One latent pixel at the UNet's lowest level: products there have a single row.
#[test]
fn the_tile_batch_does_not_show_in_the_smallest_tiles() {
    same_bytes_for_any_batch(Size::Tiny, &picture(40, 16), &options(16, &[200]));
}

#[test]
fn the_tile_batch_does_not_show_in_quarter_output() {
    same_bytes_for_any_batch(Size::Quarter, &picture(30, 21), &options(16, &[200, 100]));
}

#[test]
fn the_seed_decides_the_output() {
    let (mut model, image) = (model(Size::Quarter), picture(16, 16));
    let mut with_seed = |seed| {
        let options = Options {
            seed,
            ..options(16, &[200])
        };
        bits(&model.upscale(&image, &options, &mut ()).unwrap().image)
    };
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1), with_seed(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_size_becomes_exactly_four_times_as_large(width in 1u32..30, height in 1u32..30) {
        let mut model = model(Size::Quarter);
        for color_fix in [ColorFix::None, ColorFix::Wavelet, ColorFix::AdaIn, ColorFix::YCbCr] {
            let options = Options { color_fix, ..options(16, &[200]) };
            let plan = model.plan(width, height, &options).unwrap();
            let done = model.upscale(&picture(width, height), &options, &mut ()).unwrap();
            prop_assert_eq!((done.image.width, done.image.height), (4 * width, 4 * height));
            prop_assert_eq!((done.tiles, done.tile_steps), (plan.tiles, plan.tile_steps));
            prop_assert!(done.image.data.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}

/// Says `Break` at the n-th question.
struct BreakAt {
    questions_left: usize,
    heard: Vec<Progress>,
}

impl Observer for BreakAt {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.heard.push(progress);
        if self.questions_left == 0 {
            return ControlFlow::Break(());
        }
        self.questions_left -= 1;
        ControlFlow::Continue(())
    }
}

#[test]
fn a_cancel_acts_between_the_stages_of_a_batch() {
    let (mut model, image) = (model(Size::Quarter), picture(24, 16));
    let options = Options {
        tile_batch: 1,
        ..options(16, &[200, 100])
    };
    // Two tiles: predictor, encoder, two steps, decoder, and one question after each batch.
    for questions in 0..12 {
        let mut observer = BreakAt {
            questions_left: questions,
            heard: Vec::new(),
        };
        let refused = model.upscale(&image, &options, &mut observer).unwrap_err();
        assert!(matches!(refused, UpscaleError::Cancelled), "{refused}");
        assert_eq!(refused.fault(), Fault::Cancelled);
        assert_eq!(observer.heard.len(), questions + 1);
    }
    let mut patient = BreakAt {
        questions_left: 12,
        heard: Vec::new(),
    };
    model.upscale(&image, &options, &mut patient).unwrap();
    let done: Vec<usize> = patient
        .heard
        .iter()
        .map(|progress| progress.tiles_done)
        .collect();
    assert_eq!(done, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2]);
}

#[test]
fn options_that_cannot_work_are_refused_before_any_work() {
    let model = model(Size::Tiny);
    assert_eq!(model.info().tile_multiple_px, 16);
    let plan = |overlap_px| {
        let options = Options {
            overlap_px,
            ..Options::default()
        };
        let Plan {
            tiles, tile_steps, ..
        } = model.plan(200, 257, &options).unwrap();
        (tiles, tile_steps)
    };
    assert_eq!((plan(Some(64)), plan(None)), ((12, 12), (6, 6)));
    let refusal = |width, height, options: &Options| {
        let refused = model.plan(width, height, options).unwrap_err();
        assert_eq!(refused.fault(), Fault::Input);
        refused.to_string()
    };
    let message = refusal(64, 64, &options(40, &[200]));
    assert_eq!(
        message,
        "a tile side of 40 px does not fit this model: use a multiple of 16 px, at most 2048"
    );
    refusal(64, 64, &options(0, &[200]));
    refusal(64, 64, &options(1 << 20, &[200]));
    refusal(
        64,
        64,
        &Options {
            tile_batch: 0,
            ..options(32, &[200])
        },
    );
    refusal(0, 64, &options(32, &[200]));
    refusal(u32::MAX / 2, 1, &options(32, &[200]));
    let zeros = Tensor::zeros((2, 4, 16, 16), DType::F32, &Device::Cpu).unwrap();
    let noise = Some(InjectedNoise::new(zeros.clone(), zeros).unwrap());
    refusal(
        64,
        64,
        &Options {
            noise,
            ..options(32, &[200])
        },
    );
}

#[test]
fn a_spoilt_pixel_is_traced_to_stage_and_tile() {
    let mut model = model(Size::Quarter);
    let mut image = picture(24, 16);
    image.data[3 * 20] = f32::NAN;
    let options = Options {
        tile_batch: 1,
        ..options(16, &[200])
    };
    let refused = model.upscale(&image, &options, &mut ()).unwrap_err();
    assert!(
        matches!(
            refused,
            UpscaleError::NonFinite {
                stage: "noise predictor",
                tile: 1
            }
        ),
        "{refused}"
    );
    assert_eq!(refused.fault(), Fault::Engine);
}

#[test]
fn a_random_model_says_that_it_is_untrained() {
    let folder = folder(Size::Tiny);
    let model = model(Size::Tiny);
    let info = model.info();
    assert!(!info.trained);
    assert_eq!(info.digest.as_ref().map(String::len), Some(64));
    assert_eq!(info.recommended_schedules, [Schedule::default()]);
    let manifest = Manifest::read(folder).unwrap().unwrap();
    assert_eq!(manifest.files.len(), 9);
    assert!(manifest.mismatches(folder).unwrap().is_empty());
}

#[test]
fn a_folder_without_a_manifest_goes_by_its_name() {
    let copy = copy_of_tiny();
    let model = InvSr::load(copy.path(), &DeviceSpec::Cpu, Dtype::F32).unwrap();
    let name = copy.path().file_name().unwrap().to_string_lossy();
    assert_eq!(
        (model.info().name.as_str(), &model.info().digest),
        (&*name, &None)
    );
    let manifest = Manifest::read(folder(Size::Tiny)).unwrap().unwrap();
    fs::write(copy.path().join("vae/config.json"), "{}").unwrap();
    let mismatches = manifest.mismatches(copy.path()).unwrap();
    assert_eq!(mismatches, ["model_index.json", "vae/config.json"]);
}

/// What would change a network's result, and this engine does not compute, or not in this world.
#[test]
fn configurations_of_other_networks_are_refused_by_key() {
    let cases = [
        ("unet", "center_input_sample", json!(true)),
        ("unet", "resnet_time_scale_shift", json!("scale_shift")),
        ("unet", "class_embed_type", json!("timestep")),
        ("unet", "mid_block_scale_factor", json!(2)),
        ("unet", "num_attention_heads", json!(7)),
        ("unet", "layers_per_block", json!(100_000_000)),
        ("unet", "cross_attention_dim", json!(1u64 << 40)),
        ("unet", "block_out_channels", json!([])),
        ("vae", "latents_mean", json!([1, 2, 3, 4])),
        ("vae", "shift_factor", json!(0.1)),
        ("vae", "use_quant_conv", json!(false)),
        ("vae", "layers_per_block", json!(0)),
        ("vae", "scaling_factor", json!(0)),
        ("noise_predictor", "double_z", json!(false)),
        ("noise_predictor", "layers_per_block", json!([0, 3])),
        ("noise_predictor", "temb_channels", json!(0)),
    ];
    let copy = copy_of_tiny();
    for (network, key, value) in cases {
        let path = copy.path().join(network).join("config.json");
        let before = fs::read(&path).unwrap();
        let mut config: Value = serde_json::from_slice(&before).unwrap();
        config[key] = value.clone();
        fs::write(&path, config.to_string()).unwrap();
        let error = InvSr::load(copy.path(), &DeviceSpec::Cpu, Dtype::F32).unwrap_err();
        let (said, key) = (error.to_string(), key);
        assert!(
            matches!(error, LoadError::Unsupported { network: found, .. } if found == network),
            "{said}"
        );
        let named = said.contains(key) || said.contains("number of channels");
        assert!(named, "{key} = {value}: {said}");
        fs::write(&path, before).unwrap();
    }
    // What older and newer writers leave out, or write as they please, changes nothing.
    let path = copy.path().join("unet/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["mid_block_scale_factor"] = json!(1);
    config["class_embed_type"] = Value::Null;
    config
        .as_object_mut()
        .unwrap()
        .remove("center_input_sample");
    fs::write(&path, config.to_string()).unwrap();
    InvSr::load(copy.path(), &DeviceSpec::Cpu, Dtype::F32).unwrap();
}

#[test]
fn spoilt_folders_are_refused_by_file_and_tensor() {
    let load = |folder: &Path| InvSr::load(folder, &DeviceSpec::Cpu, Dtype::F32).unwrap_err();
    let copy = copy_of_tiny();
    fs::remove_file(copy.path().join("prompt_embeds.safetensors")).unwrap();
    assert!(matches!(load(copy.path()), LoadError::NoPrompt(_)));

    let copy = copy_of_tiny();
    let config = fs::read_to_string(copy.path().join("unet/config.json")).unwrap();
    let swap = |from: &str, to: &str| {
        fs::write(
            copy.path().join("unet/config.json"),
            config.replace(from, to),
        )
        .unwrap();
        load(copy.path()).to_string()
    };
    assert_eq!(
        swap("\"silu\"", "\"relu\""),
        "unet configuration: act_fn must be silu"
    );
    let found = swap("\"cross_attention_dim\": 24", "\"cross_attention_dim\": 32");
    assert!(
        found.contains("prompt_embeds.safetensors is [1, 77, 24]"),
        "{found}"
    );
    let found = swap("\"layers_per_block\": 2", "\"layers_per_block\": 3");
    assert!(found.contains("has no tensor"), "{found}");

    let copy = copy_of_tiny();
    let weights = copy.path().join("vae/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(load(copy.path()), LoadError::Weights { .. }));
    fs::remove_file(&weights).unwrap();
    assert!(matches!(load(copy.path()), LoadError::NoWeights(_)));
}

/// Older files name the VAE's attention otherwise and store it as 1x1 convolutions.
#[test]
fn old_attention_names_give_the_same_image() {
    let copy = copy_of_tiny();
    let path = copy.path().join("vae/diffusion_pytorch_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for half in ["encoder", "decoder"] {
        let names = [
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ];
        for (new, old) in names {
            let at =
                |name: &str, leaf: &str| format!("{half}.mid_block.attentions.0.{name}.{leaf}");
            let weight = tensors.remove(&at(new, "weight")).unwrap();
            let weight = weight.unsqueeze(2).unwrap().unsqueeze(3).unwrap();
            tensors.insert(at(old, "weight"), weight);
            let bias = tensors.remove(&at(new, "bias")).unwrap();
            tensors.insert(at(old, "bias"), bias);
        }
    }
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let (image, options) = (picture(16, 16), options(16, &[200]));
    let mut old = InvSr::load(copy.path(), &DeviceSpec::Cpu, Dtype::F32).unwrap();
    let old = old.upscale(&image, &options, &mut ()).unwrap().image;
    let new = model(Size::Tiny)
        .upscale(&image, &options, &mut ())
        .unwrap()
        .image;
    assert_eq!(bits(&old), bits(&new));
}

#[test]
fn a_dump_can_be_replayed() {
    let dump = tempfile::tempdir().unwrap();
    let (mut model, image) = (model(Size::Quarter), picture(24, 16));
    let mut options = options(16, &[200, 100]);
    let mut observer = NpyDump::create(dump.path()).unwrap();
    let first = model
        .upscale(&image, &options, &mut observer)
        .unwrap()
        .image;
    let read = |name: &str| Tensor::read_npy(dump.path().join(name)).unwrap();
    assert_eq!(read("latent_1.npy").dims(), [2, 8, 16, 16]);
    assert_eq!(read("sigmas.npy").dims(), [3]);
    assert_eq!(read("image.npy").dims(), [1, 3, 64, 96]);
    options.noise =
        Some(InjectedNoise::new(read("predictor_eps.npy"), read("vae_eps.npy")).unwrap());
    options.seed += 1;
    let replayed = model.upscale(&image, &options, &mut ()).unwrap().image;
    assert_eq!(bits(&replayed), bits(&first));
}
