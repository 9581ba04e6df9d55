//! A wake-up that goes from hand to hand, because the workers that hold it are busy, is not taken for one that
//! kills workers.

use anyhow::Context;
use journey_tests::{DEADLINE, World, until};
use upres_common::broker::{Consumer, Envelope, Publisher, WakeUp};
use upres_common::job::{Class, JobId};

/// More than the broker lets a message come back.
const HANDS: usize = 12;

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
        consumer.pause().await?;
        waiting(1).await?;
        consumer.resume().await?;
    }
    for _ in 0..HANDS {
        let delivery = consumer.next().await?.context("the consumer ended")?;
        assert_eq!(delivery.envelope()?, sent);
        delivery.pass_on().await?;
    }
    // A worker that ends passes it on, too.
    for n in 0..HANDS {
        waiting(0).await?;
        consumer.close().await;
        waiting(1).await?;
        consumer = Consumer::connect(world.amqp_url(), &format!("ends {n}"), 1).await?;
    }
    let delivery = consumer.next().await?.context("the consumer ended")?;
    assert_eq!(delivery.envelope()?, sent);
    delivery.ack().await?;
    waiting(0).await?;
    assert!(publisher.bury().await?.is_none(), "given up by the broker");
    Ok(())
}
