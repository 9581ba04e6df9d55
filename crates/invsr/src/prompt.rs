//! The prompt: constant, so it was encoded when the model folder was made.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::LoadError;
use crate::weights::Weights;

/// The encoded prompts' file name in a model folder.
pub(crate) const PROMPT_FILE: &str = "prompt_embeds.safetensors";

/// Reads the encoded positive prompt, `[1, L, width]` in `f32`. `L` is up to 77.
///
/// The negative prompt may be stored too; guidance is off in this method, so nothing reads it.
pub(crate) fn read(dir: &Path, width: usize, device: &Device) -> Result<Tensor, LoadError> {
    let path = dir.join(PROMPT_FILE);
    if !path.is_file() {
        return Err(LoadError::NoPrompt(path));
    }
    let file = Weights::open_file(&path, device)?;
    let prompt = file.root().any_shape("positive")?;
    match *prompt.dims() {
        [1, length, found] if found == width && length > 0 => Ok(prompt),
        _ => Err(LoadError::TensorShape {
            path,
            name: "positive".to_owned(),
            found: prompt.dims().to_vec(),
            expected: vec![1, 77, width],
        }),
    }
}
