//! Why a job failed, in words that programs may rely on.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The stable types of a job's error. The part before the slash decides what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum ErrorType {
    /// The input is damaged, or not an image.
    #[serde(rename = "input/unreadable")]
    InputUnreadable,
    /// The input exceeds a limit.
    #[serde(rename = "input/too_large")]
    InputTooLarge,
    /// The input is an image of a kind that is not handled.
    #[serde(rename = "input/unsupported")]
    InputUnsupported,
    /// There is no object under the input's address.
    #[serde(rename = "input/not_found")]
    InputNotFound,
    /// The store refuses to hand out the input.
    #[serde(rename = "input/forbidden")]
    InputForbidden,
    /// Something is already stored under the output's address.
    #[serde(rename = "output/exists")]
    OutputExists,
    /// The output's address is the input of some job: masters are never overwritten.
    #[serde(rename = "output/is_input")]
    OutputIsInput,
    /// The store refuses to take the output.
    #[serde(rename = "output/forbidden")]
    OutputForbidden,
    /// There is no bucket for the output.
    #[serde(rename = "output/not_found")]
    OutputNotFound,
    /// The device had too little memory.
    #[serde(rename = "capacity/out_of_memory")]
    OutOfMemory,
    /// The object store failed or did not answer.
    #[serde(rename = "transient/storage")]
    Storage,
    /// The worker died, or was cut off, in the middle.
    #[serde(rename = "transient/worker_lost")]
    WorkerLost,
    /// The engine failed on this image.
    #[serde(rename = "transient/engine")]
    Engine,
    /// The device is gone; another worker may do better.
    #[serde(rename = "device/lost")]
    DeviceLost,
    /// Workers or devices kept dying on this job: it is held back until its owner retries it.
    #[serde(rename = "quarantine/deaths")]
    Quarantined,
}

/// What an error of this type costs the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The job: another attempt would end the same way.
    Final,
    /// An attempt: another follows after a pause, as long as some are left.
    Attempt,
    /// Nothing, because it was the worker that failed; but a job that kills workers is held back.
    Death,
}

impl ErrorType {
    /// Every type, for tables and tests.
    pub const ALL: [Self; 15] = [
        Self::InputUnreadable,
        Self::InputTooLarge,
        Self::InputUnsupported,
        Self::InputNotFound,
        Self::InputForbidden,
        Self::OutputExists,
        Self::OutputIsInput,
        Self::OutputForbidden,
        Self::OutputNotFound,
        Self::OutOfMemory,
        Self::Storage,
        Self::WorkerLost,
        Self::Engine,
        Self::DeviceLost,
        Self::Quarantined,
    ];

    /// The type as it is written in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InputUnreadable => "input/unreadable",
            Self::InputTooLarge => "input/too_large",
            Self::InputUnsupported => "input/unsupported",
            Self::InputNotFound => "input/not_found",
            Self::InputForbidden => "input/forbidden",
            Self::OutputExists => "output/exists",
            Self::OutputIsInput => "output/is_input",
            Self::OutputForbidden => "output/forbidden",
            Self::OutputNotFound => "output/not_found",
            Self::OutOfMemory => "capacity/out_of_memory",
            Self::Storage => "transient/storage",
            Self::WorkerLost => "transient/worker_lost",
            Self::Engine => "transient/engine",
            Self::DeviceLost => "device/lost",
            Self::Quarantined => "quarantine/deaths",
        }
    }

    /// What it costs the job. No `_` arm: a new type must choose.
    #[must_use]
    pub const fn consequence(self) -> Consequence {
        match self {
            Self::InputUnreadable
            | Self::InputTooLarge
            | Self::InputUnsupported
            | Self::InputNotFound
            | Self::InputForbidden
            | Self::OutputExists
            | Self::OutputIsInput
            | Self::OutputForbidden
            | Self::OutputNotFound
            | Self::Quarantined => Consequence::Final,
            Self::OutOfMemory | Self::Storage | Self::Engine => Consequence::Attempt,
            Self::WorkerLost | Self::DeviceLost => Consequence::Death,
        }
    }

    /// Whether another attempt can help.
    #[must_use]
    pub const fn retryable(self) -> bool {
        !matches!(self.consequence(), Consequence::Final)
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with a job, or with one attempt at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// The stable type.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// One sentence for a person.
    pub detail: String,
}

impl JobError {
    /// An error of `error_type`, told in `detail`.
    #[must_use]
    pub fn new(error_type: ErrorType, detail: impl Into<String>) -> Self {
        Self {
            error_type,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_the_stored_form() {
        for error_type in ErrorType::ALL {
            let json = serde_json::to_value(error_type).unwrap();
            assert_eq!(json, serde_json::json!(error_type.as_str()));
        }
    }
}
