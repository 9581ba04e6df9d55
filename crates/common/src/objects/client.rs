//! The S3 client: reads, and multipart uploads in three separate steps, because in upres the one
//! who uploads (a worker) is not the one who makes the result visible (the coordinator).
//!
//! Nothing here relies on conditional writes for correctness: some stores ignore them silently.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::ObjectUri;
use super::error::{ObjectError, classify, status_of};
use crate::job::JobId;
use crate::job::state::LeaseToken;
use crate::lease::{InputRead, UploadedPart};

/// A store that accepts no connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one try of a request; the largest is one part of an upload.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of one request before the caller hears of it.
const MAX_TRIES: u32 = 4;
/// How long a bucket that was seen is taken to exist.
const BUCKET_BELIEVED: Duration = Duration::from_secs(60);

const JOB_ID_KEY: &str = "upres-job-id";
const ATTEMPT_KEY: &str = "upres-attempt";
const TOKEN_KEY: &str = "upres-lease-token";

/// Where the object store is. Credentials come from the AWS chain: environment, profile, web
/// identity, container or instance role.
#[derive(Debug, Clone, clap::Args)]
pub struct S3Args {
    /// Address of an S3-compatible store; leave empty for AWS. Credentials come from the AWS chain:
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a profile, or the role of the container or instance.
    #[arg(long, env = "UPRES_S3_ENDPOINT", value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// Region of the store.
    #[arg(long, env = "UPRES_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
}

impl S3Args {
    /// What is wrong with these settings, a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let endpoint = self.endpoint();
        let valid = |url: &&str| url.starts_with("http://") || url.starts_with("https://");
        match endpoint {
            Some(url) if !valid(&url) => {
                vec![format!(
                    "--s3-endpoint `{url}` is not a URL: write http://host:port or https://host"
                )]
            }
            _ => Vec::new(),
        }
    }

    fn endpoint(&self) -> Option<&str> {
        self.s3_endpoint.as_deref().filter(|url| !url.is_empty())
    }
}

/// Which attempt began the upload that an object came from: written into its metadata then, so that
/// the object itself can tell after a crash whether it is the one that was meant. An upload is completed
/// once at most, with parts that the store checks, so that this names the bytes too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The job.
    pub job_id: JobId,
    /// The attempt's number.
    pub attempt: i32,
    /// The attempt's lease.
    pub token: LeaseToken,
}

impl Ownership {
    pub(super) fn to_metadata(&self) -> HashMap<String, String> {
        HashMap::from([
            (JOB_ID_KEY.to_owned(), self.job_id.to_string()),
            (ATTEMPT_KEY.to_owned(), self.attempt.to_string()),
            (TOKEN_KEY.to_owned(), self.token.0.to_string()),
        ])
    }

    fn from_metadata(metadata: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            job_id: metadata.get(JOB_ID_KEY)?.parse().ok()?,
            attempt: metadata.get(ATTEMPT_KEY)?.parse().ok()?,
            token: LeaseToken(metadata.get(TOKEN_KEY)?.parse().ok()?),
        })
    }
}

/// What a HEAD tells.
#[derive(Debug, Clone)]
pub struct ObjectInfo {
    /// Size.
    pub bytes: u64,
    /// The store's own mark of the bytes.
    pub etag: Option<String>,
    /// Present when upres wrote the object.
    pub ownership: Option<Ownership>,
}

impl ObjectInfo {
    /// Whether it is a result of this job.
    #[must_use]
    pub fn is_of(&self, job: Option<JobId>) -> bool {
        let owner = self.ownership.as_ref().map(|owner| owner.job_id);
        job.is_some() && owner == job
    }
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Debug, Clone)]
pub struct OpenUpload {
    /// Where it would become visible.
    pub uri: ObjectUri,
    /// Its id.
    pub upload_id: String,
    /// When it was begun, by the store's clock.
    pub begun_at: Option<DateTime<Utc>>,
}

/// How the completion of an upload ended, as far as the store answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The object is visible.
    Done,
    /// The store knows no such upload: aborted, or completed before.
    NoSuchUpload,
    /// The upload holds other parts than those named, or too small ones.
    PartsRefused,
    /// Somebody else's object is there and the store honours conditional writes.
    Exists,
}

/// An object on this machine's disk.
#[derive(Debug)]
pub struct Fetched {
    /// At its beginning.
    pub file: std::fs::File,
    /// Of its bytes.
    pub read: InputRead,
}

/// A client of the store.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    pub(super) client: Client,
    /// Those that exist, and when they were seen.
    buckets: Arc<Mutex<HashMap<String, Instant>>>,
}

impl ObjectStore {
    /// Builds a client; does not connect yet.
    pub async fn new(args: &S3Args) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(args.s3_region.clone()))
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_TRIES))
            .load()
            .await;
        // Parts carry a SHA-256 that we compute; the SDK's own CRC trailers add nothing and are
        // refused by some S3-compatible stores.
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = args.endpoint() {
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        Self {
            client: Client::from_conf(config.build()),
            buckets: Arc::default(),
        }
    }

    /// Copies an object of at most `limit` bytes to a file of the system's folder for such (`TMPDIR`), which
    /// nobody else can see and which vanishes when it is closed.
    ///
    /// # Errors
    /// [`ObjectError`]; a stream that breaks off, or a full disk, is `Unavailable`, never a short file.
    pub async fn fetch(&self, uri: &ObjectUri, limit: u64) -> Result<Fetched, ObjectError> {
        let request = self.client.get_object().bucket(uri.bucket()).key(uri.key());
        let object = request
            .send()
            .await
            .map_err(|error| classify(uri, &error))?;
        let expected = object
            .content_length()
            .and_then(|bytes| u64::try_from(bytes).ok());
        let too_large = |bytes| ObjectError::TooLarge {
            uri: uri.to_string(),
            bytes,
            limit,
        };
        if let Some(bytes) = expected.filter(|bytes| *bytes > limit) {
            return Err(too_large(bytes));
        }
        let broken = |reason: String| ObjectError::Unavailable {
            uri: uri.to_string(),
            reason,
        };
        let disk = |error: std::io::Error| broken(format!("cannot keep it on disk: {error}"));
        let mut file = tokio::fs::File::from_std(tempfile::tempfile().map_err(disk)?);
        let etag = object.e_tag().map(str::to_owned);
        let (mut sha256, mut bytes, mut body) = (Sha256::new(), 0, object.body);
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| broken(error.to_string()))?;
            bytes += piece.len() as u64;
            if bytes > limit {
                return Err(too_large(bytes));
            }
            sha256.update(&piece);
            file.write_all(&piece).await.map_err(disk)?;
        }
        if expected.is_some_and(|expected| expected != bytes) {
            return Err(broken(format!("the answer broke off after {bytes} bytes")));
        }
        file.rewind().await.map_err(disk)?;
        Ok(Fetched {
            file: file.into_std().await,
            read: InputRead {
                sha256: hex::encode(sha256.finalize()),
                bytes,
                etag,
            },
        })
    }

    /// The SHA-256 of an object, lower-case hex; reads it, piece by piece.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn sha256(&self, uri: &ObjectUri) -> Result<String, ObjectError> {
        let request = self.client.get_object().bucket(uri.bucket()).key(uri.key());
        let object = request
            .send()
            .await
            .map_err(|error| classify(uri, &error))?;
        let (mut sha256, mut body) = (Sha256::new(), object.body);
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| ObjectError::Unavailable {
                uri: uri.to_string(),
                reason: error.to_string(),
            })?;
            sha256.update(&piece);
        }
        Ok(hex::encode(sha256.finalize()))
    }

    /// What is stored under `uri`, if anything.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn head(&self, uri: &ObjectUri) -> Result<Option<ObjectInfo>, ObjectError> {
        let request = self
            .client
            .head_object()
            .bucket(uri.bucket())
            .key(uri.key());
        match request.send().await.map_err(|error| classify(uri, &error)) {
            Ok(head) => Ok(Some(ObjectInfo {
                bytes: head
                    .content_length()
                    .and_then(|b| u64::try_from(b).ok())
                    .unwrap_or(0),
                etag: head.e_tag().map(str::to_owned),
                ownership: head.metadata().and_then(Ownership::from_metadata),
            })),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the bucket of `uri` exists, as far as these credentials may know: `true` when they may not.
    /// A bucket that was seen is believed in for a minute.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn has_bucket(&self, uri: &ObjectUri) -> Result<bool, ObjectError> {
        let seen = self.buckets().get(uri.bucket()).copied();
        if seen.is_some_and(|at| at.elapsed() < BUCKET_BELIEVED) {
            return Ok(true);
        }
        let request = self.client.head_bucket().bucket(uri.bucket());
        match request.send().await.map_err(|error| classify(uri, &error)) {
            Ok(_) | Err(ObjectError::Forbidden(_)) => {}
            Err(error) if error.is_absence() => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut buckets = self.buckets();
        buckets.retain(|_, at| at.elapsed() < BUCKET_BELIEVED);
        buckets.insert(uri.bucket().to_owned(), Instant::now());
        Ok(true)
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload; nothing becomes visible. Returns its id.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn begin_upload(
        &self,
        uri: &ObjectUri,
        media_type: &str,
        ownership: &Ownership,
    ) -> Result<String, ObjectError> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(uri.bucket())
            .key(uri.key())
            .content_type(media_type)
            .set_metadata(Some(ownership.to_metadata()))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .send()
            .await
            .map_err(|error| classify(uri, &error))?;
        begun
            .upload_id()
            .map(ToOwned::to_owned)
            .ok_or_else(|| ObjectError::Unavailable {
                uri: uri.to_string(),
                reason: "the store began an upload without an id".to_owned(),
            })
    }

    /// Uploads part `number` (from 1); all but the last have at least 5 MiB.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn put_part(
        &self,
        uri: &ObjectUri,
        upload_id: &str,
        number: i32,
        bytes: Bytes,
    ) -> Result<UploadedPart, ObjectError> {
        let sha256 = sha256_base64(&bytes);
        let part = self
            .client
            .upload_part()
            .bucket(uri.bucket())
            .key(uri.key())
            .upload_id(upload_id)
            .part_number(number)
            .checksum_sha256(&sha256)
            .body(ByteStream::new(SdkBody::from(bytes)))
            .send()
            .await
            .map_err(|error| classify(uri, &error))?;
        Ok(UploadedPart {
            number,
            etag: part.e_tag().unwrap_or_default().to_owned(),
            sha256,
        })
    }

    /// Makes an upload visible. `only_if_absent` asks the store to refuse when something is there,
    /// which some stores ignore: look first.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`]; the latter leaves it open
    /// whether the object is visible.
    pub async fn complete_upload(
        &self,
        uri: &ObjectUri,
        upload_id: &str,
        parts: &[UploadedPart],
        only_if_absent: bool,
    ) -> Result<Completion, ObjectError> {
        let completed = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(part.number)
                .e_tag(&part.etag)
                .checksum_sha256(&part.sha256)
                .build()
        });
        let upload = CompletedMultipartUpload::builder()
            .set_parts(Some(completed.collect()))
            .build();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(uri.bucket())
            .key(uri.key())
            .upload_id(upload_id)
            .multipart_upload(upload)
            .set_if_none_match(only_if_absent.then(|| "*".to_owned()))
            .send()
            .await;
        let Err(error) = answer else {
            return Ok(Completion::Done);
        };
        match (error.code(), status_of(&error)) {
            (Some("NoSuchUpload"), _) => Ok(Completion::NoSuchUpload),
            (Some("PreconditionFailed"), _) | (_, Some(412)) => Ok(Completion::Exists),
            (_, Some(404)) => Ok(Completion::NoSuchUpload),
            (Some("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall"), _) => {
                Ok(Completion::PartsRefused)
            }
            _ => Err(classify(uri, &error)),
        }
    }

    /// Gives an upload up; one that is gone already is no error.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn abort_upload(&self, uri: &ObjectUri, upload_id: &str) -> Result<(), ObjectError> {
        let request = self.client.abort_multipart_upload();
        let request = request
            .bucket(uri.bucket())
            .key(uri.key())
            .upload_id(upload_id);
        match request.send().await.map_err(|error| classify(uri, &error)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_absence() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Every upload in a bucket that was begun and neither completed nor aborted. Those under keys
    /// that upres could not have written are left out.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn list_uploads(&self, bucket: &str) -> Result<Vec<OpenUpload>, ObjectError> {
        let mut found = Vec::new();
        let (mut key_marker, mut upload_marker) = (None, None);
        loop {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(bucket)
                .set_key_marker(key_marker)
                .set_upload_id_marker(upload_marker)
                .send()
                .await
                .map_err(|error| classify(bucket, &error))?;
            found.extend(page.uploads().iter().filter_map(|upload| {
                Some(OpenUpload {
                    uri: format!("s3://{bucket}/{}", upload.key()?).parse().ok()?,
                    upload_id: upload.upload_id()?.to_owned(),
                    begun_at: upload
                        .initiated()
                        .and_then(|time| DateTime::from_timestamp(time.secs(), 0)),
                })
            }));
            key_marker = page.next_key_marker().map(str::to_owned);
            upload_marker = page.next_upload_id_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || key_marker.is_none() {
                return Ok(found);
            }
        }
    }

    /// A URL that reads the object, for `lifetime`.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] when no credentials can be had to sign with.
    pub async fn presign_get(
        &self,
        uri: &ObjectUri,
        lifetime: Duration,
    ) -> Result<String, ObjectError> {
        let request = self.client.get_object().bucket(uri.bucket()).key(uri.key());
        let signed = request.presigned(presigning(uri, lifetime)?).await;
        signed
            .map(|url| url.uri().to_owned())
            .map_err(|error| classify(uri, &error))
    }

    /// A URL that takes the object, for `lifetime`.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] when no credentials can be had to sign with.
    pub async fn presign_put(
        &self,
        uri: &ObjectUri,
        lifetime: Duration,
    ) -> Result<String, ObjectError> {
        let request = self.client.put_object().bucket(uri.bucket()).key(uri.key());
        let signed = request.presigned(presigning(uri, lifetime)?).await;
        signed
            .map(|url| url.uri().to_owned())
            .map_err(|error| classify(uri, &error))
    }
}

/// Lower-case hex of the SHA-256 of `bytes`.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Base64 of the SHA-256 of `bytes`, as S3 writes checksums.
#[must_use]
pub fn sha256_base64(bytes: &[u8]) -> String {
    base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        Sha256::digest(bytes),
    )
}

fn presigning(uri: &ObjectUri, lifetime: Duration) -> Result<PresigningConfig, ObjectError> {
    PresigningConfig::expires_in(lifetime).map_err(|error| ObjectError::Unavailable {
        uri: uri.to_string(),
        reason: error.to_string(),
    })
}
