//! A large batch: how long it takes to become jobs, and whether it is exact although the coordinator dies
//! again and again; and whether another tenant notices that it is there.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use journey_tests::{OwnPostgres, World, WorldOptions};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use upres_common::broker::WakeUp;

use crate::leases::Leases;
use crate::queue::{AT_ONCE, SETTINGS};
use crate::soak::resident;
use crate::table::{load_average, percentile};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two jobs of the other tenant.
const PAUSE: Duration = Duration::from_millis(50);
const MIB: f64 = 1024.0 * 1024.0;

/// How much of everything.
#[derive(Debug, clap::Args)]
pub(crate) struct BatchArgs {
    /// Items of the manifest.
    #[arg(long, default_value_t = 500_000)]
    items: u64,
    /// How often the coordinator is killed while it reads a second one.
    #[arg(long, default_value_t = 10)]
    kills: u64,
    /// Jobs of the tenant that has many, while another has few.
    #[arg(long, default_value_t = 200_000)]
    many: u64,
    /// Jobs of the other, one after the other.
    #[arg(long, default_value_t = 500)]
    few: usize,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
}

/// Measures, prints, writes the numbers.
pub(crate) async fn run(args: &BatchArgs) -> anyhow::Result<()> {
    let postgres = OwnPostgres::start()?;
    let options = WorldOptions {
        database_server: Some(postgres.url()),
        settings: SETTINGS.to_vec(),
        ..WorldOptions::default()
    };
    let mut world = World::new("bench_batch", options).await?;
    Leases::store_inputs(&world).await?;
    let quiet = expand(&mut world, args.items, 0).await?;
    let killed = expand(&mut world, args.items, args.kills).await?;
    let shares = shares(&world, args).await?;
    let numbers = json!({"expand": quiet, "expand_killed": killed, "shares": shares});
    std::fs::write(&args.out, format!("{numbers:#}\n"))?;
    Ok(())
}

/// A batch from a manifest of `items` lines; paused, so that nothing but its expansion is measured.
async fn expand(world: &mut World, items: u64, kills: u64) -> anyhow::Result<Value> {
    if items == 0 {
        return Ok(Value::Null);
    }
    let load = load_average();
    store_manifest(world, items, kills).await?;
    let manifest = world.store.uri("list.jsonl.gz");
    let started = Instant::now();
    let id = create(
        world,
        &json!({"manifest": manifest, "not_before": "2100-01-01T00:00:00Z"}),
    )
    .await?;
    let (mut deaths, mut peak) = (0, 0.0_f64);
    let batch = loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for process in world.coordinators() {
            peak = peak.max(resident(process)? / MIB);
        }
        let batch = read(world, &id).await?;
        if batch["expanded_at"].is_string() {
            break batch;
        }
        let listed = batch["listed"].as_u64().unwrap_or_default();
        if deaths < kills && listed > items * (deaths + 1) / (kills + 1) {
            world.kill_coordinator(0);
            world.start_coordinator().await?;
            deaths += 1;
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        batch["listed"] == json!(items) && batch["counts"]["scheduled"] == json!(items),
        "{batch}"
    );
    println!(
        "{items} items of a manifest: {seconds:.0} s, {:.0} a second, coordinator {peak:.0} MiB at most, killed {deaths} times: exact (load {load})",
        items as f64 / seconds
    );
    world
        .request(Method::POST, &format!("/v1/batches/{id}/cancel"))
        .send()
        .await?
        .error_for_status()?;
    let started = Instant::now();
    while read(world, &id).await?["phase"] != "finished" {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let cancelled = started.elapsed().as_secs_f64();
    println!("cancelled in {cancelled:.0} s\n");
    Ok(json!({
        "items": items, "seconds": seconds, "peak_mib": peak, "kills": deaths, "cancel_seconds": cancelled,
        "load_average": load,
    }))
}

async fn store_manifest(world: &World, items: u64, run: u64) -> anyhow::Result<()> {
    let (inputs, outputs) = (
        world.store.uri("in/"),
        world.store.uri(&format!("batch-{run}/")),
    );
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    for line in 0..items {
        writeln!(
            zipped,
            r#"{{"input":"{inputs}{}.png","output":"{outputs}{line}.png"}}"#,
            line % 100
        )?;
    }
    world.store.put("list.jsonl.gz", zipped.finish()?).await
}

async fn create(world: &World, batch: &Value) -> anyhow::Result<String> {
    let answer = world
        .request(Method::POST, "/v1/batches")
        .json(batch)
        .send()
        .await?;
    let created: Value = answer.error_for_status()?.json().await?;
    Ok(created["id"].as_str().context("an id")?.to_owned())
}

async fn read(world: &World, id: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/batches/{id}");
    let answer = world.request(Method::GET, &path).send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

/// Milliseconds from before a job's submission until somebody owns it, alone and beside another tenant's
/// bulk.
async fn shares(world: &World, args: &BatchArgs) -> anyhow::Result<Value> {
    if args.many == 0 {
        return Ok(Value::Null);
    }
    let other = Leases::new(world, "other").with_key(&world.key_of("other")?);
    let idle = waits(world, &other.with_outputs("idle"), args.few).await?;
    store_manifest(world, args.many, 99).await?;
    let id = create(
        world,
        &json!({"manifest": world.store.uri("list.jsonl.gz")}),
    )
    .await?;
    while read(world, &id).await?["expanded_at"].is_null() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let load = load_average();
    let beside = waits(world, &other.with_outputs("beside"), args.few).await?;
    let left = read(world, &id).await?["counts"]["queued"].clone();
    ensure!(
        left.as_u64() > Some(0),
        "the other tenant's bulk was gone before the end"
    );
    println!(
        "a job of another tenant, until it is picked up: alone, and beside {} in bulk (load {load})",
        args.many
    );
    let mut numbers = json!({"many": args.many, "load_average": load});
    for (name, fraction) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let (idle, beside) = (percentile(&idle, fraction), percentile(&beside, fraction));
        println!("{name} {idle:.1} ms, {beside:.1} ms: {:.2}x", beside / idle);
        numbers[name] = json!({"idle_ms": idle, "beside_ms": beside});
    }
    Ok(numbers)
}

/// Submits `few` jobs, one after the other, while [`AT_ONCE`] hands work on whatever comes.
async fn waits(world: &World, other: &Leases, few: usize) -> anyhow::Result<Vec<f64>> {
    let worker = Leases::new(world, "worker");
    let mut consumer = worker.consume().await?;
    let owned = Arc::new(Mutex::new(HashMap::new()));
    let submitting = async {
        let mut submitted = HashMap::new();
        for number in 0..few {
            tokio::time::sleep(PAUSE).await;
            let begun = Instant::now();
            submitted.insert(other.submit("single", number).await?, begun);
        }
        anyhow::Ok(submitted)
    };
    tokio::pin!(submitting);
    let (mut submitted, mut in_hand) = (None, JoinSet::new());
    loop {
        if let Some(submitted) = &submitted {
            let owned = owned.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waits) = all_owned(submitted, &owned) {
                break Ok(waits);
            }
        }
        tokio::select! {
            done = &mut submitting, if submitted.is_none() => submitted = Some(done?),
            Some(done) = in_hand.join_next() => { let done: anyhow::Result<()> = done?; done?; }
            delivery = consumer.next(), if in_hand.len() < AT_ONCE => {
                let delivery = delivery?.context("the broker hung up")?;
                let (worker, owned) = (worker.clone(), Arc::clone(&owned));
                in_hand.spawn(async move {
                    let WakeUp { job_id, class, .. } = delivery.envelope()?.wake_up;
                    let lease = worker.claim(job_id, class).await?;
                    let now = Instant::now();
                    delivery.ack().await?;
                    if let Some(lease) = lease {
                        owned.lock().unwrap_or_else(PoisonError::into_inner).insert(lease.job_id, now);
                        worker.end(&lease).await?;
                    }
                    Ok(())
                });
            }
        }
    }
}

fn all_owned<K: std::hash::Hash + Eq>(
    submitted: &HashMap<K, Instant>,
    owned: &HashMap<K, Instant>,
) -> Option<Vec<f64>> {
    let waits = submitted.iter().map(|(id, begun)| {
        let waited = owned.get(id)?.duration_since(*begun);
        Some(waited.as_secs_f64() * 1e3)
    });
    waits.collect()
}
