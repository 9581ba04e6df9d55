//! Submissions, the outbox, and how much is let out of it.

use sqlx::PgPool;
use upres_common::job::{Class, ErrorType, JobError, JobId, JobRequest};
use upres_coordinator::accept::accept;
use upres_coordinator::fail::{Failed, fail};
use upres_coordinator::store::outbox::Allowance;
use upres_coordinator::store::submissions::{NewJob, NewKey};
use upres_coordinator::store::{idempotency, listing, outbox};
use upres_coordinator::submit::{SubmitError, Submitted};

use super::{TTL_SECS, at_once, begin, claim, submit, submit_at, take};

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn two_relays_share_the_outbox_the_urgent_first(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut ids = Vec::new();
    for priority in [0, 5, -5, 5] {
        ids.push(submit(&mut conn, |job| job.priority = priority).await);
    }
    submit(&mut conn, |job| job.class = Class::Bulk).await;
    let mut tx_a = pool.begin().await.unwrap();
    let mut tx_b = pool.begin().await.unwrap();
    let first = take(&mut tx_a, 3).await.unwrap();
    // While the first is at it, another gets none of the same.
    assert!(take(&mut tx_b, 3).await.unwrap().is_empty());
    tx_a.commit().await.unwrap();
    let second = take(&mut tx_b, 3).await.unwrap();
    tx_b.commit().await.unwrap();
    let order: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|row| row.envelope.wake_up.job_id)
        .collect();
    assert_eq!(order, [ids[1], ids[3], ids[0], ids[2]]);
    assert!(take(&mut conn, 3).await.unwrap().is_empty());

    let sent: Vec<_> = first.iter().map(|row| row.outbox_id).collect();
    outbox::mark_sent(&mut conn, &sent).await.unwrap();
    outbox::give_back(&mut conn, &[second[0].outbox_id])
        .await
        .unwrap();
    assert_eq!(
        outbox::count_sent(&mut conn, Class::Interactive)
            .await
            .unwrap(),
        3
    );
    assert_eq!(take(&mut conn, 3).await.unwrap().len(), 1);
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(
        outbox::resend(&mut conn, Class::Interactive, hour, 9)
            .await
            .unwrap(),
        0
    );
    let now = std::time::Duration::ZERO;
    assert_eq!(
        outbox::resend(&mut conn, Class::Interactive, now, 2)
            .await
            .unwrap(),
        2
    );
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn submissions_that_arrive_together_are_judged_apart(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    submit(&mut conn, |_| {}).await;
    let new = |output: &str, key: Option<(&str, u8)>| {
        let request = JobRequest::new("s3://masters/2.tif", output);
        NewJob {
            id: JobId::fresh(),
            tenant: "tenant".to_owned(),
            job: request.validate().unwrap(),
            cost: 3,
            traceparent: None,
            key: key.map(|(key, digest)| NewKey {
                key: key.to_owned(),
                request_sha256: vec![digest],
            }),
        }
    };
    let jobs = [
        new("s3://derivatives/a.tif", Some(("k", 1))),
        new("s3://derivatives/b.tif", Some(("k", 1))),
        new("s3://masters/1.tif", None),
        new("s3://derivatives/c.tif", None),
    ];
    let answers = accept(&mut conn, &jobs).await.unwrap();
    let first = jobs[0].id;
    assert!(matches!(&answers[0], Ok(Submitted::Fresh(job)) if job.id == first));
    assert!(matches!(&answers[1], Err(SubmitError::KeyBusy)));
    assert!(matches!(&answers[2], Err(SubmitError::Conflict(_))));
    assert!(matches!(&answers[3], Ok(Submitted::Fresh(job)) if job.cost == Some(3)));

    // Another session has the key: the answer of its request is not known yet.
    let mut tx = pool.begin().await.unwrap();
    let held = (["tenant".to_owned()], ["held".to_owned()]);
    let busy = idempotency::lock(&mut tx, &held.0, &held.1).await.unwrap();
    assert!(busy.is_empty());
    let again = [
        new("s3://derivatives/a.tif", Some(("k", 1))),
        new("s3://derivatives/a.tif", Some(("held", 1))),
    ];
    let answers = accept(&mut conn, &again).await.unwrap();
    assert!(matches!(&answers[0], Ok(Submitted::Earlier(id)) if *id == first));
    assert!(matches!(&answers[1], Err(SubmitError::KeyBusy)));
    let other = [new("s3://derivatives/d.tif", Some(("k", 2)))];
    let answers = accept(&mut conn, &other).await.unwrap();
    assert!(matches!(&answers[0], Err(SubmitError::KeyReused)));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn what_is_released_is_bounded_in_tile_steps(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let mut ids = Vec::new();
    for (cost, priority) in [(50, 5), (30, 4), (30, 3), (500, 2), (1, 1)] {
        ids.push(submit_at(&mut conn, cost, |job| job.priority = priority).await);
    }
    let allowance = |tile_steps, jobs_at_least| Allowance {
        jobs: 4,
        tile_steps,
        jobs_at_least,
        of_a_tenant: None,
    };
    let mut release = async |allowance| {
        let taken = outbox::take(&mut conn, Class::Interactive, 100, allowance);
        let taken = taken.await.unwrap();
        let sent: Vec<i64> = taken.rows.iter().map(|row| row.outbox_id).collect();
        outbox::mark_sent(&mut conn, &sent).await.unwrap();
        let costs = taken.rows.iter().map(|row| row.envelope.wake_up.cost);
        (costs.collect::<Vec<_>>(), taken.held_back)
    };
    // In their order: a small job does not overtake one that has to wait for room.
    assert_eq!(release(allowance(100, 1)).await, (vec![50, 30], true));
    assert_eq!(release(allowance(100, 1)).await, (vec![], true));
    assert_eq!(release(allowance(0, 3)).await, (vec![30], true));
    // Two are claimed: that makes room, but not for one that is larger than all the room.
    claim(&pool, "worker", &ids[..2], TTL_SECS).await.unwrap();
    assert_eq!(release(allowance(100, 1)).await, (vec![], true));
    // With nothing else out it goes all the same.
    claim(&pool, "worker", &ids[2..3], TTL_SECS).await.unwrap();
    assert_eq!(release(allowance(100, 1)).await, (vec![500], true));
    // Jobs are counted, too.
    assert_eq!(release(allowance(1000, 1)).await, (vec![1], false));
    let mut other = pool.acquire().await.unwrap();
    for _ in 0..3 {
        submit_at(&mut other, 1, |_| {}).await;
    }
    assert_eq!(release(allowance(1000, 1)).await, (vec![1, 1], true));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn the_pace_is_that_of_the_jobs_that_succeeded(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(listing::pace(&mut conn).await.unwrap(), None);
    for _ in 0..2 {
        let id = submit_at(&mut conn, 300, |_| {}).await;
        let lease = begin(&pool, id).await;
        let error = JobError::new(ErrorType::InputUnreadable, "no image");
        fail(&pool, lease, &Failed::reported(error), &at_once())
            .await
            .unwrap();
    }
    assert_eq!(
        listing::pace(&mut conn).await.unwrap(),
        None,
        "they failed at once"
    );
    for seconds_ago in [20, 60] {
        let id = submit_at(&mut conn, 300, |_| {}).await;
        begin(&pool, id).await;
        for ended in [
            // Its first attempt was lost hours ago.
            "update jobs set state = 'succeeded', result = '{}', cost = 300, lease_token = null, \
                lease_until = null, finished_at = now() - make_interval(secs => $2), \
                started_at = now() - interval '8 hours' where job_id = $1",
            "update attempts set outcome = 'succeeded', ended_at = now() - make_interval(secs => $2), \
                started_at = now() - make_interval(secs => $2 + 30) where job_id = $1",
        ] {
            let ended = sqlx::query(ended).bind(id.0).bind(f64::from(seconds_ago));
            ended.execute(&mut *conn).await.unwrap();
        }
    }
    // Half a minute each; of the ten seconds between them, and the twenty since, one counts.
    let expected = 600.0 / 61.0;
    let paces = [
        listing::pace(&mut conn).await.unwrap(),
        listing::pace_of_a_worker(&mut conn).await.unwrap(),
    ];
    for pace in paces.map(Option::unwrap) {
        assert!((pace - expected).abs() < 0.1, "{pace} tile-steps/s");
    }
}
