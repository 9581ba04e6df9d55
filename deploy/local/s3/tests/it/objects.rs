//! What is put is what is there.

use aws_sdk_s3::types::{Delete, MetadataDirective, ObjectIdentifier};

use crate::harness::{BUCKET, Server, refusal};

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let server = Server::start().await;
    let put = server
        .client
        .put_object()
        .bucket(BUCKET)
        .key("a/b.png")
        .body(b"hello".to_vec().into());
    let put = put
        .content_type("image/png")
        .cache_control("no-store")
        .metadata("scan", "12")
        .send()
        .await
        .unwrap();
    assert_eq!(
        put.e_tag.as_deref(),
        Some("\"5d41402abc4b2a76b9719d911017c592\"")
    );

    let got = server
        .client
        .get_object()
        .bucket(BUCKET)
        .key("a/b.png")
        .send()
        .await
        .unwrap();
    assert_eq!(got.content_type.as_deref(), Some("image/png"));
    assert_eq!(got.cache_control.as_deref(), Some("no-store"));
    assert_eq!(got.metadata.as_ref().unwrap()["scan"], "12");
    assert_eq!(got.content_length, Some(5));
    assert_eq!(got.e_tag, put.e_tag);
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"hello");

    let head = server
        .client
        .head_object()
        .bucket(BUCKET)
        .key("a/b.png")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length, Some(5));
    assert_eq!(head.metadata.unwrap()["scan"], "12");
    assert_eq!(server.drafts(), 0);
}

#[tokio::test]
async fn any_key_will_do() {
    let server = Server::start().await;
    let long = "長".repeat(300);
    let keys = [
        "..",
        "../../etc/passwd",
        "a//b",
        "a/",
        "a b+c%2F&?#",
        "ß/é.tif",
        long.as_str(),
    ];
    for key in keys {
        server
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(key.as_bytes().to_vec().into())
            .send()
            .await
            .unwrap();
    }
    for key in keys {
        assert_eq!(server.get(key).await, key.as_bytes(), "{key}");
    }
    let listed = server
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(
        listed
            .contents()
            .iter()
            .filter_map(|it| it.key())
            .collect::<Vec<_>>(),
        sorted
    );
}

#[tokio::test]
async fn objects_outlive_a_restart_and_leftovers_do_not() {
    let server = Server::start().await;
    server.put("kept", b"data").await;
    std::fs::write(server.folder.path().join("drafts/half"), b"ha").unwrap();
    let server = server.restart().await;
    assert_eq!(server.get("kept").await, b"data");
    assert_eq!(server.drafts(), 0);
}

#[tokio::test]
async fn a_copy_keeps_or_replaces_the_metadata() {
    let server = Server::start().await;
    let put = server
        .client
        .put_object()
        .bucket(BUCKET)
        .key("from")
        .metadata("a", "1")
        .body(b"data".to_vec().into());
    let etag = put.content_type("text/x").send().await.unwrap().e_tag;
    let copy = || {
        server
            .client
            .copy_object()
            .bucket(BUCKET)
            .copy_source(format!("{BUCKET}/from"))
    };
    copy().key("to").send().await.unwrap();
    copy()
        .key("new")
        .metadata_directive(MetadataDirective::Replace)
        .metadata("b", "2")
        .send()
        .await
        .unwrap();
    let head = |key: &str| server.client.head_object().bucket(BUCKET).key(key).send();
    let (to, new) = (head("to").await.unwrap(), head("new").await.unwrap());
    assert_eq!(to.content_type.as_deref(), Some("text/x"));
    assert_eq!(to.metadata.as_ref().unwrap()["a"], "1");
    assert_eq!(to.e_tag, etag);
    assert_eq!(
        new.metadata.unwrap().into_iter().collect::<Vec<_>>(),
        [("b".into(), "2".into())]
    );
    assert_eq!(server.get("new").await, b"data");
    assert_eq!(
        refusal(copy().key("x").copy_source(format!("{BUCKET}/none")).send())
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn deleting_what_is_not_there_is_no_error() {
    let server = Server::start().await;
    server.put("a", b"").await;
    server.put("b", b"").await;
    let full = server.client.delete_bucket().bucket(BUCKET).send();
    assert_eq!(refusal(full).await, (409, "BucketNotEmpty".into()));
    server
        .client
        .delete_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    server
        .client
        .delete_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    let ids = ["b", "c"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder()
        .set_objects(Some(ids.into()))
        .build()
        .unwrap();
    let gone = server
        .client
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!(gone.deleted().len(), 2);
    server
        .client
        .delete_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let head = server.client.head_bucket().bucket(BUCKET).send();
    assert_eq!(refusal(head).await.0, 404);
    let put = server.client.put_object().bucket(BUCKET).key("a").send();
    assert_eq!(refusal(put).await, (404, "NoSuchBucket".into()));
}

#[tokio::test]
async fn buckets_are_listed_and_made_once() {
    let server = Server::start().await;
    server
        .client
        .create_bucket()
        .bucket("derivatives")
        .send()
        .await
        .unwrap();
    let again = server.client.create_bucket().bucket(BUCKET).send();
    assert_eq!(
        refusal(again).await,
        (409, "BucketAlreadyOwnedByYou".into())
    );
    let listed = server.client.list_buckets().send().await.unwrap();
    let names: Vec<_> = listed
        .buckets()
        .iter()
        .filter_map(|bucket| bucket.name())
        .collect();
    assert_eq!(names, ["derivatives", BUCKET]);
}
