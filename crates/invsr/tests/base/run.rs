//! Runs imports, and looks at what they made.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Tensor};
use invsr::{Import, ImportError, Manifest, Prompts, import_model};

use super::Inputs;

pub fn import(inputs: &Inputs) -> Import {
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

pub fn run(import: &Import, out: &Path) -> Result<Manifest, ImportError> {
    import_model(import, out, &mut |_| ControlFlow::Continue(()))
}

pub fn prompts_in(model: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(model.join("prompt_embeds.safetensors"), &Device::Cpu).unwrap()
}

pub fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let values = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let values = values.to_vec1::<f32>().unwrap();
    values
        .into_iter()
        .fold(0.0, |a, b| if b.is_nan() || b > a { b } else { a })
}

/// Every file but the manifest, which tells where they came from, with its digest.
pub fn files(manifest: &Manifest) -> Vec<(&String, &String)> {
    manifest.files.iter().collect()
}

/// The tensors of the noise predictor, each name behind `prefix`.
pub fn predictor_tensors(path: &Path, prefix: &str) -> Vec<(String, Tensor)> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let named = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
    named.collect()
}

/// Fails unless the import is refused with all of `words`, and the place of the model is as before.
#[track_caller]
pub fn assert_refused(import: &Import, words: &[&str]) {
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
