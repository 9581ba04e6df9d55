//! Imports of published models: what is accepted, what is refused, and that nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod base;

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base::{Inputs, WEIGHTS, checkpoint, halve, recorded, rewrite};
use candle_core::{DType, Device, Tensor};
use invsr::{
    DeviceSpec, Dtype, Import, ImportError, InvSr, LoadError, Manifest, Options, Prompts, RgbImage,
    Upscale, import_model,
};
use serde_json::json;

/// The largest difference from transformers' states, whose deviation is near 1.
const TOLERANCE: f32 = 5e-6;

fn import(inputs: &Inputs) -> Import {
    Import {
        base: inputs.base.clone(),
        noise_predictor: inputs.predictor.clone(),
        noise_predictor_config: None,
        dtype: None,
        prompts: Prompts::default(),
        name: "imported".to_owned(),
        licence: "theirs".to_owned(),
        source: "a test".to_owned(),
        enclosed: Vec::new(),
    }
}

fn run(import: &Import, out: &Path) -> Result<Manifest, ImportError> {
    import_model(import, out, &mut |_| ControlFlow::Continue(()))
}

fn prompts_in(model: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(model.join("prompt_embeds.safetensors"), &Device::Cpu).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let values = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let values = values.to_vec1::<f32>().unwrap();
    values
        .into_iter()
        .fold(0.0, |a, b| if b.is_nan() || b > a { b } else { a })
}

/// Every file of the folder but the manifest, which tells where it came from.
fn files(manifest: &Manifest) -> Vec<(&String, &String)> {
    manifest.files.iter().collect()
}

/// Fails unless the import is refused with all of `words`, and the place of the model is as before.
#[track_caller]
fn assert_refused(import: &Import, words: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    let error = run(import, &place.path().join("model")).unwrap_err();
    let mut told = error.to_string();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        told = format!("{told}: {source}");
        cause = source;
    }
    for word in words {
        assert!(told.contains(word), "{told:?} does not say {word:?}");
    }
    assert_eq!(
        fs::read_dir(place.path()).unwrap().count(),
        0,
        "left behind"
    );
}

#[test]
fn an_imported_model_is_whole_and_upscales() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let licence = inputs.base.join("LICENSE.md");
    fs::write(&licence, "be good").unwrap();
    let mut import = import(&inputs);
    import.enclosed = vec![("licences/base/LICENSE.md".to_owned(), licence)];
    let out = folder.path().join("models/new");
    let mut stages = Vec::new();
    let manifest = import_model(&import, &out, &mut |progress| {
        assert!(progress.done <= progress.total && progress.total > 0);
        if stages.last() != Some(&progress.stage) {
            stages.push(progress.stage);
        }
        ControlFlow::Continue(())
    });
    let manifest = manifest.unwrap();
    assert_eq!(stages, ["text_encoder", "noise_predictor", "vae", "unet"]);
    assert_eq!(Manifest::read(&out).unwrap().unwrap(), manifest);
    assert_eq!(manifest.mismatches(&out).unwrap(), Vec::<String>::new());
    assert_eq!(manifest.prompts, Some(Prompts::default()));
    let schedules = manifest.recommended_schedules.iter();
    let schedules: Vec<_> = schedules
        .map(|schedule| schedule.timesteps().to_vec())
        .collect();
    assert_eq!(schedules[0], [200]);
    assert_eq!(schedules[4], [250, 200, 150, 100, 50]);
    let names: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "licences/base/LICENSE.md",
            "model_index.json",
            "noise_predictor/config.json",
            "noise_predictor/diffusion_pytorch_model.safetensors",
            "prompt_embeds.safetensors",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ]
    );
    let mut model = InvSr::load(&out, &DeviceSpec::Cpu, Dtype::F32).unwrap();
    let grey = RgbImage::new(32, 32, vec![0.5; 32 * 32 * 3]).unwrap();
    let options = Options {
        tile_px: 32,
        ..Options::default()
    };
    let large = model.upscale(&grey, &options, &mut ()).unwrap().image;
    assert_eq!((large.width, large.height), (128, 128));
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let import = import(&Inputs::make(folder.path()));
    let [first, second] = ["first", "second"].map(|name| {
        let out = folder.path().join(name);
        run(&import, &out).unwrap();
        fs::read(out.join("upres-model.json")).unwrap()
    });
    assert_eq!(first, second);
}

#[test]
fn the_text_tower_says_what_transformers_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut import = import(&Inputs::make(folder.path()));
    let recorded = recorded();
    let prompt = |i: usize| recorded.case["prompts"][i].as_str().unwrap().to_owned();
    for pair in [0, 2] {
        import.prompts = Prompts {
            positive: prompt(pair),
            negative: prompt(pair + 1),
        };
        let out = folder.path().join(format!("model-{pair}"));
        run(&import, &out).unwrap();
        let prompts = prompts_in(&out);
        for (i, name) in [(pair, "positive"), (pair + 1, "negative")] {
            let expected = recorded.states.narrow(0, i, 1).unwrap();
            let difference = difference(&prompts[name], &expected);
            println!("prompt {i}: {difference:.1e}");
            assert!(
                difference <= TOLERANCE,
                "prompt {i} differs by {difference:.1e}"
            );
        }
    }
    assert_eq!(Prompts::default().positive, prompt(0));
    assert_eq!(Prompts::default().negative, prompt(1));
}

#[test]
fn a_converted_tokenizer_gives_the_same_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let import = import(&inputs);
    run(&import, &folder.path().join("old")).unwrap();
    let tokenizer = inputs.base.join("tokenizer");
    fs::remove_file(tokenizer.join("vocab.json")).unwrap();
    fs::remove_file(tokenizer.join("special_tokens_map.json")).unwrap();
    let config = json!({"pad_token": "!"}).to_string();
    fs::write(tokenizer.join("tokenizer_config.json"), config).unwrap();
    let mut converted = recorded().case["tokenizer"].clone();
    // What it says of lengths must not matter.
    converted["truncation"] = json!({
        "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0
    });
    fs::write(tokenizer.join("tokenizer.json"), converted.to_string()).unwrap();
    run(&import, &folder.path().join("new")).unwrap();
    let [old, new] = ["old", "new"].map(|name| prompts_in(&folder.path().join(name)));
    assert_eq!(difference(&old["positive"], &new["positive"]), 0.0);
    assert_eq!(difference(&old["negative"], &new["negative"]), 0.0);

    fs::remove_file(tokenizer.join("tokenizer.json")).unwrap();
    assert_refused(&import, &["vocab.json"]);
}

#[test]
fn half_precision_files_are_found_and_stay_half() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    for network in ["vae", "unet"] {
        let name = "diffusion_pytorch_model.fp16.safetensors";
        rewrite(&inputs.base.join(network).join(WEIGHTS), name, halve);
    }
    let text = inputs.base.join("text_encoder/model.safetensors");
    rewrite(&text, "model.fp16.safetensors", halve);
    let out = folder.path().join("model");
    let manifest = run(&import(&inputs), &out).unwrap();
    for network in ["vae", "unet"] {
        let name = format!("{network}/diffusion_pytorch_model.fp16.safetensors");
        assert!(manifest.files.contains_key(&name), "{:?}", manifest.files);
    }
    InvSr::load(&out, &DeviceSpec::Cpu, Dtype::F32).unwrap();
    // The states are worked out in f32 from rounded weights.
    let expected = recorded().states.narrow(0, 0, 1).unwrap();
    let difference = difference(&prompts_in(&out)["positive"], &expected);
    assert!(difference > 0.0 && difference < 2e-2, "{difference:.1e}");
}

#[test]
fn conversion_rounds_each_network_and_tells_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let mut import = import(&inputs);
    for (dtype, stored, file) in [
        (
            Dtype::F16,
            DType::F16,
            "diffusion_pytorch_model.fp16.safetensors",
        ),
        (Dtype::Bf16, DType::BF16, WEIGHTS),
    ] {
        import.dtype = Some(dtype);
        let out = folder.path().join(format!("{dtype}"));
        run(&import, &out).unwrap();
        for (network, source) in [
            ("unet", inputs.base.join("unet").join(WEIGHTS)),
            ("noise_predictor", inputs.predictor.clone()),
        ] {
            let made = candle_core::safetensors::load(out.join(network).join(file), &Device::Cpu);
            let made = made.unwrap();
            let source = candle_core::safetensors::load(source, &Device::Cpu).unwrap();
            assert_eq!(made.len(), source.len());
            for (name, tensor) in &made {
                let wide = tensor.to_dtype(DType::F32).unwrap();
                let rounded = source[name].to_dtype(stored).unwrap();
                assert_eq!(tensor.dtype(), stored);
                let expected = rounded.to_dtype(DType::F32).unwrap();
                assert_eq!(difference(&wide, &expected), 0.0, "{network} {name}");
            }
        }
        InvSr::load(&out, &DeviceSpec::Cpu, Dtype::F32).unwrap();
    }
    let large = |value: f32| {
        let path = inputs.base.join("unet").join(WEIGHTS);
        rewrite(&path, WEIGHTS, |tensors| {
            let shape = tensors["conv_in.bias"].shape().clone();
            let bias = Tensor::full(value, shape, &Device::Cpu).unwrap();
            tensors.insert("conv_in.bias".to_owned(), bias);
        });
    };
    large(1e5);
    import.dtype = Some(Dtype::F16);
    assert_refused(&import, &["conv_in.bias", "f16", "bf16"]);
    large(f32::NAN);
    import.dtype = None;
    assert_refused(&import, &["conv_in.bias", "not finite"]);
}

#[test]
fn older_names_of_the_vae_attention_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let out = |name: &str| folder.path().join(name);
    run(&import(&inputs), &out("new")).unwrap();
    rewrite(&inputs.base.join("vae").join(WEIGHTS), WEIGHTS, |tensors| {
        let names: Vec<String> = tensors.keys().cloned().collect();
        let mut renamed = 0;
        for name in names.iter().filter(|name| name.contains(".attentions.0.")) {
            let older = name
                .replace(".to_q.", ".query.")
                .replace(".to_k.", ".key.")
                .replace(".to_v.", ".value.")
                .replace(".to_out.0.", ".proj_attn.");
            let mut tensor = tensors.remove(name).unwrap();
            if older != *name && tensor.rank() == 2 {
                // The oldest files hold these layers as 1x1 convolutions.
                tensor = tensor.unsqueeze(2).unwrap().unsqueeze(3).unwrap();
                renamed += 1;
            }
            tensors.insert(older, tensor);
        }
        assert_eq!(renamed, 8);
    });
    run(&import(&inputs), &out("old")).unwrap();
    let decoded = ["new", "old"].map(|name| {
        let mut model = InvSr::load(&out(name), &DeviceSpec::Cpu, Dtype::F32).unwrap();
        let image = RgbImage::new(32, 32, (0..3072).map(|i| i as f32 / 3072.0).collect());
        let options = Options {
            tile_px: 32,
            ..Options::default()
        };
        model
            .upscale(&image.unwrap(), &options, &mut ())
            .unwrap()
            .image
            .data
    });
    assert_eq!(decoded[0], decoded[1]);
}

#[test]
fn a_network_in_parts_is_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let whole = run(&import(&inputs), &folder.path().join("whole")).unwrap();
    let path = inputs.base.join("unet").join(WEIGHTS);
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    fs::remove_file(&path).unwrap();
    let mut parts = [HashMap::new(), HashMap::new()];
    let mut map = HashMap::new();
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        map.insert(name.clone(), format!("part-{}.safetensors", i % 2));
        parts[i % 2].insert(name, tensor);
    }
    for (i, part) in parts.iter().enumerate() {
        let path = path.with_file_name(format!("part-{i}.safetensors"));
        candle_core::safetensors::save(part, path).unwrap();
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    let index_path = path.with_file_name("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index_path, index).unwrap();
    let joined = run(&import(&inputs), &folder.path().join("joined")).unwrap();
    assert_eq!(files(&joined), files(&whole));

    let away = json!({"weight_map": {"conv_in.bias": "../vae/x.safetensors"}}).to_string();
    fs::write(index_path, away).unwrap();
    assert_refused(&import(&inputs), &["index.json"]);
}

/// The tensors of the noise predictor, each name behind `prefix`.
fn predictor_tensors(path: &Path, prefix: &str) -> Vec<(String, Tensor)> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let named = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
    named.collect()
}

#[test]
fn a_checkpoint_of_any_make_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let expected = run(&import(&inputs), &folder.path().join("expected")).unwrap();
    let file: PathBuf = inputs.predictor.with_file_name("released.pth");
    for (case, prefix) in ["", "module.", "_orig_mod.", "module._orig_mod."]
        .iter()
        .enumerate()
    {
        let tensors = predictor_tensors(&inputs.predictor, prefix);
        for pickle in [
            checkpoint::bare(&tensors),
            checkpoint::under_state_dict(&tensors),
        ] {
            checkpoint::write(&file, &pickle, &tensors);
            let mut import = import(&inputs);
            import.noise_predictor = file.clone();
            let out = folder.path().join(format!("case-{case}-{}", pickle.len()));
            assert_eq!(
                files(&run(&import, &out).unwrap()),
                files(&expected),
                "{prefix:?}"
            );
        }
        let mut import = import(&inputs);
        import.noise_predictor = file.with_extension("safetensors");
        let tensors: HashMap<_, _> = tensors.into_iter().collect();
        candle_core::safetensors::save(&tensors, &import.noise_predictor).unwrap();
        let out = folder.path().join(format!("case-{case}-safetensors"));
        assert_eq!(
            files(&run(&import, &out).unwrap()),
            files(&expected),
            "{prefix:?}"
        );
    }
}

#[test]
fn a_checkpoint_that_would_run_a_program_is_refused_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let mut import = import(&inputs);
    import.noise_predictor = inputs.predictor.with_file_name("hostile.pth");
    let trace = folder.path().join("it-ran");
    let tensors = predictor_tensors(&inputs.predictor, "");
    let pickle = checkpoint::hostile(&tensors, &format!("touch {}", trace.display()));
    checkpoint::write(&import.noise_predictor, &pickle, &tensors);
    assert_refused(
        &import,
        &["hostile.pth", "os.system", "nothing in it was run"],
    );
    assert!(!trace.exists());
}

#[test]
fn files_that_are_no_weights_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let mut import = import(&inputs);
    import.noise_predictor = inputs.predictor.with_file_name("other.pth");
    let told = [
        (
            &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."[..],
            "PyTorch before 1.6",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "git lfs pull",
        ),
        (b"<!DOCTYPE html><html>Log in</html>", "web page"),
        (b"PK\x05\x06 and then nothing", "zip archive"),
        (b"short", "not a safetensors file"),
    ];
    for (bytes, word) in told {
        fs::write(&import.noise_predictor, bytes).unwrap();
        assert_refused(&import, &["other.pth", word]);
    }
    import.noise_predictor = inputs.predictor.with_file_name("nowhere.pth");
    assert_refused(&import, &["nowhere.pth"]);
    // The base's own weights are not a noise predictor.
    import.noise_predictor = inputs.base.join("vae").join(WEIGHTS);
    import.noise_predictor_config = Some(inputs.predictor.with_file_name("config.json"));
    assert_refused(&import, &["is not the InvSR noise predictor"]);
    // Without a configuration the sizes of the release are expected.
    import.noise_predictor_config = None;
    import.noise_predictor = folder.path().join("alone.safetensors");
    fs::copy(&inputs.predictor, &import.noise_predictor).unwrap();
    assert_refused(&import, &["alone.safetensors", "is [16], expected [256]"]);
}

#[test]
fn bases_that_no_predictor_fits_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "scheduler/scheduler_config.json",
            "prediction_type",
            json!("v_prediction"),
            "predicts v",
        ),
        (
            "unet/config.json",
            "sample_size",
            json!(96),
            "pictures of 768 px",
        ),
        (
            "text_encoder/config.json",
            "hidden_act",
            json!("quick_gelu"),
            "hidden_act",
        ),
        (
            "text_encoder/config.json",
            "hidden_size",
            json!(48),
            "48 numbers wide",
        ),
        (
            "text_encoder/config.json",
            "vocab_size",
            json!(100),
            "mixes two models",
        ),
        (
            "vae/config.json",
            "latent_channels",
            json!(16),
            "in_channels",
        ),
    ];
    for (i, (file, key, value, word)) in cases.into_iter().enumerate() {
        let inputs = Inputs::make(&folder.path().join(i.to_string()));
        inputs.set(file, key, value);
        assert_refused(&import(&inputs), &[word]);
    }
    let inputs = Inputs::make(&folder.path().join("cut"));
    rewrite(
        &inputs.base.join("unet").join(WEIGHTS),
        WEIGHTS,
        |tensors| {
            tensors.remove("conv_out.bias").unwrap();
        },
    );
    assert_refused(&import(&inputs), &["unet", "conv_out.bias"]);
    let mut import = import(&inputs);
    import.base = inputs.base.join("unet").join(WEIGHTS);
    assert_refused(&import, &["diffusers layout", "unet/config.json"]);
}

#[test]
fn a_scheduler_older_than_the_choice_predicts_noise() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let path = inputs.base.join("scheduler/scheduler_config.json");
    let old = json!({
        "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "skip_prk_steps": true,
        "trained_betas": null, "clip_sample": false
    });
    fs::write(path, old.to_string()).unwrap();
    let out = folder.path().join("model");
    run(&import(&inputs), &out).unwrap();
    InvSr::load(&out, &DeviceSpec::Cpu, Dtype::F32).unwrap();
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_and_not_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut import = import(&Inputs::make(folder.path()));
    import.prompts.positive = "sharp ".repeat(80);
    assert_refused(&import, &["tokens", "75", "shorten"]);
}

#[test]
fn an_import_that_is_broken_off_or_has_no_room_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let import = import(&Inputs::make(folder.path()));
    let place = tempfile::tempdir().unwrap();
    for stop in ["text_encoder", "unet"] {
        let out = place.path().join("model");
        let error = import_model(&import, &out, &mut |progress| {
            if progress.stage == stop {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(matches!(error, Err(ImportError::Cancelled)), "{error:?}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
    let full = place.path().join("full");
    fs::create_dir(&full).unwrap();
    run(&import, &full).unwrap();
    let before = fs::read(full.join("upres-model.json")).unwrap();
    let again = run(&import, &full);
    assert!(matches!(again, Err(ImportError::Taken(_))), "{again:?}");
    assert_eq!(fs::read(full.join("upres-model.json")).unwrap(), before);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_released_checkpoint_in_a_model_folder_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let out = folder.path().join("model");
    run(&import(&inputs), &out).unwrap();
    let predictor = out.join("noise_predictor").join(WEIGHTS);
    let tensors = predictor_tensors(&predictor, "module.");
    fs::remove_file(&predictor).unwrap();
    let missing = InvSr::load(&out, &DeviceSpec::Cpu, Dtype::F32).unwrap_err();
    assert!(matches!(missing, LoadError::NoWeights(_)), "{missing}");
    let released = out.join("noise_predictor_sd_turbo_v5.pth");
    checkpoint::write(&released, &checkpoint::bare(&tensors), &tensors);
    InvSr::load(&out, &DeviceSpec::Cpu, Dtype::F32).unwrap();
}
