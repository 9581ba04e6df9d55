//! The shared vocabulary of upres, and the shores that both programs touch.
//!
//! Owns what the coordinator and the worker must agree on: the [`job`] and its state machine, the
//! [`lease`] API, the [`broker`]'s topology and messages, the [`objects`] store, the
//! [`sidecar`] of a result and [`telemetry`].
//! Refuses everything that only one program needs: SQL lives in the coordinator, pixels in `invsr`
//! and `imaging`.

pub mod batch;
pub mod broker;
pub mod config;
pub mod job;
pub mod lease;
pub mod objects;
pub mod sidecar;
pub mod telemetry;
