//! Imports of published models in other shapes, and of what is none.

mod base;

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;

use base::run::{assert_refused, difference, files, import, predictor_tensors, prompts_in, run};
use base::{Inputs, WEIGHTS, checkpoint, recorded, rewrite};
use candle_core::{DType, Device, Tensor};
use invsr::{DeviceSpec, Dtype, ImportError, InvSr, import_model};
use serde_json::json;
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
