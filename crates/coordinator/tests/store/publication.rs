//! Who may publish.

use sqlx::PgPool;
use std::collections::HashSet;
use upres_common::job::state::LeaseToken;
use upres_common::lease::{LeaseRef, Outcome};
use upres_coordinator::lease::cancel;
use upres_coordinator::publish::steps::{self, Begun};
use upres_coordinator::store::submissions::{self};

use super::{begin, submit};

fn outcome() -> Outcome {
    let outcome = serde_json::json!({
        "upload_id": "u", "upload_token": 1, "parts": [], "sha256": "", "bytes": 0, "width": 4, "height": 4,
        "progress": {"tiles": 1, "tiles_total": 1, "tile_steps_total": 1},
        "timings": {}, "warnings": [],
    });
    serde_json::from_value(outcome).expect("an outcome")
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn of_two_jobs_with_one_output_one_publishes(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let again_after = std::time::Duration::from_secs(300);
    let mut requests = Vec::new();
    for _ in 0..2 {
        let id = submit(&mut conn, |_| {}).await;
        requests.push((begin(&pool, id).await, outcome()));
    }
    let together = steps::begin(&mut conn, &requests, again_after).await;
    assert!(together.is_err_and(|error| error.is_refusal() && error.is_unique_violation()));
    let mut begun = Vec::new();
    for request in requests {
        let alone = steps::begin(&mut conn, &[request], again_after).await;
        begun.extend(alone.unwrap());
    }
    assert!(matches!(begun[0], Begun::Yes(_)));
    assert!(matches!(begun[1], Begun::OutputBusy));
    let asked = ["s3://derivatives/1.tif", "s3://derivatives/2.tif"].map(str::to_owned);
    let found = submissions::being_published(&mut conn, &asked).await;
    assert_eq!(found.unwrap(), HashSet::from([asked[0].clone()]));
}

#[sqlx::test(migrator = "upres_coordinator::store::MIGRATOR")]
async fn results_are_published_together_each_under_its_own_token(pool: PgPool) {
    let mut conn = pool.acquire().await.unwrap();
    let again_after = std::time::Duration::from_secs(300);
    let mut leases = Vec::new();
    for number in 0..4 {
        let output = format!("s3://derivatives/{number}.tif");
        let id = submit(&mut conn, |job| job.output = output).await;
        leases.push(begin(&pool, id).await);
    }
    // The first is held, and asked for twice; the second was superseded; of the third the output is a
    // master by now; the fourth was cancelled.
    let stale = LeaseRef {
        token: LeaseToken(leases[1].token.0 - 1),
        ..leases[1]
    };
    submit(&mut conn, |job| {
        job.input = "s3://derivatives/2.tif".to_owned()
    })
    .await;
    cancel(&pool, leases[3].job_id).await.unwrap();
    let requests = [leases[0], stale, leases[2], leases[0], leases[3]].map(|l| (l, outcome()));
    let begun = steps::begin(&mut conn, &requests, again_after).await;
    let publications: Vec<_> = begun
        .unwrap()
        .into_iter()
        .map(|begun| match begun {
            Begun::Yes(publication) => Some(*publication),
            _ => None,
        })
        .collect();
    let master = |index: usize| publications[index].as_ref().map(|p| p.output_is_input);
    let expected = [Some(false), None, Some(true), Some(false), None];
    assert_eq!([0, 1, 2, 3, 4].map(master), expected);

    let mut other = publications[2].clone().unwrap();
    other.token = LeaseToken(0);
    let results = [0, 3].map(|index| publications[index].clone().unwrap());
    let results = [results.to_vec(), vec![other]].concat();
    let states = steps::record(&mut conn, &results).await.unwrap();
    assert_eq!(states, ["succeeded", "succeeded", "running"]);
    let again = steps::record(&mut conn, &results[..1]).await.unwrap();
    assert_eq!(again, ["succeeded"]);
    let ids = leases
        .iter()
        .map(|lease| lease.job_id.0)
        .collect::<Vec<_>>();
    let outcomes: Vec<String> = sqlx::query_scalar(
        "select outcome from attempts where job_id = any($1) order by lease_token",
    )
    .bind(&ids)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert_eq!(outcomes, ["succeeded", "running", "running", "cancelled"]);
}
