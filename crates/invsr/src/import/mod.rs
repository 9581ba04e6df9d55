//! Makes a model folder of a base model and a noise predictor, as they are published.
//!
//! The base is a Stable Diffusion 2.x folder in the diffusers layout, the predictor one file. The
//! prompts are encoded here, once, so that nothing else needs a text encoder. The folder appears under
//! its name only when it is whole.

mod base;
mod convert;
mod error;
mod staging;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::Value;

use self::base::Base;
pub use self::error::ImportError;
use self::staging::Staging;
use crate::config::PredictorConfig;
use crate::device::Dtype;
use crate::error::LoadError;
use crate::manifest::{Manifest, Prompts};
use crate::noise_predictor::NoisePredictor;
use crate::pipeline::check_fit;
use crate::prompt::PROMPT_FILE;
use crate::random::released_noise_predictor;
use crate::scheduler::Schedule;
use crate::text_encoder;
use crate::tokenizer::Tokenizer;
use crate::unet::Unet;
use crate::vae::Vae;
use crate::weights::{Scope, Weights};

/// What to make a model folder of.
#[derive(Debug, Clone)]
pub struct Import {
    /// The base model's folder: `unet/`, `vae/`, `scheduler/`, `text_encoder/` and `tokenizer/`.
    pub base: PathBuf,
    /// The noise predictor: a safetensors file or a PyTorch checkpoint.
    pub noise_predictor: PathBuf,
    /// The noise predictor's configuration. `None`: the `config.json` beside it if that is one of a
    /// noise predictor, else the sizes of the release.
    pub noise_predictor_config: Option<PathBuf>,
    /// The number format to store the networks in. `None`: each tensor as it comes.
    pub dtype: Option<Dtype>,
    /// What the model is told of every picture.
    pub prompts: Prompts,
    /// The model's name.
    pub name: String,
    /// The licences of base and predictor, for people.
    pub licence: String,
    /// Where base and predictor come from.
    pub source: String,
    /// Files to keep beside the weights, such as the licences' texts: a path inside the model folder
    /// and the file to copy there.
    pub enclosed: Vec<(String, PathBuf)>,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    /// `text_encoder`, then `noise_predictor`, `vae` and `unet`.
    pub stage: &'static str,
    /// Layers of the text encoder, bytes of another network.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Who is told how far an import is, and may break it off.
pub type Watch<'a> = dyn FnMut(ImportProgress) -> ControlFlow<()> + 'a;

/// Makes the model folder `out` and returns its manifest, which holds the SHA-256 of every file. The
/// same input makes the same bytes.
///
/// # Errors
/// [`ImportError`] says what is wrong with the input and what to do. Nothing is left behind then.
pub fn import_model(
    import: &Import,
    out: &Path,
    watch: &mut Watch<'_>,
) -> Result<Manifest, ImportError> {
    let mut staging = Staging::beside(out)?;
    let base = Base::read(&import.base)?;
    for path in [
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
    ] {
        staging.copy(path, &import.base.join(path))?;
    }
    let index = import.base.join("model_index.json");
    if index.is_file() {
        staging.copy("model_index.json", &index)?;
    }
    let predictor = predictor_config(import, &mut staging)?;
    check_fit(&base.vae, &base.unet, &predictor)?;
    let predictor_weights = Weights::open_file_as_stored(&import.noise_predictor)?;

    staging.write(PROMPT_FILE, &encode_prompts(import, &base, watch)?)?;
    let mut write = |network, weights: &Weights, load: Load<'_>| {
        convert::network(network, weights, import.dtype, load, &mut staging, watch)
    };
    write("noise_predictor", &predictor_weights, &|scope| {
        NoisePredictor::load(scope, &predictor).map(drop)
    })?;
    let weights = |network: &str| Weights::open_as_stored(&import.base.join(network));
    write("vae", &weights("vae")?, &|scope| {
        Vae::load(scope, &base.vae).map(drop)
    })?;
    write("unet", &weights("unet")?, &|scope| {
        Unet::load(scope, &base.unet).map(drop)
    })?;
    for (path, file) in &import.enclosed {
        staging.copy(path, file)?;
    }
    let schedules: Result<_, _> = (1..=5).map(Schedule::default_for).collect();
    staging.finish(|files| Manifest {
        name: import.name.clone(),
        trained: true,
        licence: import.licence.clone(),
        source: import.source.clone(),
        prompts: Some(import.prompts.clone()),
        recommended_schedules: schedules.unwrap_or_default(),
        files,
    })
}

/// Builds a network from a scope, to learn which tensors it asks for.
type Load<'a> = &'a dyn Fn(&Scope<'_>) -> Result<(), LoadError>;

/// Puts the noise predictor's configuration into the folder and reads it.
fn predictor_config(
    import: &Import,
    staging: &mut Staging,
) -> Result<PredictorConfig, ImportError> {
    const PATH: &str = "noise_predictor/config.json";
    let beside = import.noise_predictor.with_file_name("config.json");
    let given = match &import.noise_predictor_config {
        Some(path) => Some(path),
        None => is_of_a_noise_predictor(&beside).then_some(&beside),
    };
    let Some(path) = given else {
        staging.write(
            PATH,
            format!("{:#}\n", released_noise_predictor()).as_bytes(),
        )?;
        return Ok(PredictorConfig::read(staging.path())?);
    };
    staging.copy(PATH, path)?;
    Ok(PredictorConfig::read_file(path)?)
}

fn is_of_a_noise_predictor(config: &Path) -> bool {
    let config = std::fs::read(config).ok();
    let config = config.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    config.is_some_and(|config| config["_class_name"] == "NoisePredictor")
}

/// What the text encoder says of both prompts, as a safetensors file.
fn encode_prompts(
    import: &Import,
    base: &Base,
    watch: &mut Watch<'_>,
) -> Result<Vec<u8>, ImportError> {
    let tokenizer = Tokenizer::read(&import.base.join("tokenizer"))?;
    let mut ids = Vec::new();
    for prompt in [&import.prompts.positive, &import.prompts.negative] {
        let (length, known) = (base.text.max_position_embeddings, base.text.vocab_size);
        ids.push(tokenizer.encode(prompt, length, known)?);
    }
    let weights = Weights::open(&import.base.join("text_encoder"), &Device::Cpu, DType::F32)?;
    let states = text_encoder::encode(&weights, &base.text, &ids, |done, total| {
        watch(ImportProgress {
            stage: "text_encoder",
            done: done as u64,
            total: total as u64,
        })
    })?;
    let ControlFlow::Continue(states) = states else {
        return Err(ImportError::Cancelled);
    };
    let mut tensors = Vec::new();
    for (i, name) in ["positive", "negative"].into_iter().enumerate() {
        let states = states
            .narrow(0, i, 1)
            .and_then(|states| states.contiguous());
        let states = states.map_err(LoadError::Prepare)?;
        if !convert::is_finite(&states)? {
            let (network, name) = ("text_encoder", name.to_owned());
            return Err(ImportError::NotFinite { network, name });
        }
        tensors.push((name, states));
    }
    safetensors::serialize(tensors, None).map_err(ImportError::Lay)
}
