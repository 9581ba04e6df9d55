//! RabbitMQ carries wake-ups, nothing else: Postgres is the truth, so a lost message is re-sent and a
//! duplicate is harmless.

mod consumer;
mod message;
mod publisher;
mod topology;

pub use consumer::{Consumer, WakeUpDelivery};
pub use message::{Envelope, MessageError, WakeUp};
pub use publisher::Publisher;
pub use topology::{DEAD_QUEUE, EXCHANGE, queue_name};

/// The broker, or the connection to it, failed. Whoever sees this connects anew.
#[derive(Debug, thiserror::Error)]
#[error("broker: {0}")]
pub struct BrokerError(#[from] lapin::Error);
