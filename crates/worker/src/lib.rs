//! The worker: takes jobs through the engine. Holds no database password.
//!
//! A job passes through `pull` (woken, lease claimed), `process` (fetch, decode, upscale), `write_back`
//! (encode, to an upload that nobody can see yet) and `report`; meanwhile `lease` keeps the claim.
//! `sidecar` is the record of an attempt; `spec` says in the words of engine and files what a job asks for.
//! `engine` is the one thread that owns the device; `rows` go in and come out of it. `bench` measures the
//! engine alone.

mod ahead;
pub mod bench;
pub mod cli;
mod clock;
mod compare;
pub mod config;
mod coordinator;
mod digest;
pub mod engine;
mod failure;
mod hand_over;
mod lease;
mod opened;
mod process;
mod pull;
mod report;
mod room;
mod rows;
mod sidecar;
mod spec;
mod write_back;

pub use pull::run;
pub use room::Room;
