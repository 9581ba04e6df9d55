//! RabbitMQ carries wake-ups, nothing else: Postgres is the truth, so a lost message is re-sent and a
//! duplicate is harmless.

mod consumer;
mod message;
mod publisher;
mod topology;

pub use consumer::{Consumer, WakeUpDelivery};
pub use message::{Envelope, MessageError, WakeUp};
pub use publisher::{Dead, Publisher};
pub use topology::{DEAD_QUEUE, EXCHANGE, queue_name};

use std::time::Duration;

/// A broker that takes longer for one exchange hangs, or cannot be reached: connecting anew is
/// better than waiting. A node that recovers its queues after a crash can be in that state.
const PATIENCE: Duration = Duration::from_secs(10);

/// The broker, or the connection to it, failed. Whoever sees this connects anew.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It said so, or the connection broke.
    #[error("broker")]
    Failed(#[from] lapin::Error),
    /// It said nothing.
    #[error(
        "the broker did not answer in time; if this goes on, a queue may have lost its leader: delete the upres.* queues, they are made anew and every wake-up is sent again"
    )]
    Silent,
}

/// Waits for one exchange with the broker, but not for ever.
async fn within_patience<T>(
    exchange: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or(Err(BrokerError::Silent))
}
