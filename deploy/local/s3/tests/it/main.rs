//! The server as the AWS SDK sees it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod harness;
mod listing;
mod multipart;
mod objects;
mod races;
mod reading;
