//! Consuming with a small prefetch, and settling.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    BasicRejectOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};

use super::message::{Envelope, MessageError};
use super::publisher::publish;
use super::topology::{self, queue_name};
use super::{BrokerError, within_patience};
use crate::job::Class;

/// A message that came back so often is made anew, long before the broker gives it up.
const MAX_RETURNS: i64 = 5;

/// A connection that receives wake-ups. When [`Consumer::next`] ends or fails, connect anew.
pub struct Consumer {
    connection: Connection,
    prefetch: u16,
    /// In the order of [`Class::ALL`]; none while it pauses.
    lines: Vec<Line>,
}

/// What is consumed of one class.
struct Line {
    class: Class,
    channel: Channel,
    deliveries: lapin::Consumer,
}

/// One received message, to be settled by its receiver.
pub struct WakeUpDelivery {
    class: Class,
    channel: Channel,
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
            lines: Vec::with_capacity(Class::ALL.len()),
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
            // For what is passed on.
            channel
                .confirm_select(ConfirmSelectOptions::default())
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
            self.lines.push(Line {
                class,
                channel,
                deliveries,
            });
        }
        Ok(())
    }

    /// Takes no more messages until [`Consumer::resume`], and acknowledges `answered`: only now, so that in its
    /// line nothing came after it. What waits here unsettled goes to others.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn pause(&mut self, answered: Option<WakeUpDelivery>) -> Result<(), BrokerError> {
        for line in &self.lines {
            within_patience(line.cancel()).await?;
        }
        if let Some(answered) = answered {
            answered.ack().await?;
        }
        for line in self.lines.drain(..) {
            within_patience(line.end()).await?;
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
            for line in &mut self.lines {
                if let Poll::Ready(next) = line.deliveries.poll_next_unpin(context) {
                    return Poll::Ready(next.map(|next| line.received(next)));
                }
            }
            Poll::Pending
        });
        next.await.transpose()
    }

    /// Acknowledges `answered`, gives to others what was not settled, and closes the connection.
    pub async fn close(mut self, answered: Option<WakeUpDelivery>) {
        // Where that fails, the broker sees the connection end and gives all of it to other workers.
        let _ = self.pause(answered).await;
        // A connection that is gone already needs no closing.
        let _ =
            within_patience(async { Ok(self.connection.close(200, "worker stops".into()).await?) })
                .await;
    }
}

impl Line {
    fn received(&self, next: lapin::Result<Delivery>) -> Result<WakeUpDelivery, BrokerError> {
        Ok(WakeUpDelivery {
            class: self.class,
            channel: self.channel.clone(),
            delivery: next?,
        })
    }

    async fn cancel(&self) -> Result<(), BrokerError> {
        let tag = self.deliveries.tag();
        let options = BasicCancelOptions::default();
        Ok(self.channel.basic_cancel(tag, options).await?)
    }

    /// When it is cancelled: gives to others what came before.
    async fn end(mut self) -> Result<(), BrokerError> {
        while let Some(next) = self.deliveries.next().await {
            self.received(next)?.hand_back().await?;
        }
        Ok(self.channel.close(200, "worker is busy".into()).await?)
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
        within_patience(async {
            let acked = self.delivery.ack(BasicAckOptions::default()).await;
            Ok(acked.map(drop)?)
        })
        .await
    }

    /// To whoever is ready: back to its place in the queue, or, when it came back often, as a new message at the
    /// end. The broker counts what is returned to it, whatever the reason, as a death of a worker, and after ten
    /// of them gives the message up.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed; then the message comes again, perhaps twice, which is harmless.
    pub async fn hand_back(&self) -> Result<(), BrokerError> {
        within_patience(async {
            if self.returns() < MAX_RETURNS {
                let options = BasicNackOptions {
                    requeue: true,
                    ..Default::default()
                };
                return Ok(self.delivery.nack(options).await.map(drop)?);
            }
            let message = (self.delivery.data.clone(), self.delivery.properties.clone());
            if publish(&self.channel, vec![(self.class, message)]).await? == [true] {
                self.ack().await?;
            }
            // One that no queue took goes back where it came from with the channel.
            Ok(())
        })
        .await
    }

    /// How often the broker has had it back.
    fn returns(&self) -> i64 {
        let headers = self.delivery.properties.headers().as_ref();
        let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
        count.and_then(AMQPValue::as_long_long_int).unwrap_or(0)
    }

    /// Into the dead-letter queue.
    ///
    /// # Errors
    /// [`BrokerError`] when the connection failed.
    pub async fn park(&self) -> Result<(), BrokerError> {
        within_patience(async {
            let options = BasicRejectOptions { requeue: false };
            Ok(self.delivery.reject(options).await.map(drop)?)
        })
        .await
    }
}
