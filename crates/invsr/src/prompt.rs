//! The prompt: constant, so it was encoded when the model folder was made.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::LoadError;
use crate::weights::Weights;

/// The encoded prompts' file name in a model folder.
pub(crate) const PROMPT_FILE: &str = "prompt_embeds.safetensors";

/// What the result should be and, if the folder holds it, what it should not: each `[1, L, width]`
/// in `f32`, `L` up to 77.
pub(crate) struct Encoded {
    pub positive: Tensor,
    pub negative: Option<Tensor>,
}

/// Reads the encoded prompts of a model folder.
pub(crate) fn read(dir: &Path, width: usize, device: &Device) -> Result<Encoded, LoadError> {
    let path = dir.join(PROMPT_FILE);
    if !path.is_file() {
        return Err(LoadError::NoPrompt(path));
    }
    let file = Weights::open_file(&path, device)?;
    let prompt = |name: &str| {
        let prompt = file.root().any_shape(name)?;
        match *prompt.dims() {
            [1, length, found] if found == width && length > 0 => Ok(prompt),
            _ => Err(LoadError::TensorShape {
                path: path.clone(),
                name: name.to_owned(),
                found: prompt.dims().to_vec(),
                expected: vec![1, 77, width],
            }),
        }
    };
    let negative = file.root().has("negative").then(|| prompt("negative"));
    Ok(Encoded {
        positive: prompt("positive")?,
        negative: negative.transpose()?,
    })
}
