//! The HTTP side: accepts connections, and on the way out lets requests under way finish.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::api::Api;
use crate::store::Store;

/// How long requests under way may take after the order to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// The one user that requests must be signed by.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name.
    pub access_key: String,
    /// The user's secret; it never travels.
    pub secret_key: String,
}

/// Serves `store` until `stop` resolves, then up to ten seconds longer for requests under way.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    user: Credentials,
    stop: impl Future<Output = ()>,
) {
    let mut builder = S3ServiceBuilder::new(Api::new(store));
    builder.set_auth(SimpleAuth::from_single(user.access_key, user.secret_key));
    let service = builder.build();

    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, service.clone(), graceful.watcher()));
                }
                // Out of file handles, most likely: others will be given back.
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            // The set would otherwise remember every connection there ever was.
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests still under way were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    service: S3Service,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Answers are written whole; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let http = auto::Builder::new(TokioExecutor::new());
    let serving = watcher.watch(
        http.serve_connection(TokioIo::new(stream), service)
            .into_owned(),
    );
    if let Err(error) = serving.await {
        tracing::debug!(error, "connection ended");
    }
}
