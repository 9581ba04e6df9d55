//! Pages of keys.

use aws_sdk_s3::types::EncodingType;

use crate::harness::{BUCKET, Server, refusal};

async fn filled(keys: &[&str]) -> Server {
    let server = Server::start().await;
    for key in keys {
        server.put(key, b"x").await;
    }
    server
}

#[tokio::test]
async fn pages_follow_one_another_without_loss() {
    let keys: Vec<String> = (0..25).map(|n| format!("scan-{n:03}")).collect();
    let server = filled(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut pages = server
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .max_keys(10)
        .into_paginator()
        .send();
    let mut sizes = Vec::new();
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        sizes.push(page.key_count.unwrap());
        listed.extend(
            page.contents()
                .iter()
                .filter_map(|it| it.key().map(str::to_owned)),
        );
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(listed, keys);
}

#[tokio::test]
async fn a_delimiter_shows_folders() {
    let server = filled(&["a/1", "a/2", "a/b/3", "b/4", "c", "z"]).await;
    let list = || {
        server
            .client
            .list_objects_v2()
            .bucket(BUCKET)
            .delimiter("/")
    };
    let top = list().send().await.unwrap();
    assert_eq!(
        top.contents()
            .iter()
            .filter_map(|it| it.key())
            .collect::<Vec<_>>(),
        ["c", "z"]
    );
    let folders: Vec<_> = top
        .common_prefixes()
        .iter()
        .filter_map(|it| it.prefix())
        .collect();
    assert_eq!(folders, ["a/", "b/"]);

    let page = list().max_keys(1).send().await.unwrap();
    assert_eq!(page.common_prefixes()[0].prefix(), Some("a/"));
    let page = list()
        .max_keys(1)
        .continuation_token(page.next_continuation_token.unwrap());
    assert_eq!(
        page.send().await.unwrap().common_prefixes()[0].prefix(),
        Some("b/")
    );

    let inside = list().prefix("a/").send().await.unwrap();
    assert_eq!(inside.contents().len(), 2);
    assert_eq!(inside.common_prefixes()[0].prefix(), Some("a/b/"));
}

#[tokio::test]
async fn a_listing_starts_after_what_it_is_told() {
    let server = filled(&["a", "b", "c"]).await;
    let list = server
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .start_after("a")
        .send()
        .await
        .unwrap();
    assert_eq!(
        list.contents()
            .iter()
            .filter_map(|it| it.key())
            .collect::<Vec<_>>(),
        ["b", "c"]
    );
    let wrong = server
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .continuation_token("?")
        .send();
    assert_eq!(refusal(wrong).await.0, 400);
}

#[tokio::test]
async fn names_that_xml_cannot_hold_can_be_listed_encoded() {
    let server = filled(&["a\u{1}b/ü"]).await;
    let list = server
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .encoding_type(EncodingType::Url);
    let list = list.send().await.unwrap();
    assert_eq!(list.contents()[0].key(), Some("a%01b/%C3%BC"));
}
