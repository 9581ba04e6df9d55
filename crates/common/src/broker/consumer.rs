//! Consuming with a small prefetch, and settling.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};

use super::message::{Envelope, MessageError};
use super::topology::{self, queue_name};
use super::{BrokerError, within_patience};
use crate::job::Class;

/// A connection that receives wake-ups. When [`Consumer::next`] ends or fails, connect anew.
pub struct Consumer {
    connection: Connection,
    prefetch: u16,
    /// In the order of [`Class::ALL`]; none while it pauses.
    consuming: Vec<(Channel, lapin::Consumer)>,
}

/// One received message, to be settled by its receiver.
pub struct WakeUpDelivery {
    delivery: Delivery,
}

impl Consumer {
    /// Connects, declares the topology and consumes both classes, `prefetch` messages each. A
    /// consumer per class, because quorum queues know no limit across consumers.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker cannot be reached or refuses.
    pub async fn connect(uri: &str, worker_id: &str, prefetch: u16) -> Result<Self, BrokerError> {
        within_patience(Self::connect_and_consume(uri, worker_id, prefetch)).await
    }

    async fn connect_and_consume(
        uri: &str,
        worker_id: &str,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let name = ConnectionProperties::default()
            .with_connection_name(format!("upres-worker {worker_id}").into());
        let connection = Connection::connect(uri, name).await?;
        let mut consumer = Self {
            connection,
            prefetch,
            consuming: Vec::with_capacity(Class::ALL.len()),
        };
        consumer.consume().await?;
        Ok(consumer)
    }

    async fn consume(&mut self) -> Result<(), BrokerError> {
        for class in Class::ALL {
            let channel = self.connection.create_channel().await?;
            topology::declare(&channel).await?;
            channel
                .basic_qos(self.prefetch, BasicQosOptions::default())
                .await?;
            // A tag of this connection alone, made by the broker: after a crash a quorum queue may
            // still know the consumer of the connection before, and wait for it.
            let tag = "";
            let deliveries = channel.basic_consume(
                queue_name(class).into(),
                tag.into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            let deliveries = deliveries.await?;
            self.consuming.push((channel, deliveries));
        }
        Ok(())
    }

    /// Takes no more messages until [`Consumer::resume`]; those that wait here unsettled go to others.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn pause(&mut self) -> Result<(), BrokerError> {
        for (channel, _) in self.consuming.drain(..) {
            within_patience(async {
                // With its channel a consumer's unsettled messages go back into the queue.
                Ok(channel.close(200, "worker is busy".into()).await?)
            })
            .await?;
        }
        Ok(())
    }

    /// Takes messages again.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn resume(&mut self) -> Result<(), BrokerError> {
        within_patience(self.consume()).await
    }

    /// The next message, interactive before bulk; `None` when the broker closed the connection or cancelled
    /// a consumer.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn next(&mut self) -> Result<Option<WakeUpDelivery>, BrokerError> {
        // Asked in order each time: whoever waits for an interactive job does not wait for a turn.
        let next = poll_fn(|context| {
            let classes = self.consuming.iter_mut();
            let ready = classes
                .map(|(_, deliveries)| deliveries.poll_next_unpin(context))
                .find_map(|polled| match polled {
                    Poll::Ready(delivery) => Some(delivery),
                    Poll::Pending => None,
                });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        match next.await {
            Some(delivery) => Ok(Some(WakeUpDelivery {
                delivery: delivery?,
            })),
            None => Ok(None),
        }
    }

    /// Closes the connection; whatever was not settled goes to another worker.
    pub async fn close(self) {
        // A connection that is gone already needs no closing.
        let _ = self.connection.close(200, "worker stops".into()).await;
    }
}

impl WakeUpDelivery {
    /// Reads the message.
    ///
    /// # Errors
    /// [`MessageError`] when it is no wake-up of a known version.
    pub fn envelope(&self) -> Result<Envelope, MessageError> {
        Envelope::from_message(&self.delivery.data, &self.delivery.properties)
    }

    /// Done with it.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed; the message will come again, which is harmless.
    pub async fn ack(&self) -> Result<(), BrokerError> {
        self.delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    /// Back into the queue, for whoever is ready.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn put_back(&self) -> Result<(), BrokerError> {
        self.delivery
            .nack(BasicNackOptions {
                requeue: true,
                ..Default::default()
            })
            .await?;
        Ok(())
    }

    /// Into the dead-letter queue.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn park(&self) -> Result<(), BrokerError> {
        self.delivery
            .reject(BasicRejectOptions { requeue: false })
            .await?;
        Ok(())
    }
}
