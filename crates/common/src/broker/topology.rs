//! The one table of names on the broker. Both programs declare from here, so that whichever starts
//! first, and whoever finds a queue deleted, makes the same thing.
//!
//! Only durable quorum queues with an explicit positive delivery limit: a limit of -1 means
//! "unlimited" to RabbitMQ 4 but makes 3.10 drop a message at its first return. One queue a class,
//! because priorities inside a quorum queue differ between broker versions. Arguments must stay
//! the same for ever: a redeclaration with others is refused.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::BrokerError;
use crate::job::Class;

/// Wake-ups go in here, with the class as routing key.
pub const EXCHANGE: &str = "upres.wake";
/// Where messages go that nobody could handle.
pub const DEAD_QUEUE: &str = "upres.dead";
const DEAD_EXCHANGE: &str = "upres.dead";
/// A wake-up comes back when a worker dies between delivery and claim. Ten such deaths are a
/// pattern; the sweeper makes a fresh message for a job that still waits.
const DELIVERY_LIMIT: i32 = 10;

/// The queue of a class.
#[must_use]
pub fn queue_name(class: Class) -> &'static str {
    match class {
        Class::Interactive => "upres.wake.interactive",
        Class::Bulk => "upres.wake.bulk",
    }
}

/// Declares everything; harmless when it is there.
pub(super) async fn declare(channel: &Channel) -> Result<(), BrokerError> {
    let durable_exchange = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    for (exchange, kind) in [
        (EXCHANGE, ExchangeKind::Direct),
        (DEAD_EXCHANGE, ExchangeKind::Fanout),
    ] {
        channel
            .exchange_declare(
                exchange.into(),
                kind,
                durable_exchange,
                FieldTable::default(),
            )
            .await?;
    }
    declare_queue(channel, DEAD_QUEUE, quorum()).await?;
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(
            DEAD_QUEUE.into(),
            DEAD_EXCHANGE.into(),
            "".into(),
            bind,
            FieldTable::default(),
        )
        .await?;
    for class in Class::ALL {
        let mut arguments = quorum();
        arguments.insert(
            "x-delivery-limit".into(),
            AMQPValue::LongInt(DELIVERY_LIMIT),
        );
        arguments.insert(
            "x-dead-letter-exchange".into(),
            AMQPValue::LongString(DEAD_EXCHANGE.into()),
        );
        declare_queue(channel, queue_name(class), arguments).await?;
        channel
            .queue_bind(
                queue_name(class).into(),
                EXCHANGE.into(),
                class.as_str().into(),
                bind,
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments
}

async fn declare_queue(
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare(name.into(), durable, arguments)
        .await?;
    Ok(())
}
