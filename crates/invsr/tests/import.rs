//! Imports of published models: what is made of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod base;

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use base::run::{difference, files, import, predictor_tensors, prompts_in, run};
use base::{Inputs, WEIGHTS, checkpoint, halve, recorded, rewrite};
use invsr::{
    DeviceSpec, Dtype, InvSr, LoadError, Manifest, Options, Prompts, RgbImage, Upscale,
    import_model,
};
use serde_json::json;
/// The largest difference from transformers' states, whose deviation is near 1.
const TOLERANCE: f32 = 5e-6;

/// What the model makes of a ramp.
fn upscaled(model: &Path) -> Vec<f32> {
    let mut model = InvSr::load(model, &DeviceSpec::Cpu, Dtype::F32).unwrap();
    let ramp = (0..3072u16).map(|i| f32::from(i) / 3072.0).collect();
    let options = Options {
        tile_px: 32,
        ..Options::default()
    };
    let image = RgbImage::new(32, 32, ramp).unwrap();
    model.upscale(&image, &options, &mut ()).unwrap().image.data
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
    assert_eq!(upscaled(&out).len(), 3 * 128 * 128);
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
    assert_eq!(upscaled(&out("new")), upscaled(&out("old")));
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
fn configurations_that_leave_out_what_was_once_the_rule_mean_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = Inputs::make(folder.path());
    let out = |name: &str| folder.path().join(name);
    run(&import(&inputs), &out("new")).unwrap();
    let scheduler = json!({
        "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "skip_prk_steps": true,
        "trained_betas": null, "clip_sample": false
    });
    let path = inputs.base.join("scheduler/scheduler_config.json");
    fs::write(path, scheduler.to_string()).unwrap();
    inputs.unset("vae/config.json", "scaling_factor");
    inputs.unset("vae/config.json", "mid_block_add_attention");
    inputs.unset("unet/config.json", "mid_block_type");
    inputs.unset("unet/config.json", "sample_size");
    fs::remove_file(inputs.base.join("model_index.json")).unwrap();
    run(&import(&inputs), &out("old")).unwrap();
    assert_eq!(upscaled(&out("new")), upscaled(&out("old")));
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
