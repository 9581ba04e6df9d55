//! The object store, seen from outside.

use anyhow::Context;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use upres_common::objects::sha256_hex;

/// One story's bucket.
#[derive(Debug, Clone)]
pub struct Store {
    /// For requests that have no helper here.
    pub client: Client,
    /// The bucket's name.
    pub bucket: String,
}

impl Store {
    /// Makes the bucket.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn create(endpoint: &str, bucket: &str) -> anyhow::Result<Self> {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .load()
            .await;
        let config = aws_sdk_s3::config::Builder::from(&shared)
            .endpoint_url(endpoint)
            .force_path_style(true)
            .build();
        let client = Client::from_conf(config);
        client
            .create_bucket()
            .bucket(bucket)
            .send()
            .await
            .context("create the bucket")?;
        Ok(Self {
            client,
            bucket: bucket.to_owned(),
        })
    }

    /// The address of a key.
    #[must_use]
    pub fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// Stores an object.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        put.body(ByteStream::from(bytes)).send().await?;
        Ok(())
    }

    /// Removes an object.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(key);
        delete.send().await?;
        Ok(())
    }

    /// The first thousand keys with this beginning.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keys(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let list = self.client.list_objects_v2().bucket(&self.bucket);
        let listed = list.prefix(prefix).send().await?;
        let keys = listed.contents().iter().filter_map(|object| object.key());
        Ok(keys.map(str::to_owned).collect())
    }

    /// Reads an object; `None` when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
        {
            Ok(object) => Ok(Some(object.body.collect().await?.to_vec())),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The SHA-256 of an object; `None` when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sha256(&self, key: &str) -> anyhow::Result<Option<String>> {
        Ok(self.get(key).await?.map(|bytes| sha256_hex(&bytes)))
    }

    /// Begins an upload and leaves it at that. Returns its id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin_upload(&self, key: &str) -> anyhow::Result<String> {
        let upload = self.client.create_multipart_upload();
        let begun = upload.bucket(&self.bucket).key(key).send().await?;
        Ok(begun.upload_id().context("an upload has an id")?.to_owned())
    }

    /// How many multipart uploads are open in the bucket.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_uploads(&self) -> anyhow::Result<usize> {
        let uploads = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .send()
            .await?;
        Ok(uploads.uploads().len())
    }
}
