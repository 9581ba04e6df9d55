//! What can be wrong with an import.

use std::path::PathBuf;

use crate::error::LoadError;
use crate::tokenizer::TokenizerError;

/// Why no model folder could be made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The output folder holds something.
    #[error("{0} exists and is not empty: name another folder")]
    Taken(PathBuf),
    /// The base is not a folder in the diffusers layout.
    #[error(
        "{base} is no Stable Diffusion folder in the diffusers layout: it has no {missing}. Fetch the repository's folders, not its single checkpoint file"
    )]
    NotABase {
        /// What was given.
        base: PathBuf,
        /// The file that should be there.
        missing: &'static str,
    },
    /// The base predicts another quantity than the noise predictor was trained with.
    #[error(
        "this base model predicts v, as the 768 px models of Stable Diffusion 2.x do, and no InvSR noise predictor fits it: use SD-Turbo or SD-2.0-base"
    )]
    VPrediction,
    /// The base was trained on larger pictures than the noise predictor.
    #[error(
        "this base model was trained on pictures of {side_px} px, and no InvSR noise predictor fits it: use SD-Turbo or SD-2.0-base, which know 512 px"
    )]
    Resolution {
        /// The side of its training pictures.
        side_px: usize,
    },
    /// Text encoder and UNet come from different models.
    #[error(
        "the text encoder's states are {text} numbers wide, the UNet expects {unet}: the folder mixes two models"
    )]
    PromptWidth {
        /// Of the text encoder.
        text: usize,
        /// Of the UNet's cross-attention.
        unet: usize,
    },
    /// The file holds another network.
    #[error(
        "{path} is not the InvSR noise predictor of this configuration: it has no tensor {name:?}"
    )]
    NotThePredictor {
        /// The file.
        path: PathBuf,
        /// A tensor that is not in it.
        name: String,
    },
    /// A weight is an infinity or not a number.
    #[error("tensor {name:?} of {network} holds a value that is not finite: its file is damaged")]
    NotFinite {
        /// The network.
        network: &'static str,
        /// The tensor.
        name: String,
    },
    /// A weight is too large for the number format asked for.
    #[error("tensor {name:?} of {network} does not fit into f16: store it as bf16 or f32")]
    Overflow {
        /// The network.
        network: &'static str,
        /// The tensor.
        name: String,
    },
    /// A prompt cannot be turned into token numbers.
    #[error(transparent)]
    Tokenizer(Box<TokenizerError>),
    /// A file of the input cannot be used.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// A file of the input cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// The model folder cannot be written.
    #[error("write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// Tensors cannot be laid out in a file.
    #[error("lay out a weights file")]
    Lay(#[source] safetensors::SafeTensorError),
    /// The watcher broke it off.
    #[error("cancelled")]
    Cancelled,
}

impl From<LoadError> for ImportError {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}

impl From<TokenizerError> for ImportError {
    fn from(error: TokenizerError) -> Self {
        Self::Tokenizer(Box::new(error))
    }
}
