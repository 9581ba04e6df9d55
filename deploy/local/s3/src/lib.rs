//! An S3 server small enough to start with a test and honest enough to test against: real signatures,
//! conditional writes that hold under races, objects that appear whole or not at all.
//!
//! What an object is made of lies in one file, data and metadata together, which is written under a
//! temporary name and then given its own. So no reader ever sees one object's data with another's
//! checksum, and a server that is killed leaves only files that the next start sweeps away.
//!
//! It survives the end of its process, not that of the machine: nothing is synced to the disk. It keeps
//! no versions, no tags, no permissions; there is one user, who may do everything.

mod api;
mod checksums;
mod draft;
mod listing;
mod names;
mod object;
mod server;
mod store;
mod uploads;

pub use server::{Credentials, serve};
pub use store::{Store, StoreError};
