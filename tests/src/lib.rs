//! The harness of the end-to-end stories: a private world for each, made of real processes.
//!
//! One PostgreSQL, one RabbitMQ and one S3 server serve a whole run (`make test` starts them and says
//! where they are in the environment); each story has a database, a virtual host and a bucket of its
//! own on them, and its own coordinators and workers. Stories wait for conditions with a deadline,
//! never for a fixed time.

pub mod chaos;
pub mod history;
mod pictures;
mod process;
mod proxy;
mod receiver;
mod services;
mod store;
mod world;

pub use pictures::{book, deep_grain, grain, photo};
pub use process::{Process, program_path};
pub use proxy::{Fault, Proxy};
pub use receiver::{Message, Receiver};
pub use services::{OwnBroker, OwnPostgres, story_folder, tool};
pub use store::Store;
pub use world::{DEADLINE, FakeWorker, World, WorldOptions, until};
