//! When guidance is refused; that it computes the right thing, `parity.rs` checks.

use candle_core::Device;
use invsr::{
    DeviceSpec, Dtype, Fault, InvSr, LoadError, Options, Size, Upscale, write_random_model,
};

fn refusal(model: &InvSr, guidance: f64) -> Option<String> {
    let options = Options {
        guidance,
        ..Options::default()
    };
    let refused = model.plan(64, 64, &options).err()?;
    assert_eq!(refused.fault(), Fault::Input);
    Some(refused.to_string())
}

#[test]
fn guidance_needs_a_number_from_one_and_a_negative_prompt() {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(Size::Tiny, 7, folder.path()).unwrap();
    let load = || InvSr::load(folder.path(), &DeviceSpec::Cpu, Dtype::F32);
    let model = load().unwrap();
    assert_eq!(refusal(&model, 1.0), None);
    assert_eq!(refusal(&model, 7.5), None);
    for guidance in [0.5, -1.0, f64::NAN, f64::INFINITY] {
        let message = refusal(&model, guidance).unwrap();
        assert!(message.starts_with("guidance is"), "{message}");
    }

    let prompts = folder.path().join("prompt_embeds.safetensors");
    let mut tensors = candle_core::safetensors::load(&prompts, &Device::Cpu).unwrap();
    let negative = tensors.remove("negative").unwrap();
    candle_core::safetensors::save(&tensors, &prompts).unwrap();
    let model = load().unwrap();
    assert_eq!(refusal(&model, 1.0), None);
    let message = refusal(&model, 2.0).unwrap();
    assert!(message.contains("no negative prompt"), "{message}");

    tensors.insert("negative".to_owned(), negative.narrow(2, 0, 8).unwrap());
    candle_core::safetensors::save(&tensors, &prompts).unwrap();
    let refused = load().unwrap_err();
    assert!(
        matches!(&refused, LoadError::TensorShape { name, .. } if name == "negative"),
        "{refused}"
    );
}
