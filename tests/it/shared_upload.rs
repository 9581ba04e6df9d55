//! An upload that outlives its attempt belongs to the job: no attempt that is superseded, or that cannot go
//! on with it, gives it up under the hands of the one that does.

use journey_tests::{DEADLINE, FakeWorker, Fault, Proxy, World, grain, until};

use crate::resume::{DRAIN, TILE_MS, more_parts_than, submit};

const SLOW: FakeWorker = FakeWorker {
    tiles: 0,
    tile_ms: TILE_MS,
    fail_first: 0,
    identity: true,
    foreign: false,
    fails_when_told: false,
};
const QUICK: FakeWorker = FakeWorker { tile_ms: 0, ..SLOW };

/// A world in which a drained worker left some parts of a job that may fail once at most.
async fn handed_back(story: &str) -> anyhow::Result<(World, String)> {
    let mut world = World::plain(story).await?;
    world.store.put("in/grain.png", grain(512, 1600)).await?;
    let mut first = world.start_fake_worker(SLOW).await?;
    let id = submit(&world, "out/shared.png", "png").await?;
    more_parts_than(0, &world, &id).await?;
    assert!(first.terminate(DRAIN).await?.success());
    world.wait_for(&id, &["queued"]).await?;
    Ok((world, id))
}

async fn no_upload_is_left(world: &World) -> anyhow::Result<()> {
    until("no upload is left", DEADLINE, async || {
        Ok(world.store.open_uploads().await? == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_attempt_that_fails_leaves_its_upload_to_the_next() -> anyhow::Result<()> {
    let mut world = World::plain("superseded_failure").await?;
    world.store.put("in/grain.png", grain(512, 1600)).await?;
    let host = world.url(0).trim_start_matches("http://").to_owned();
    let link = Proxy::start(&[&host]).await?;
    let cut_off = FakeWorker {
        tile_ms: 4 * TILE_MS,
        fails_when_told: true,
        ..SLOW
    };
    let url = format!("http://{}", link.address());
    let first = world.start_fake_worker_through(&url, cut_off).await?;
    let id = submit(&world, "out/shared.png", "png").await?;
    more_parts_than(0, &world, &id).await?;
    link.set(Fault::BlackHole);

    let second = world.start_fake_worker(SLOW).await?;
    until("the second goes on", DEADLINE, async || {
        Ok(second.log().contains("attempt goes on"))
    })
    .await?;
    world.let_engines_fail()?;
    until("the first fails", DEADLINE, async || {
        Ok(first.log().contains("attempt failed"))
    })
    .await?;
    assert_eq!(
        world.job(&id).await?["state"],
        "running",
        "too late to harm"
    );

    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempt"], 2);
    link.set(Fault::Pass);
    no_upload_is_left(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_cannot_go_on_leaves_what_there_is_until_it_has_better()
-> anyhow::Result<()> {
    let (mut world, id) = handed_back("foreign_dies").await?;
    let foreign = FakeWorker {
        foreign: true,
        ..SLOW
    };
    let mut second = world.start_fake_worker(foreign).await?;
    until("the second is at work", DEADLINE, async || {
        let job = world.job(&id).await?;
        Ok(job["attempt"] == 2 && job["progress"]["tiles"].as_u64() > Some(0))
    })
    .await?;
    second.kill();

    let third = world.start_fake_worker(QUICK).await?;
    let job = world.succeeds(&id).await?;
    assert_eq!(job["attempt"], 3);
    assert!(third.log().contains("attempt goes on"), "{}", third.log());
    no_upload_is_left(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_began_anew_clears_up_what_it_could_not_use() -> anyhow::Result<()> {
    let (mut world, id) = handed_back("foreign_succeeds").await?;
    let foreign = FakeWorker {
        foreign: true,
        ..QUICK
    };
    let _second = world.start_fake_worker(foreign).await?;
    world.succeeds(&id).await?;
    no_upload_is_left(&world).await
}
