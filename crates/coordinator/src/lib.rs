//! The coordinator: takes jobs in, sends them out, watches over them, answers for them.
//!
//! Owns the database. A job passes through `submit`, `dispatch`, `lease` and `publish`, and `reap`
//! picks up what was dropped on the way; `api` is the HTTP edge of all of them, `store` holds all SQL.

pub mod accept;
pub mod api;
pub mod appraise;
pub mod auth;
pub mod batch;
pub mod changes;
pub mod cli;
pub mod config;
pub mod courtesy;
pub mod dispatch;
pub mod estimate;
mod explain;
pub mod fail;
pub mod group;
pub mod janitor;
pub mod key_cache;
pub mod lease;
pub mod limits;
mod metrics;
pub mod price;
pub mod publish;
pub mod reap;
mod serve;
pub mod store;
pub mod submit;
pub mod webhook;
