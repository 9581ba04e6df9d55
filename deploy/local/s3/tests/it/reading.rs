//! Parts of objects, versions of objects, and proof that they arrived whole.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};

use crate::harness::{BUCKET, Server, refusal};

#[tokio::test]
async fn ranges_are_cut_from_the_data_alone() {
    let server = Server::start().await;
    server.put("k", b"0123456789").await;
    for (range, part, described) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ] {
        let got = server
            .client
            .get_object()
            .bucket(BUCKET)
            .key("k")
            .range(range)
            .send()
            .await
            .unwrap();
        assert_eq!(got.content_range.as_deref(), Some(described));
        assert_eq!(got.body.collect().await.unwrap().to_vec(), part.as_bytes());
    }
    let beyond = server
        .client
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .range("bytes=10-")
        .send();
    assert_eq!(refusal(beyond).await, (416, "InvalidRange".into()));
}

#[tokio::test]
async fn readers_may_ask_for_one_version() {
    let server = Server::start().await;
    let etag = server.put("k", b"data").await;
    let get = || server.client.get_object().bucket(BUCKET).key("k");
    assert!(get().if_match(&etag).send().await.is_ok());
    assert_eq!(refusal(get().if_match("\"other\"").send()).await.0, 412);
    assert_eq!(refusal(get().if_none_match(&etag).send()).await.0, 304);
    assert!(get().if_none_match("\"other\"").send().await.is_ok());
    let head = server.client.head_object().bucket(BUCKET).key("k");
    let modified = head.clone().send().await.unwrap().last_modified.unwrap();
    assert_eq!(
        refusal(head.if_modified_since(modified).send()).await.0,
        304
    );
    let before = DateTime::from_secs(modified.secs() - 1);
    assert_eq!(
        refusal(get().if_unmodified_since(before).send()).await.0,
        412
    );
}

#[tokio::test]
async fn checksums_are_verified_and_given_back() {
    let server = Server::start().await;
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha256,
    ] {
        let put = server
            .client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .body(b"hello".to_vec().into());
        put.checksum_algorithm(algorithm.clone())
            .send()
            .await
            .unwrap();
        let head = server
            .client
            .head_object()
            .bucket(BUCKET)
            .key("k")
            .checksum_mode(ChecksumMode::Enabled);
        let head = head.send().await.unwrap();
        let sum = match algorithm {
            ChecksumAlgorithm::Crc32 => head.checksum_crc32,
            ChecksumAlgorithm::Crc32C => head.checksum_crc32_c,
            ChecksumAlgorithm::Crc64Nvme => head.checksum_crc64_nvme,
            _ => head.checksum_sha256,
        };
        assert!(sum.is_some(), "{algorithm:?}");
    }
    let put = || {
        server
            .client
            .put_object()
            .bucket(BUCKET)
            .key("wrong")
            .body(b"hello".to_vec().into())
    };
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(
        refusal(put().checksum_sha256(zeros).send()).await,
        (400, "BadDigest".into())
    );
    assert_eq!(
        refusal(put().checksum_crc32("AAAAAA==").send()).await,
        (400, "BadDigest".into())
    );
    let md5 = "AAAAAAAAAAAAAAAAAAAAAA==";
    assert_eq!(
        refusal(put().content_md5(md5).send()).await,
        (400, "BadDigest".into())
    );
    let head = server
        .client
        .head_object()
        .bucket(BUCKET)
        .key("wrong")
        .send();
    assert_eq!(refusal(head).await.0, 404);
    assert_eq!(server.drafts(), 0);
}

#[tokio::test]
async fn a_streamed_body_brings_its_checksum_behind_it() {
    let server = Server::start().await;
    let path = server.folder.path().join("big");
    let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &data).unwrap();
    let put = server
        .client
        .put_object()
        .bucket(BUCKET)
        .key("big")
        .checksum_algorithm(ChecksumAlgorithm::Sha256);
    let put = put
        .body(ByteStream::from_path(&path).await.unwrap())
        .send()
        .await
        .unwrap();
    assert!(put.checksum_sha256.is_some());
    assert!(server.get("big").await == data);
}
