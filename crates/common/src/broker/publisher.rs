//! Publishing with confirms.

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::message::Envelope;
use super::topology::{self, DEAD_QUEUE, EXCHANGE, queue_name};
use super::{BrokerError, within_patience};
use crate::job::Class;

/// A message that nobody could handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Why the broker gave it up: `delivery_limit` or `rejected`.
    pub reason: String,
    /// The beginning of what it says.
    pub text: String,
}

/// Publishes all on a channel that confirms. Returns for each whether it is safely in its queue.
pub(super) async fn publish(
    channel: &Channel,
    messages: Vec<(Class, (Vec<u8>, BasicProperties))>,
) -> Result<Vec<bool>, BrokerError> {
    // Mandatory: an unroutable message is returned instead of being confirmed and dropped.
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let mut pending = Vec::with_capacity(messages.len());
    for (class, (payload, properties)) in messages {
        let key = class.as_str().into();
        let sent = channel.basic_publish(EXCHANGE.into(), key, options, &payload, properties);
        pending.push(sent.await?);
    }
    let mut confirmed = Vec::with_capacity(pending.len());
    for confirm in pending {
        let confirmation = confirm.await?;
        confirmed.push(confirmation.is_ack() && confirmation.take_message().is_none());
    }
    Ok(confirmed)
}

/// A connection that publishes wake-ups. On any error drop it and connect anew.
pub struct Publisher {
    /// Closes when dropped.
    connection: Connection,
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
            connection,
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
        let messages = envelopes
            .iter()
            .map(|envelope| (envelope.wake_up.class, envelope.to_message()))
            .collect();
        let confirmed = publish(&self.channel, messages).await?;
        if confirmed.contains(&false) {
            topology::declare(&self.channel).await?;
        }
        Ok(confirmed)
    }

    /// Takes up to `limit` messages that nobody could handle out of the queue of the dead. Over a channel of its
    /// own: what goes wrong there ends no other.
    ///
    /// # Errors
    /// [`BrokerError`]; what was taken is back then, or gone.
    pub async fn bury(&self, limit: usize) -> Result<Vec<Dead>, BrokerError> {
        within_patience(async {
            let channel = self.connection.create_channel().await?;
            let mut dead = Vec::new();
            while dead.len() < limit {
                let queue = DEAD_QUEUE.into();
                let got = channel.basic_get(queue, BasicGetOptions::default());
                let Some(got) = got.await? else { break };
                got.delivery.ack(BasicAckOptions::default()).await?;
                dead.push(Dead::new(&got.delivery.data, &got.delivery.properties));
            }
            channel.close(200, "done".into()).await?;
            Ok(dead)
        })
        .await
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

impl Dead {
    /// What is shown of a message that may be anything.
    const SHOWN: usize = 300;

    fn new(payload: &[u8], properties: &BasicProperties) -> Self {
        let headers = properties.headers().as_ref().map(FieldTable::inner);
        let reason = match headers.and_then(|headers| headers.get("x-first-death-reason")) {
            Some(AMQPValue::LongString(reason)) => reason.to_string(),
            _ => "unknown".to_owned(),
        };
        let shown = &payload[..payload.len().min(Self::SHOWN)];
        Self {
            reason,
            text: String::from_utf8_lossy(shown).into_owned(),
        }
    }
}
