//! Buckets, and the listing of what is in one.

use s3s::dto::*;
use s3s::{S3Request, S3Response, s3_error};

use super::conditions::tag;
use super::{Answer, Api};
use crate::listing::{self, Query, Token};
use crate::names::percent_encode;
use crate::object::{Metadata, time_of};
use crate::store::StoreError;

const MOST_KEYS: usize = 1000;

pub async fn create_bucket(
    api: &Api,
    request: S3Request<CreateBucketInput>,
) -> Answer<CreateBucketOutput> {
    let bucket = request.input.bucket;
    let location = Some(format!("/{bucket}"));
    api.ask(move |store| store.create_bucket(&bucket)).await?;
    Ok(S3Response::new(CreateBucketOutput { location }))
}

pub async fn head_bucket(
    api: &Api,
    request: S3Request<HeadBucketInput>,
) -> Answer<HeadBucketOutput> {
    api.ask(move |store| store.bucket(&request.input.bucket))
        .await?;
    Ok(S3Response::new(HeadBucketOutput::default()))
}

pub async fn list_buckets(api: &Api, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
    let buckets = api.ask(|store| store.buckets()).await?;
    let buckets = buckets.into_iter().map(|(name, made)| Bucket {
        name: Some(name),
        creation_date: Some(made.into()),
        ..Bucket::default()
    });
    let buckets = Some(buckets.collect());
    Ok(S3Response::new(ListBucketsOutput {
        buckets,
        ..ListBucketsOutput::default()
    }))
}

pub async fn delete_bucket(
    api: &Api,
    request: S3Request<DeleteBucketInput>,
) -> Answer<DeleteBucketOutput> {
    api.ask(move |store| store.delete_bucket(&request.input.bucket))
        .await?;
    Ok(S3Response::new(DeleteBucketOutput {}))
}

pub async fn list_objects_v2(
    api: &Api,
    request: S3Request<ListObjectsV2Input>,
) -> Answer<ListObjectsV2Output> {
    let input = request.input;
    let resume = input.continuation_token.as_deref().map(|token| {
        Token::decode(token).ok_or_else(|| s3_error!(InvalidArgument, "not a continuation token"))
    });
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        start_after: input.start_after.clone(),
        resume: resume.transpose()?,
        limit: input.max_keys.map_or(MOST_KEYS, |most| {
            usize::try_from(most).unwrap_or(0).min(MOST_KEYS)
        }),
    };
    let bucket = input.bucket.clone();
    let found = api.ask(move |store| {
        let page = listing::page(store.keys(&bucket)?, &query);
        let mut objects = Vec::with_capacity(page.keys.len());
        for key in &page.keys {
            match store.open_object(&bucket, key) {
                Ok((_, metadata)) => objects.push((key.clone(), metadata)),
                // Deleted since the keys were read.
                Err(StoreError::NoSuchKey) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((page, objects))
    });
    let (page, objects) = found.await?;
    let encoding = Encoding(input.encoding_type);
    let text = |text: String| encoding.apply(text);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        key_count: i32::try_from(objects.len() + page.prefixes.len()).ok(),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.map(|token| token.encode()),
        contents: Some(
            objects
                .into_iter()
                .map(|(key, metadata)| entry(text(key), &metadata))
                .collect(),
        ),
        common_prefixes: Some(
            page.prefixes
                .into_iter()
                .map(|prefix| CommonPrefix {
                    prefix: Some(text(prefix)),
                })
                .collect(),
        ),
        prefix: input.prefix.map(text),
        delimiter: input.delimiter.map(text),
        start_after: input.start_after.map(text),
        max_keys: input.max_keys,
        continuation_token: input.continuation_token,
        encoding_type: encoding.0,
        ..ListObjectsV2Output::default()
    }))
}

fn entry(key: String, metadata: &Metadata) -> Object {
    Object {
        key: Some(key),
        size: i64::try_from(metadata.size).ok(),
        e_tag: tag(&metadata.etag),
        last_modified: Some(time_of(metadata.modified_ms).into()),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
        ..Object::default()
    }
}

/// How names are written into XML, which cannot hold every character that a key can.
pub struct Encoding(pub Option<EncodingType>);

impl Encoding {
    pub fn apply(&self, text: String) -> String {
        match &self.0 {
            Some(encoding) if encoding.as_str() == EncodingType::URL => {
                percent_encode(text.as_bytes(), b"-_.~/")
            }
            _ => text,
        }
    }
}
