//! Makes small base models and noise predictors as they are published, with random weights.

#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "shared by tests that each use a part; a test fails by panicking"
)]

pub mod checkpoint;
pub mod run;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use invsr::{Size, write_random_model};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// The file that diffusers keeps a network in.
pub const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// What the text tower's fixture was recorded with.
pub struct Recorded {
    /// Prompts, `config`, `merges` and `tokenizer`.
    pub case: Value,
    /// `[N, 77]`
    pub ids: Tensor,
    /// `[N, 77, width]`
    pub states: Tensor,
}

pub fn recorded() -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../invsr/tests/fixtures/text-tower.safetensors");
    let bytes = fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let case = &header.metadata().as_ref().unwrap()["case"];
    let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    Recorded {
        case: serde_json::from_str(case).unwrap(),
        ids: tensors.remove("ids").unwrap(),
        states: tensors.remove("states").unwrap(),
    }
}

/// A base model in `root/base` and a noise predictor in `root/noise_predictor`.
pub struct Inputs {
    pub base: PathBuf,
    /// Safetensors, with its configuration beside it.
    pub predictor: PathBuf,
}

impl Inputs {
    pub fn make(root: &Path) -> Self {
        let base = root.join("base");
        write_random_model(Size::Tiny, 3, &base).unwrap();
        fs::rename(base.join("noise_predictor"), root.join("noise_predictor")).unwrap();
        for made in ["prompt_embeds.safetensors", "upres-model.json"] {
            fs::remove_file(base.join(made)).unwrap();
        }
        let case = recorded().case;
        write_tokenizer(&base.join("tokenizer"), &case);
        write_text_encoder(&base.join("text_encoder"), &case["config"]);
        Self {
            base,
            predictor: root.join("noise_predictor").join(WEIGHTS),
        }
    }

    /// Changes one entry of a configuration file of the base.
    pub fn set(&self, file: &str, key: &str, value: Value) {
        let path = self.base.join(file);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        fs::write(path, config.to_string()).unwrap();
    }

    /// Takes an entry out of a configuration file of the base.
    pub fn unset(&self, file: &str, key: &str) {
        let path = self.base.join(file);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config.as_object_mut().unwrap().remove(key).unwrap();
        fs::write(path, config.to_string()).unwrap();
    }
}

/// Reads a safetensors file, changes it, and writes it under another name in its folder.
pub fn rewrite(
    path: &Path,
    name: &str,
    change: impl FnOnce(&mut HashMap<String, Tensor>),
) -> PathBuf {
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    change(&mut tensors);
    fs::remove_file(path).unwrap();
    let path = path.with_file_name(name);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

/// Every tensor in half precision.
pub fn halve(tensors: &mut HashMap<String, Tensor>) {
    for tensor in tensors.values_mut() {
        *tensor = tensor.to_dtype(DType::F16).unwrap();
    }
}

/// CLIP's stand-ins for the 256 bytes, in the order of its vocabulary.
fn byte_alphabet() -> Vec<char> {
    let printable = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256)
        .filter(|b| !printable(b))
        .zip(256..)
        .map(|(_, stand_in)| stand_in);
    let numbers = (0..256).filter(printable).chain(others);
    numbers.map(|b| char::from_u32(b).unwrap()).collect()
}

fn write_tokenizer(folder: &Path, case: &Value) {
    fs::create_dir_all(folder).unwrap();
    let merges: Vec<&str> = case["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| merge.as_str().unwrap())
        .collect();
    let mut tokens: Vec<String> = byte_alphabet().iter().map(char::to_string).collect();
    tokens.extend(byte_alphabet().iter().map(|c| format!("{c}</w>")));
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.extend(["<|startoftext|>", "<|endoftext|>"].map(str::to_owned));
    let vocabulary: HashMap<String, usize> = tokens.into_iter().zip(0..).collect();
    fs::write(folder.join("vocab.json"), json!(vocabulary).to_string()).unwrap();
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    fs::write(folder.join("merges.txt"), merges).unwrap();
    // As published: the configuration pads with the end token, and the map overrules it.
    let config = json!({"pad_token": "<|endoftext|>"});
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    let map = json!({"pad_token": "!", "eos_token": {"content": "<|endoftext|>"}});
    fs::write(folder.join("special_tokens_map.json"), map.to_string()).unwrap();
}

fn write_text_encoder(folder: &Path, config: &Value) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let size = |key: &str| usize::try_from(config[key].as_u64().unwrap()).unwrap();
    let (width, mlp) = (size("hidden_size"), size("intermediate_size"));
    let mut shapes = vec![
        (
            "embeddings.token_embedding.weight".to_owned(),
            vec![size("vocab_size"), width],
        ),
        (
            "embeddings.position_embedding.weight".to_owned(),
            vec![size("max_position_embeddings"), width],
        ),
    ];
    let mut linear = |name: String, inputs: usize, outputs: usize| {
        shapes.push((format!("{name}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{name}.bias"), vec![outputs]));
    };
    for layer in 0..size("num_hidden_layers") {
        let at = |name: &str| format!("encoder.layers.{layer}.{name}");
        for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            linear(at(&format!("self_attn.{name}")), width, width);
        }
        linear(at("mlp.fc1"), width, mlp);
        linear(at("mlp.fc2"), mlp, width);
    }
    let norms = (0..size("num_hidden_layers"))
        .flat_map(|layer| [1, 2].map(|norm| format!("encoder.layers.{layer}.layer_norm{norm}")));
    for norm in norms.chain(["final_layer_norm".to_owned()]) {
        shapes.push((format!("{norm}.weight"), vec![width]));
        shapes.push((format!("{norm}.bias"), vec![width]));
    }
    let mut tensors = HashMap::new();
    for (name, shape) in shapes {
        let name = format!("text_model.{name}");
        let values = formula(&name, &shape);
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(name, tensor);
    }
    // Older transformers store the positions' numbers too.
    let places = Tensor::arange(0i64, 77, &Device::Cpu).unwrap();
    tensors.insert("text_model.embeddings.position_ids".to_owned(), places);
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
}

/// The numbers of `fixtures/record_text.py`, from a tensor's name and each element's place.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the reference rounds to f32 too"
)]
fn formula(name: &str, shape: &[usize]) -> Vec<f32> {
    let mut hash = 2_166_136_261_u32;
    for byte in name.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    }
    let count = u32::try_from(shape.iter().product::<usize>()).unwrap();
    let unit = |place: u32| {
        let mut x = place.wrapping_mul(2_654_435_761).wrapping_add(hash);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        (f64::from(x) / 4_294_967_296.0 - 0.5) * 12f64.sqrt()
    };
    let scaled = |v: f64| match shape {
        _ if name.contains("embedding") => 0.5 * v,
        [_, inputs] => v * (1.5 / (*inputs as f64).sqrt()),
        _ if name.ends_with("weight") => 1.0 + 0.1 * v,
        _ => 0.2 * v,
    };
    (0..count).map(|place| scaled(unit(place)) as f32).collect()
}
