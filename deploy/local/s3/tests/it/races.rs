//! Many writers, one name.

use tokio::task::JoinSet;

use crate::harness::{BUCKET, Server, refusal};

const RACERS: u8 = 16;

/// Longer than one piece on the way in, so that racers are all still writing when the first ends.
fn body(racer: u8) -> Vec<u8> {
    vec![racer; 200_000]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_conditional_puts_one_wins_and_its_bytes_stay() {
    let server = Server::start().await;
    for round in 0..10 {
        let key = format!("round-{round}");
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let put = server
                .client
                .put_object()
                .bucket(BUCKET)
                .key(&key)
                .if_none_match("*");
            let put = put.body(body(racer).into());
            racers.spawn(async move {
                (
                    racer,
                    put.send().await.map_err(|it| it.into_service_error()),
                )
            });
        }
        let outcomes = racers.join_all().await;
        let winners: Vec<u8> = outcomes
            .iter()
            .filter(|(_, put)| put.is_ok())
            .map(|(racer, _)| *racer)
            .collect();
        assert_eq!(winners.len(), 1, "winners {winners:?}");
        for (_, lost) in outcomes.iter().filter(|(_, put)| put.is_err()) {
            assert!(
                format!("{lost:?}").contains("PreconditionFailed"),
                "{lost:?}"
            );
        }
        assert!(server.get(&key).await == body(winners[0]));
    }
    assert_eq!(server.drafts(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn plain_puts_that_race_leave_one_of_them_whole() {
    let server = Server::start().await;
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let put = server
            .client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(body(racer).into());
        racers.spawn(async move { put.send().await.unwrap() });
    }
    while !racers.is_empty() {
        racers.join_next().await;
        // The client holds what it reads against the checksum that came with it.
        let seen = server.get("k").await;
        assert!(seen == body(seen[0]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_swaps_of_one_version_one_wins() {
    let server = Server::start().await;
    let etag = server.put("k", b"old").await;
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let put = server
            .client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .if_match(&etag);
        let put = put.body(body(racer).into());
        racers.spawn(async move { put.send().await.is_ok() });
    }
    let wins = racers
        .join_all()
        .await
        .into_iter()
        .filter(|won| *won)
        .count();
    assert_eq!(wins, 1);
    let none = server
        .client
        .put_object()
        .bucket(BUCKET)
        .key("none")
        .if_match(&etag)
        .send();
    assert_eq!(refusal(none).await, (404, "NoSuchKey".into()));
}
