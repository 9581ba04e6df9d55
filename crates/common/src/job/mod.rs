//! A job: the request, its settings, its life and its errors.
//!
//! The request and its validation are in [`request`] and [`spec`], the life in [`state`] (one door:
//! [`JobState::apply`]), the stable error types in [`error`], what it costs in [`tile_steps`].

mod cost;
pub mod error;
pub mod file_options;
mod id;
pub mod pages;
pub mod request;
pub mod spec;
pub mod state;
mod upscale_request;
pub mod view;

pub use cost::tile_steps;
pub use error::{Consequence, ErrorType, JobError};
pub use id::JobId;
pub use pages::Pages;
pub use request::{Class, IfExists, JobRequest};
pub use spec::UpscaleSpec;
pub use state::{JobEvent, JobState};
