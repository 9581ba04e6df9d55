//! `upres-local-s3`: serves a folder as S3 on one address until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use upres_local_s3::{Credentials, Store, StoreError, serve};

/// A small S3 server for the local stack and the tests.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Folder that holds the buckets; made if it is not there.
    #[arg(long)]
    root: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The one user's name.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// The one user's secret.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    /// A bucket to have from the start; may be repeated.
    #[arg(long = "bucket", value_name = "NAME")]
    buckets: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();

    let store =
        Store::open(&cli.root).with_context(|| format!("open the store {}", cli.root.display()))?;
    for bucket in &cli.buckets {
        match store.create_bucket(bucket) {
            Ok(()) | Err(StoreError::BucketExists) => {}
            Err(error) => return Err(error).with_context(|| format!("create bucket {bucket}")),
        }
    }
    // Before the port opens: whoever sees it open may end us at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(cli.listen)
        .await
        .with_context(|| format!("listen on {}", cli.listen))?;
    println!("listening on http://{}", listener.local_addr()?);

    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let user = Credentials {
        access_key: cli.access_key,
        secret_key: cli.secret_key,
    };
    serve(listener, store, user, stop).await;
    Ok(())
}
