//! The object store: addresses, and the few operations that the programs need.

mod address;
mod aside;
mod client;
mod error;
mod piece;

pub use address::{
    AddressError, ObjectUri, UriPrefix, hand_over_address, hand_over_folder, hand_over_job,
    upload_address,
};
pub use aside::{FoundObject, Listed, ObjectPage};
pub use client::{
    Completion, Fetched, ObjectInfo, ObjectStore, OpenUpload, Ownership, S3Args, sha256_base64,
    sha256_hex,
};
pub use error::ObjectError;
pub use piece::Piece;
