//! Publishing with confirms.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

use super::message::Envelope;
use super::topology::{self, EXCHANGE, queue_name};
use super::{BrokerError, within_patience};
use crate::job::Class;

/// A connection that publishes wake-ups. On any error drop it and connect anew.
pub struct Publisher {
    /// Closes when dropped.
    _connection: Connection,
    channel: Channel,
}

impl Publisher {
    /// Connects and declares the topology.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub async fn connect(uri: &str) -> Result<Self, BrokerError> {
        within_patience(Self::connect_and_declare(uri)).await
    }

    async fn connect_and_declare(uri: &str) -> Result<Self, BrokerError> {
        let name = ConnectionProperties::default().with_connection_name("upres-coordinator".into());
        let connection = Connection::connect(uri, name).await?;
        let channel = connection.create_channel().await?;
        topology::declare(&channel).await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            _connection: connection,
            channel,
        })
    }

    /// Publishes all, then waits for the broker's confirms: one round trip for the whole list.
    /// Returns for each whether it is safely in its queue. A message that no queue took (somebody
    /// deleted it) comes back unconfirmed, and the topology is declared again.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed; what was not yet confirmed counts as not sent.
    pub async fn publish(&self, envelopes: &[Envelope]) -> Result<Vec<bool>, BrokerError> {
        within_patience(self.publish_and_confirm(envelopes)).await
    }

    async fn publish_and_confirm(&self, envelopes: &[Envelope]) -> Result<Vec<bool>, BrokerError> {
        // Mandatory: an unroutable message is returned instead of being confirmed and dropped.
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let mut pending = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let (payload, properties) = envelope.to_message();
            let key = envelope.wake_up.class.as_str();
            pending.push(
                self.channel
                    .basic_publish(EXCHANGE.into(), key.into(), options, &payload, properties)
                    .await?,
            );
        }
        let mut confirmed = Vec::with_capacity(pending.len());
        for confirm in pending {
            let confirmation = confirm.await?;
            confirmed.push(confirmation.is_ack() && confirmation.take_message().is_none());
        }
        if confirmed.contains(&false) {
            topology::declare(&self.channel).await?;
        }
        Ok(confirmed)
    }

    /// How many wake-ups of `class` wait in the broker, not counting those already delivered.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed or the queue is gone.
    pub async fn depth(&self, class: Class) -> Result<u32, BrokerError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let arguments = FieldTable::default();
        within_patience(async {
            let queue = self
                .channel
                .queue_declare(queue_name(class).into(), passive, arguments);
            Ok(queue.await?.message_count())
        })
        .await
    }
}
