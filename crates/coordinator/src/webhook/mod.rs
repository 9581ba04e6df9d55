//! Webhooks: tells the owners of jobs that asked for it, by the Standard Webhooks specification.
//!
//! What is to be told is a row, written in the transaction that ends the job (`store::webhooks`). Here
//! rows that are due are taken, signed, sent and crossed off. A crash in between sends a message again,
//! under the same `webhook-id`. Receivers are chosen by clients, so [`target`] sees to it that nobody but
//! the public internet is called. One slow receiver holds up only its tenant's share.

mod deliver;
mod sign;
pub mod target;

pub use deliver::{Courier, run};
pub use sign::Secret;
