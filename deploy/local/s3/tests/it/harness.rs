//! A server on a free port, in a folder that goes away, and clients for it.

use std::future::Future;
use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use upres_local_s3::{Store, serve};

pub const BUCKET: &str = "masters";

pub struct Server {
    pub client: Client,
    pub endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    pub folder: tempfile::TempDir,
}

impl Server {
    /// A server with one empty bucket.
    pub async fn start() -> Self {
        let server = Self::on(tempfile::tempdir().unwrap()).await;
        server
            .client
            .create_bucket()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap();
        server
    }

    async fn on(folder: tempfile::TempDir) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let store = Store::open(folder.path()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let user = upres_local_s3::Credentials {
            access_key: "one".into(),
            secret_key: "secret".into(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept and awaited in restart"
        )]
        let serving = tokio::spawn(serve(listener, store, user, async {
            let _ = stopped.await;
        }));
        Self {
            client: client(&endpoint, "secret"),
            endpoint,
            stop: Some(stop),
            serving,
            folder,
        }
    }

    pub async fn restart(mut self) -> Self {
        drop(self.stop.take());
        self.serving.await.unwrap();
        Self::on(self.folder).await
    }

    pub async fn put(&self, key: &str, body: &[u8]) -> String {
        let put = self
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body.to_vec().into());
        put.send().await.unwrap().e_tag.unwrap()
    }

    pub async fn get(&self, key: &str) -> Vec<u8> {
        let object = self
            .client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
        object.body.collect().await.unwrap().to_vec()
    }

    /// Files that are not objects, uploads or folders of them.
    pub fn drafts(&self) -> usize {
        count(&self.folder.path().join("drafts"))
    }
}

pub fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

pub fn client(endpoint: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("one", secret, None, None, "test"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The status and the S3 code of an answer that has to be an error.
pub async fn refusal<T: std::fmt::Debug, E>(
    sent: impl Future<Output = Result<T, SdkError<E>>>,
) -> (u16, String)
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let error = sent.await.unwrap_err();
    let status = error.raw_response().unwrap().status().as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}
