//! Why one file was not upscaled; the others go on.

use std::io;

use imaging::{DecodeError, EncodeError};
use invsr::{Fault, UpscaleError};
use serde::Serialize;
use upres_common::job::ErrorType;

/// A refusal in the words of the job queue, so that scripts read both alike.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// A sentence for a person.
    pub detail: String,
}

impl Failure {
    pub fn new(kind: ErrorType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    pub fn reading(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorType::InputNotFound,
            io::ErrorKind::PermissionDenied => ErrorType::InputForbidden,
            _ => ErrorType::Storage,
        };
        Self::new(kind, format!("the file cannot be read: {error}"))
    }

    pub fn decoding(error: &DecodeError) -> Self {
        let kind = match error.reason() {
            "storage" => ErrorType::Storage,
            "too_large" => ErrorType::InputTooLarge,
            "unsupported" => ErrorType::InputUnsupported,
            _ => ErrorType::InputUnreadable,
        };
        Self::new(kind, with_causes(error))
    }

    pub fn encoding(error: &EncodeError) -> Self {
        let kind = match error {
            EncodeError::SideTooLong { .. } | EncodeError::TooManyRows => ErrorType::InputTooLarge,
            EncodeError::NoPixels { .. } | EncodeError::NoPages => ErrorType::InputUnreadable,
            EncodeError::NoTransparency { .. } | EncodeError::SeveralPages { .. } => {
                ErrorType::InputUnsupported
            }
            EncodeError::WrongLength { .. }
            | EncodeError::Checkpoint(_)
            | EncodeError::Encoder { .. } => ErrorType::Engine,
        };
        Self::new(kind, with_causes(error))
    }

    pub fn upscaling(error: &UpscaleError) -> Self {
        let kind = match error.fault() {
            Fault::Input => ErrorType::InputUnsupported,
            Fault::Moment => ErrorType::OutOfMemory,
            Fault::Device => ErrorType::DeviceLost,
            Fault::Engine | Fault::Caller | Fault::Cancelled => ErrorType::Engine,
        };
        Self::new(kind, with_causes(error))
    }
}

/// The error and everything under it, on one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
