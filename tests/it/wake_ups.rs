//! A wake-up that goes from hand to hand, because the workers that hold it are busy, is not taken for one that
//! kills workers.

use anyhow::Context;
use journey_tests::{DEADLINE, World, until};
use upres_common::broker::{Consumer, Envelope, Publisher, WakeUp};
use upres_common::job::{Class, JobId};

/// More than the broker lets a message come back.
const HANDS: usize = 12;

/// Jobs that follow one another, each longer than a busy worker's patience, while new ones come: nobody is
/// overtaken.
#[tokio::test(flavor = "multi_thread")]
async fn wake_ups_come_in_their_order_although_the_worker_is_busy() -> anyhow::Result<()> {
    let world = World::plain("wake_up_order").await?;
    let publisher = Publisher::connect(world.amqp_url()).await?;
    let mut sent = Vec::new();
    let mut send = async || -> anyhow::Result<()> {
        let envelope = Envelope {
            wake_up: WakeUp::new(JobId::fresh(), 1, Class::Bulk, 1),
            traceparent: None,
        };
        assert_eq!(
            publisher.publish(std::slice::from_ref(&envelope)).await?,
            [true]
        );
        sent.push(envelope);
        Ok(())
    };
    for _ in 0..4 {
        send().await?;
    }
    let mut consumer = Consumer::connect(world.amqp_url(), "busy", 1).await?;
    let mut received = Vec::new();
    for _ in 0..20 {
        let answered = consumer.next().await?.context("the consumer ended")?;
        received.push(answered.envelope()?);
        // Its claim has made room for another.
        send().await?;
        consumer.pause(Some(answered)).await?;
        consumer.resume().await?;
    }
    assert_eq!(received, sent[..20]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_that_is_passed_on_often_is_still_there() -> anyhow::Result<()> {
    let world = World::plain("wake_ups").await?;
    let publisher = Publisher::connect(world.amqp_url()).await?;
    // Of no job that is known, so that nobody sends it again.
    let wake_up = WakeUp::new(JobId::fresh(), 1, Class::Bulk, 1);
    let sent = Envelope {
        wake_up,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    };
    assert_eq!(
        publisher.publish(std::slice::from_ref(&sent)).await?,
        [true]
    );
    let waiting = async |number: u32| {
        until(&format!("{number} wait"), DEADLINE, async || {
            Ok(publisher.depth(Class::Bulk).await? == number)
        })
        .await
    };
    let mut consumer = Consumer::connect(world.amqp_url(), "busy", 1).await?;
    for _ in 0..HANDS {
        // It lies here unread, and the worker grows busy.
        waiting(0).await?;
        consumer.pause(None).await?;
        waiting(1).await?;
        consumer.resume().await?;
    }
    for _ in 0..HANDS {
        let delivery = consumer.next().await?.context("the consumer ended")?;
        assert_eq!(delivery.envelope()?, sent);
        delivery.hand_back().await?;
    }
    // A worker that ends passes it on, too.
    for n in 0..HANDS {
        waiting(0).await?;
        consumer.close(None).await;
        waiting(1).await?;
        consumer = Consumer::connect(world.amqp_url(), &format!("ends {n}"), 1).await?;
    }
    let delivery = consumer.next().await?.context("the consumer ended")?;
    assert_eq!(delivery.envelope()?, sent);
    delivery.ack().await?;
    waiting(0).await?;
    assert_eq!(publisher.bury(1).await?, [], "given up by the broker");
    Ok(())
}
