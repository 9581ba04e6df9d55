//! Pollers of unchanged jobs: how many 304 a second a coordinator gives on one core, beside a bare handler
//! of the same HTTP library that gives nothing else.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use journey_tests::{World, WorldOptions};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::queue::SETTINGS;
use crate::table::median;

/// Jobs that are asked for.
const JOBS: usize = 200;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct PollArgs {
    /// Connections that ask at once, each as soon as it is answered.
    #[arg(long, default_value_t = 10_000)]
    pollers: usize,
    /// How often each side has its turn.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Seconds of a turn.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where the numbers go.
    #[arg(long)]
    out: PathBuf,
}

/// Where the bare handler listens.
#[derive(Debug, clap::Args)]
pub(crate) struct BareArgs {
    /// The address.
    listen: String,
}

/// Serves 304 to whoever names the tag, and nothing else.
pub(crate) async fn bare(args: &BareArgs) -> anyhow::Result<()> {
    async fn answer(headers: HeaderMap) -> (StatusCode, [(header::HeaderName, &'static str); 2]) {
        let known = headers.get(header::IF_NONE_MATCH);
        let status = match known.is_some_and(|tag| tag == "\"1\"") {
            true => StatusCode::NOT_MODIFIED,
            false => StatusCode::OK,
        };
        (
            status,
            [(header::ETAG, "\"1\""), (header::RETRY_AFTER, "1")],
        )
    }
    let router = Router::new().route("/v1/jobs/{id}", get(answer));
    let listener = tokio::net::TcpListener::bind(&args.listen).await?;
    Ok(axum::serve(listener, router).await?)
}

/// A process that is killed when it is no longer needed.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures, prints, writes the numbers.
pub(crate) async fn run(args: &PollArgs) -> anyhow::Result<()> {
    let mut settings = SETTINGS.to_vec();
    // One thread of work: what more cores would add is the same for both.
    settings.push(("TOKIO_WORKER_THREADS", "1"));
    let options = WorldOptions {
        settings,
        ..WorldOptions::default()
    };
    let world = World::new("polls", options).await?;
    let mut requests = Vec::new();
    for index in 0..JOBS {
        let id = world.submit_photo(&format!("{index}")).await?;
        let job = world
            .request(Method::GET, &format!("/v1/jobs/{id}"))
            .send()
            .await?;
        let tag = job.headers()["etag"].to_str()?.to_owned();
        requests.push(request(&id, &tag, &world.key));
    }
    let ours = world.url(0).trim_start_matches("http://").to_owned();
    let bare = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .to_string();
    let _bare = Bare(
        Command::new(std::env::current_exe()?)
            .args(["bare", &bare])
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .spawn()?,
    );
    let bare_requests = vec![request("x", "\"1\"", &world.key)];
    let (mut sides, length) = ([Vec::new(), Vec::new()], Duration::from_secs(args.seconds));
    for _ in 0..args.turns {
        sides[0].push(measure(&bare, &bare_requests, args.pollers, length).await?);
        sides[1].push(measure(&ours, &requests, args.pollers, length).await?);
    }
    let [bare, ours] = sides.map(|turns| median(&turns));
    println!(
        "304 a second to {} pollers, one thread of work: bare handler {bare:.0}, coordinator {ours:.0} ({:.2} of it)",
        args.pollers,
        ours / bare
    );
    let numbers = json!({"pollers": args.pollers, "bare_per_s": bare, "coordinator_per_s": ours, "ratio": ours / bare});
    std::fs::write(&args.out, format!("{numbers:#}\n"))?;
    Ok(())
}

fn request(id: &str, tag: &str, key: &str) -> Vec<u8> {
    format!("GET /v1/jobs/{id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nif-none-match: {tag}\r\n\r\n").into_bytes()
}

/// Answers a second to so many connections.
async fn measure(
    address: &str,
    requests: &[Vec<u8>],
    pollers: usize,
    length: Duration,
) -> anyhow::Result<f64> {
    let answered = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    for index in 0..pollers {
        let mut stream = connect(address).await?;
        let request = requests[index % requests.len()].clone();
        let (answered, over) = (Arc::clone(&answered), Arc::clone(&over));
        connections.spawn(async move {
            let mut buffer = vec![0; 4096];
            while !over.load(Ordering::Relaxed) {
                stream.write_all(&request).await?;
                let mut read = 0;
                // A 304 has no body: it ends with its head.
                while !buffer[..read].ends_with(b"\r\n\r\n") {
                    let more = stream.read(&mut buffer[read..]).await?;
                    ensure!(more > 0, "the connection was closed");
                    read += more;
                }
                ensure!(
                    buffer.starts_with(b"HTTP/1.1 304"),
                    "{}",
                    String::from_utf8_lossy(&buffer[..read])
                );
                answered.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    // Until each has had its turn about once.
    while answered.load(Ordering::Relaxed) < pollers as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (before, began) = (answered.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(length).await;
    let done = answered.load(Ordering::Relaxed) - before;
    let rate = done as f64 / began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(rate)
}

/// Patient with a server that only begins, or whose line of callers is full.
async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let deadline = Instant::now() + journey_tests::DEADLINE;
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context(format!("cannot connect to {address}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
