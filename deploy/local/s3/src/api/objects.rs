//! Objects: put, get, copy, delete.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::ops;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::conditions::{self, Reader, tag};
use super::receive::Delivery;
use super::{Answer, Api};
use crate::checksums::Checksums;
use crate::draft::Draft;
use crate::object::{self, Given};
use crate::store::{Condition, StoreError};
use crate::uploads::copy_data;

/// Bytes read from the disk in one go.
const PIECE: usize = 256 << 10;

pub async fn put_object(api: &Api, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
    let input = request.input;
    let condition = conditions::writer(input.if_match, input.if_none_match)?;
    let (bucket, key) = (input.bucket, input.key);
    let name = bucket.clone();
    api.ask(move |store| store.bucket(&name)).await?;
    let delivery = Delivery {
        body: input.body,
        headers: request.headers,
        trailers: request.trailing_headers,
        content_md5: input.content_md5,
        given: Given {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            user: input.metadata.unwrap_or_default().into_iter().collect(),
        },
    };
    let object = api.receive(delivery).await?;
    let metadata = object.metadata.clone();
    api.ask(move |store| store.publish(&bucket, &key, &object, &condition))
        .await?;
    let sums = metadata.checksums;
    Ok(S3Response::new(PutObjectOutput {
        e_tag: tag(&metadata.etag),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        ..PutObjectOutput::default()
    }))
}

pub async fn get_object(api: &Api, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
    let input = request.input;
    let reader = Reader {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    let (mut file, metadata) = open(api, input.bucket, input.key, reader).await?;
    let span = span(input.range, metadata.size)?;
    let length = span.end - span.start;
    file.seek(SeekFrom::Start(span.start))
        .map_err(StoreError::from)?;
    let data = tokio::fs::File::from_std(file).take(length);
    let sums = asked_for(
        input.checksum_mode.as_ref(),
        input.range,
        metadata.checksums,
    );
    Ok(S3Response::new(GetObjectOutput {
        body: Some(StreamingBlob::wrap(ReaderStream::with_capacity(
            data, PIECE,
        ))),
        content_length: i64::try_from(length).ok(),
        content_range: content_range(input.range, &span, metadata.size),
        accept_ranges: Some("bytes".to_owned()),
        e_tag: tag(&metadata.etag),
        last_modified: Some(Timestamp::from(object::time_of(metadata.modified_ms))),
        content_type: metadata.given.content_type,
        content_encoding: metadata.given.content_encoding,
        content_disposition: metadata.given.content_disposition,
        content_language: metadata.given.content_language,
        cache_control: metadata.given.cache_control,
        metadata: Some(metadata.given.user.into_iter().collect()),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        ..GetObjectOutput::default()
    }))
}

pub async fn head_object(
    api: &Api,
    request: S3Request<HeadObjectInput>,
) -> Answer<HeadObjectOutput> {
    let input = request.input;
    let reader = Reader {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    let (_, metadata) = open(api, input.bucket, input.key, reader).await?;
    let span = span(input.range, metadata.size)?;
    let sums = asked_for(
        input.checksum_mode.as_ref(),
        input.range,
        metadata.checksums,
    );
    Ok(S3Response::new(HeadObjectOutput {
        content_length: i64::try_from(span.end - span.start).ok(),
        content_range: content_range(input.range, &span, metadata.size),
        accept_ranges: Some("bytes".to_owned()),
        e_tag: tag(&metadata.etag),
        last_modified: Some(Timestamp::from(object::time_of(metadata.modified_ms))),
        content_type: metadata.given.content_type,
        content_encoding: metadata.given.content_encoding,
        content_disposition: metadata.given.content_disposition,
        content_language: metadata.given.content_language,
        cache_control: metadata.given.cache_control,
        metadata: Some(metadata.given.user.into_iter().collect()),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        ..HeadObjectOutput::default()
    }))
}

pub async fn copy_object(
    api: &Api,
    request: S3Request<CopyObjectInput>,
) -> Answer<CopyObjectOutput> {
    let input = request.input;
    let CopySource::Bucket {
        bucket: from_bucket,
        key: from_key,
        ..
    } = input.copy_source
    else {
        return Err(s3_error!(NotImplemented));
    };
    let reader = Reader {
        if_match: input.copy_source_if_match,
        if_none_match: input.copy_source_if_none_match,
        if_modified_since: input.copy_source_if_modified_since,
        if_unmodified_since: input.copy_source_if_unmodified_since,
    };
    let (mut file, source) = open(api, from_bucket.into(), from_key.into(), reader).await?;
    let replaces = input
        .metadata_directive
        .is_some_and(|it| it.as_str() == MetadataDirective::REPLACE);
    let given = if replaces {
        Given {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            user: input.metadata.unwrap_or_default().into_iter().collect(),
        }
    } else {
        source.given
    };
    let hasher = source.checksums.hasher();
    let copied = api.ask(move |store| {
        store.bucket(&input.bucket)?;
        let mut draft = Draft::create(&store.drafts(), hasher)?;
        copy_data(&mut file, source.size, &mut draft)?;
        let object = draft.finish(given, None)?;
        store.publish(&input.bucket, &input.key, &object, &Condition::None)?;
        Ok(object.metadata.clone())
    });
    let metadata = copied.await?;
    let result = CopyObjectResult {
        e_tag: tag(&metadata.etag),
        last_modified: Some(Timestamp::from(object::time_of(metadata.modified_ms))),
        ..CopyObjectResult::default()
    };
    let output = CopyObjectOutput {
        copy_object_result: Some(result),
        ..CopyObjectOutput::default()
    };
    Ok(S3Response::new(output))
}

pub async fn delete_object(
    api: &Api,
    request: S3Request<DeleteObjectInput>,
) -> Answer<DeleteObjectOutput> {
    let input = request.input;
    api.ask(move |store| store.delete_object(&input.bucket, &input.key))
        .await?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub async fn delete_objects(
    api: &Api,
    request: S3Request<DeleteObjectsInput>,
) -> Answer<DeleteObjectsOutput> {
    let input = request.input;
    let quiet = input.delete.quiet == Some(true);
    let keys: Vec<String> = input
        .delete
        .objects
        .into_iter()
        .map(|object| object.key)
        .collect();
    let gone = api.ask(move |store| {
        keys.iter()
            .try_for_each(|key| store.delete_object(&input.bucket, key))?;
        Ok(keys)
    });
    let gone = gone.await?.into_iter();
    let gone = gone.map(|key| DeletedObject {
        key: Some(key),
        ..DeletedObject::default()
    });
    let deleted = (!quiet).then(|| gone.collect());
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted,
        ..DeleteObjectsOutput::default()
    }))
}

async fn open(
    api: &Api,
    bucket: String,
    key: String,
    reader: Reader,
) -> S3Result<(File, object::Metadata)> {
    let (file, metadata) = api
        .ask(move |store| store.open_object(&bucket, &key))
        .await?;
    reader.check(&metadata)?;
    Ok((file, metadata))
}

fn span(range: Option<Range>, size: u64) -> S3Result<ops::Range<u64>> {
    Ok(range
        .map(|range| range.check(size))
        .transpose()?
        .unwrap_or(0..size))
}

fn content_range(range: Option<Range>, span: &ops::Range<u64>, size: u64) -> Option<String> {
    range.map(|_| format!("bytes {}-{}/{size}", span.start, span.end.saturating_sub(1)))
}

/// The checksums are those of the whole object: they say nothing about a range of it.
fn asked_for(mode: Option<&ChecksumMode>, range: Option<Range>, checksums: Checksums) -> Checksums {
    let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED) && range.is_none();
    if asked {
        checksums
    } else {
        Checksums::default()
    }
}
