//! The S3 operations: each reads its request, calls the store, and words the answer. What is not named
//! here answers `NotImplemented`.

mod buckets;
mod conditions;
mod multipart;
mod objects;
mod receive;

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::store::{Store, StoreError};

/// The store as `s3s` wants it.
#[derive(Clone)]
pub struct Api {
    store: Arc<Store>,
}

impl Api {
    pub fn new(store: Store) -> Self {
        Self {
            store: Arc::new(store),
        }
    }

    /// Runs a question to the disk where it keeps nobody waiting.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> S3Result<T> {
        let store = Arc::clone(&self.store);
        let answer = tokio::task::spawn_blocking(move || question(&store)).await;
        Ok(answer.map_err(|error| s3_error!(error, InternalError))??)
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchBucket => s3_error!(NoSuchBucket),
            StoreError::BucketExists => s3_error!(BucketAlreadyOwnedByYou),
            StoreError::BucketNotEmpty => s3_error!(BucketNotEmpty),
            StoreError::InvalidBucketName => s3_error!(InvalidBucketName),
            StoreError::NoSuchKey => s3_error!(NoSuchKey),
            StoreError::NoSuchUpload => s3_error!(NoSuchUpload),
            StoreError::InvalidPart(_) => s3_error!(InvalidPart, "{error}"),
            StoreError::InvalidPartOrder => s3_error!(InvalidPartOrder),
            StoreError::PreconditionFailed => s3_error!(PreconditionFailed),
            StoreError::BadDigest(_) => s3_error!(BadDigest, "{error}"),
            StoreError::Io(error) => {
                tracing::error!(%error, "file system");
                s3_error!(error, InternalError)
            }
        }
    }
}

type Answer<T> = S3Result<S3Response<T>>;

/// One line an operation, in the order of a bucket's life.
macro_rules! operations {
    ($($name:ident: $input:ty => $output:ty = $module:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(async fn $name(&self, request: S3Request<$input>) -> Answer<$output> {
                $module::$name(self, request).await
            })*
        }
    };
}

operations! {
    create_bucket: CreateBucketInput => CreateBucketOutput = buckets;
    head_bucket: HeadBucketInput => HeadBucketOutput = buckets;
    list_buckets: ListBucketsInput => ListBucketsOutput = buckets;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput = buckets;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output = buckets;
    put_object: PutObjectInput => PutObjectOutput = objects;
    get_object: GetObjectInput => GetObjectOutput = objects;
    head_object: HeadObjectInput => HeadObjectOutput = objects;
    copy_object: CopyObjectInput => CopyObjectOutput = objects;
    delete_object: DeleteObjectInput => DeleteObjectOutput = objects;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput = objects;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput = multipart;
    upload_part: UploadPartInput => UploadPartOutput = multipart;
    list_parts: ListPartsInput => ListPartsOutput = multipart;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput = multipart;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput = multipart;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput = multipart;
}
