//! Objects that arrive in parts.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::harness::{BUCKET, Server, count, refusal};

async fn begin(server: &Server, key: &str) -> String {
    let begin = server
        .client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key);
    begin
        .content_type("image/tiff")
        .metadata("scan", "7")
        .send()
        .await
        .unwrap()
        .upload_id
        .unwrap()
}

async fn part(server: &Server, key: &str, id: &str, number: i32, data: &[u8]) -> CompletedPart {
    let part = server
        .client
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .part_number(number);
    let etag = part
        .body(data.to_vec().into())
        .send()
        .await
        .unwrap()
        .e_tag
        .unwrap();
    CompletedPart::builder()
        .part_number(number)
        .e_tag(etag)
        .build()
}

fn complete(
    server: &Server,
    key: &str,
    id: &str,
    parts: &[CompletedPart],
) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder
{
    let named = CompletedMultipartUpload::builder()
        .set_parts(Some(parts.to_vec()))
        .build();
    let complete = server
        .client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id);
    complete.multipart_upload(named)
}

#[tokio::test]
async fn parts_become_one_object_in_order() {
    let server = Server::start().await;
    let id = begin(&server, "big").await;
    // Sent out of order, one of them twice.
    let second = part(&server, "big", &id, 2, b"world").await;
    part(&server, "big", &id, 1, b"other").await;
    let first = part(&server, "big", &id, 1, b"hello ").await;
    assert_eq!(
        refusal(server.client.head_object().bucket(BUCKET).key("big").send())
            .await
            .0,
        404
    );

    let done = complete(&server, "big", &id, &[first, second])
        .send()
        .await
        .unwrap();
    let etag = done.e_tag.unwrap();
    assert!(etag.ends_with("-2\""), "{etag}");
    let got = server
        .client
        .get_object()
        .bucket(BUCKET)
        .key("big")
        .send()
        .await
        .unwrap();
    assert_eq!(got.e_tag, Some(etag));
    assert_eq!(got.content_type.as_deref(), Some("image/tiff"));
    assert_eq!(got.metadata.as_ref().unwrap()["scan"], "7");
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"hello world");
    assert_eq!(server.drafts(), 0);
    assert_eq!(
        count(
            &server
                .folder
                .path()
                .join("buckets")
                .join(BUCKET)
                .join("uploads")
        ),
        0
    );
}

#[tokio::test]
async fn an_upload_is_completed_once() {
    let server = Server::start().await;
    let id = begin(&server, "k").await;
    let parts = [part(&server, "k", &id, 1, b"data").await];
    complete(&server, "k", &id, &parts).send().await.unwrap();
    let again = complete(&server, "k", &id, &parts).send();
    assert_eq!(refusal(again).await, (404, "NoSuchUpload".into()));
    let unknown = complete(&server, "k", "../../x", &parts).send();
    assert_eq!(refusal(unknown).await, (404, "NoSuchUpload".into()));
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused_and_the_upload_stays() {
    let server = Server::start().await;
    let id = begin(&server, "k").await;
    let (one, two) = (
        part(&server, "k", &id, 1, b"1").await,
        part(&server, "k", &id, 2, b"2").await,
    );
    let swapped = complete(&server, "k", &id, &[two.clone(), one.clone()]).send();
    assert_eq!(refusal(swapped).await, (400, "InvalidPartOrder".into()));
    let stale = CompletedPart::builder()
        .part_number(1)
        .e_tag(two.e_tag().unwrap())
        .build();
    let stale = complete(&server, "k", &id, &[stale]).send();
    assert_eq!(refusal(stale).await, (400, "InvalidPart".into()));
    let other = complete(&server, "other", &id, &[one.clone(), two.clone()]).send();
    assert_eq!(refusal(other).await, (404, "NoSuchUpload".into()));
    complete(&server, "k", &id, &[one, two])
        .send()
        .await
        .unwrap();
    assert_eq!(server.get("k").await, b"12");
}

#[tokio::test]
async fn completion_can_insist_on_a_free_name() {
    let server = Server::start().await;
    server.put("k", b"first").await;
    let id = begin(&server, "k").await;
    let parts = [part(&server, "k", &id, 1, b"second").await];
    let taken = complete(&server, "k", &id, &parts)
        .if_none_match("*")
        .send();
    assert_eq!(refusal(taken).await, (412, "PreconditionFailed".into()));
    assert_eq!(server.get("k").await, b"first");
    server
        .client
        .delete_object()
        .bucket(BUCKET)
        .key("k")
        .send()
        .await
        .unwrap();
    complete(&server, "k", &id, &parts)
        .if_none_match("*")
        .send()
        .await
        .unwrap();
    assert_eq!(server.get("k").await, b"second");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let server = Server::start().await;
    let id = begin(&server, "k").await;
    part(&server, "k", &id, 1, b"data").await;
    let abort = || {
        server
            .client
            .abort_multipart_upload()
            .bucket(BUCKET)
            .key("k")
            .upload_id(&id)
    };
    abort().send().await.unwrap();
    assert_eq!(refusal(abort().send()).await, (404, "NoSuchUpload".into()));
    let late = server
        .client
        .upload_part()
        .bucket(BUCKET)
        .key("k")
        .upload_id(&id)
        .part_number(2)
        .send();
    assert_eq!(refusal(late).await, (404, "NoSuchUpload".into()));
    assert_eq!(server.drafts(), 0);
}

#[tokio::test]
async fn parts_and_uploads_are_listed_in_pages() {
    let server = Server::start().await;
    let ids = [
        begin(&server, "a/1").await,
        begin(&server, "a/2").await,
        begin(&server, "b").await,
    ];
    for number in [3, 1, 2] {
        part(&server, "a/1", &ids[0], number, b"data").await;
    }
    let list = || {
        server
            .client
            .list_parts()
            .bucket(BUCKET)
            .key("a/1")
            .upload_id(&ids[0])
    };
    let page = list().max_parts(2).send().await.unwrap();
    assert_eq!(
        page.parts()
            .iter()
            .filter_map(|part| part.part_number())
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(page.parts()[0].size(), Some(4));
    let page = list()
        .part_number_marker(page.next_part_number_marker.unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(page.parts().len(), 1);

    let list = || server.client.list_multipart_uploads().bucket(BUCKET);
    let under = list().prefix("a/").send().await.unwrap();
    assert_eq!(
        under
            .uploads()
            .iter()
            .filter_map(|it| it.key())
            .collect::<Vec<_>>(),
        ["a/1", "a/2"]
    );
    let page = list().max_uploads(2).send().await.unwrap();
    assert_eq!(page.is_truncated(), Some(true));
    let page = list()
        .key_marker(page.next_key_marker.unwrap())
        .upload_id_marker(page.next_upload_id_marker.unwrap());
    assert_eq!(page.send().await.unwrap().uploads()[0].key(), Some("b"));
}

#[tokio::test]
async fn an_upload_outlives_a_restart() {
    let server = Server::start().await;
    let id = begin(&server, "k").await;
    let parts = [part(&server, "k", &id, 1, b"data").await];
    let server = server.restart().await;
    complete(&server, "k", &id, &parts).send().await.unwrap();
    assert_eq!(server.get("k").await, b"data");
}
