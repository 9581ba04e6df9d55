//! Multipart uploads.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::buckets::Encoding;
use super::conditions::{self, tag};
use super::receive::Delivery;
use super::{Answer, Api};
use crate::checksums::Checksums;
use crate::object::{self, Given};
use crate::uploads::{Chosen, Completion, Upload};

const MOST_PARTS: i32 = 10_000;
const MOST_LISTED: usize = 1000;

pub async fn create_multipart_upload(
    api: &Api,
    request: S3Request<CreateMultipartUploadInput>,
) -> Answer<CreateMultipartUploadOutput> {
    let input = request.input;
    let (bucket, key) = (input.bucket.clone(), input.key.clone());
    let given = Given {
        content_type: input.content_type,
        content_encoding: input.content_encoding,
        content_disposition: input.content_disposition,
        content_language: input.content_language,
        cache_control: input.cache_control,
        user: input.metadata.unwrap_or_default().into_iter().collect(),
    };
    let upload = api
        .ask(move |store| store.begin_upload(&bucket, &key, given))
        .await?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(upload.id),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub async fn upload_part(
    api: &Api,
    request: S3Request<UploadPartInput>,
) -> Answer<UploadPartOutput> {
    let input = request.input;
    let number = input.part_number;
    if !(1..=MOST_PARTS).contains(&number) {
        return Err(s3_error!(
            InvalidArgument,
            "part numbers are 1 to {MOST_PARTS}"
        ));
    }
    let (bucket, key, id) = (input.bucket, input.key, input.upload_id);
    let (_, folder) = api
        .ask(move |store| store.upload(&bucket, &key, &id))
        .await?;
    let delivery = Delivery {
        body: input.body,
        headers: request.headers,
        trailers: request.trailing_headers,
        content_md5: input.content_md5,
        given: Given::default(),
    };
    let part = api.receive(delivery).await?;
    let metadata = part.metadata.clone();
    api.ask(move |store| store.keep_part(&folder, number, &part))
        .await?;
    let sums = metadata.checksums;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: tag(&metadata.etag),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        ..UploadPartOutput::default()
    }))
}

pub async fn list_parts(api: &Api, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
    let input = request.input;
    let (bucket, key, id) = (
        input.bucket.clone(),
        input.key.clone(),
        input.upload_id.clone(),
    );
    let kept = api
        .ask(move |store| store.parts(&store.upload(&bucket, &key, &id)?.1))
        .await?;
    let after = input.part_number_marker.unwrap_or(0);
    let limit = limit(input.max_parts);
    let mut parts: Vec<Part> = kept
        .into_iter()
        .filter(|(number, _)| *number > after)
        .map(|(number, part)| entry(number, part))
        .collect();
    let more = parts.len() > limit;
    parts.truncate(limit);
    Ok(S3Response::new(ListPartsOutput {
        is_truncated: Some(more),
        next_part_number_marker: parts
            .last()
            .filter(|_| more)
            .and_then(|part| part.part_number),
        parts: Some(parts),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: input.max_parts,
        part_number_marker: input.part_number_marker,
        ..ListPartsOutput::default()
    }))
}

fn entry(number: i32, part: object::Metadata) -> Part {
    Part {
        part_number: Some(number),
        e_tag: tag(&part.etag),
        size: i64::try_from(part.size).ok(),
        last_modified: Some(object::time_of(part.modified_ms).into()),
        checksum_crc32: part.checksums.get("crc32"),
        checksum_crc32c: part.checksums.get("crc32c"),
        checksum_crc64nvme: part.checksums.get("crc64nvme"),
        checksum_sha1: part.checksums.get("sha1"),
        checksum_sha256: part.checksums.get("sha256"),
    }
}

pub async fn complete_multipart_upload(
    api: &Api,
    request: S3Request<CompleteMultipartUploadInput>,
) -> Answer<CompleteMultipartUploadOutput> {
    let input = request.input;
    let named = input
        .multipart_upload
        .and_then(|named| named.parts)
        .unwrap_or_default();
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "no parts to complete with"));
    }
    let claimed = Checksums::claimed(&request.headers);
    let completion = Completion {
        parts: named.into_iter().map(chosen).collect::<S3Result<_>>()?,
        condition: conditions::writer(input.if_match, input.if_none_match)?,
        hasher: claimed.hasher(),
        claimed,
    };
    let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id);
    let completed = api.ask(move |store| {
        let upload = store.upload(&bucket, &key, &id)?;
        store.complete_upload(&bucket, upload, completion)
    });
    let metadata = completed.await?;
    let sums = metadata.checksums;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: tag(&metadata.etag),
        checksum_crc32: sums.get("crc32"),
        checksum_crc32c: sums.get("crc32c"),
        checksum_crc64nvme: sums.get("crc64nvme"),
        checksum_sha1: sums.get("sha1"),
        checksum_sha256: sums.get("sha256"),
        ..CompleteMultipartUploadOutput::default()
    }))
}

fn chosen(part: CompletedPart) -> S3Result<Chosen> {
    let (Some(number), Some(etag)) = (part.part_number, part.e_tag) else {
        return Err(s3_error!(
            MalformedXML,
            "a part needs its number and its ETag"
        ));
    };
    Ok(Chosen {
        number,
        etag: etag.into_value(),
    })
}

pub async fn abort_multipart_upload(
    api: &Api,
    request: S3Request<AbortMultipartUploadInput>,
) -> Answer<AbortMultipartUploadOutput> {
    let input = request.input;
    let aborted = api.ask(move |store| {
        store.abort_upload(&store.upload(&input.bucket, &input.key, &input.upload_id)?)
    });
    aborted.await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

pub async fn list_multipart_uploads(
    api: &Api,
    request: S3Request<ListMultipartUploadsInput>,
) -> Answer<ListMultipartUploadsOutput> {
    let input = request.input;
    let (bucket, prefix) = (
        input.bucket.clone(),
        input.prefix.clone().unwrap_or_default(),
    );
    let mut uploads = api
        .ask(move |store| store.uploads(&bucket, &prefix))
        .await?;
    let marker = (input.key_marker.clone(), input.upload_id_marker.clone());
    uploads.retain(|upload| is_behind(upload, &marker));
    let limit = limit(input.max_uploads);
    let more = uploads.len() > limit;
    uploads.truncate(limit);
    let last = uploads.last().filter(|_| more).cloned();
    let encoding = Encoding(input.encoding_type);
    let uploads = uploads.into_iter().map(|upload| MultipartUpload {
        key: Some(encoding.apply(upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(object::time_of(upload.begun_ms).into()),
        ..MultipartUpload::default()
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        uploads: Some(uploads.collect()),
        is_truncated: Some(more),
        next_key_marker: last
            .as_ref()
            .map(|upload| encoding.apply(upload.key.clone())),
        next_upload_id_marker: last.map(|upload| upload.id),
        bucket: Some(input.bucket),
        prefix: input.prefix.map(|prefix| encoding.apply(prefix)),
        key_marker: input.key_marker.map(|marker| encoding.apply(marker)),
        upload_id_marker: input.upload_id_marker,
        max_uploads: input.max_uploads,
        encoding_type: encoding.0,
        ..ListMultipartUploadsOutput::default()
    }))
}

/// An upload marker means something only beside the key it belongs to.
fn is_behind(upload: &Upload, marker: &(Option<String>, Option<String>)) -> bool {
    match marker {
        (None, _) => true,
        (Some(key), None) => upload.key > *key,
        (Some(key), Some(id)) => (&upload.key, &upload.id) > (key, id),
    }
}

fn limit(asked: Option<i32>) -> usize {
    asked.map_or(MOST_LISTED, |most| {
        usize::try_from(most).unwrap_or(0).min(MOST_LISTED)
    })
}
