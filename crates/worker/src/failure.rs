//! Failure: why an attempt came to nothing, and what the coordinator is told of it.

use imaging::{DecodeError, EncodeError};
use invsr::{Fault, UpscaleError};
use upres_common::job::{ErrorType, JobError};
use upres_common::objects::ObjectError;

use crate::engine::EngineStopped;
use crate::write_back::WriteBackError;

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("fetch the input")]
    Fetch(#[source] ObjectError),
    #[error(
        "the input's SHA-256 is {found}, the job expects {expected}: copy the file again or correct the job"
    )]
    OtherInput { found: String, expected: String },
    #[error("decode the input")]
    Decode(#[from] DecodeError),
    #[error("the result does not fit its format")]
    Format(#[source] EncodeError),
    #[error("upscale")]
    Upscale(#[from] UpscaleError),
    #[error("write the result back")]
    WriteBack(#[from] WriteBackError),
    #[error("the lease holds what this program cannot read: {0}")]
    Lease(String),
    #[error(transparent)]
    Engine(#[from] EngineStopped),
}

impl ProcessError {
    /// What the coordinator is told. `None`: the work was stopped on purpose.
    pub(crate) fn report(&self) -> Option<JobError> {
        let (error_type, detail) = match self {
            Self::Fetch(error) => (fetch_type(error), error.to_string()),
            Self::OtherInput { .. } => (ErrorType::InputUnreadable, self.to_string()),
            Self::Decode(error) => (decode_type(error), error.to_string()),
            Self::Format(error) => (format_type(error), error.to_string()),
            Self::Upscale(error) => (upscale_type(error)?, with_sources(error)),
            Self::WriteBack(WriteBackError::Upload(ObjectError::Forbidden(_))) => (
                ErrorType::OutputForbidden,
                "the object store refuses the worker to write under the output's address"
                    .to_owned(),
            ),
            Self::WriteBack(WriteBackError::Upload(error @ ObjectError::NoBucket(_))) => {
                (ErrorType::OutputNotFound, error.to_string())
            }
            Self::WriteBack(WriteBackError::Upload(error)) => {
                (ErrorType::Storage, error.to_string())
            }
            Self::WriteBack(error) => (ErrorType::Engine, with_sources(error)),
            Self::Lease(detail) => (ErrorType::InputUnsupported, detail.clone()),
            Self::Engine(error) => (ErrorType::DeviceLost, error.to_string()),
        };
        Some(JobError::new(error_type, detail))
    }

    /// Whether this process can do no further work.
    pub(crate) fn is_device_lost(&self) -> bool {
        match self {
            Self::Engine(_) => true,
            Self::Upscale(error) => matches!(error.fault(), Fault::Device),
            _ => false,
        }
    }
}

fn fetch_type(error: &ObjectError) -> ErrorType {
    match error {
        ObjectError::NotFound(_) | ObjectError::NoBucket(_) => ErrorType::InputNotFound,
        ObjectError::Forbidden(_) => ErrorType::InputForbidden,
        ObjectError::TooLarge { .. } => ErrorType::InputTooLarge,
        // Whoever sets up the store may be about to mend it.
        ObjectError::Refused { .. } | ObjectError::Unavailable { .. } => ErrorType::Storage,
    }
}

fn format_type(error: &EncodeError) -> ErrorType {
    match error {
        EncodeError::NoTransparency { .. } | EncodeError::SeveralPages { .. } => {
            ErrorType::InputUnsupported
        }
        _ => ErrorType::InputTooLarge,
    }
}

fn decode_type(error: &DecodeError) -> ErrorType {
    match error.reason() {
        "storage" => ErrorType::Storage,
        "too_large" => ErrorType::InputTooLarge,
        "unsupported" => ErrorType::InputUnsupported,
        _ => ErrorType::InputUnreadable,
    }
}

fn upscale_type(error: &UpscaleError) -> Option<ErrorType> {
    match error.fault() {
        Fault::Input => Some(ErrorType::InputUnsupported),
        Fault::Moment => Some(ErrorType::OutOfMemory),
        Fault::Device => Some(ErrorType::DeviceLost),
        Fault::Engine | Fault::Caller => Some(ErrorType::Engine),
        Fault::Cancelled => None,
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
