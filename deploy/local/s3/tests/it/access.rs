//! Who gets in, and with what.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{BUCKET, Server, client, refusal};

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let server = Server::start().await;
    let stranger = client(&server.endpoint, "guess");
    let get = stranger.get_object().bucket(BUCKET).key("k").send();
    assert_eq!(refusal(get).await, (403, "SignatureDoesNotMatch".into()));
}

#[tokio::test]
async fn presigned_addresses_need_no_keys_and_cannot_be_changed() {
    let server = Server::start().await;
    let hour = PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap();
    let put = server
        .client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .presigned(hour.clone())
        .await
        .unwrap();
    assert_eq!(plain_http("PUT", put.uri(), "hello").await.0, 200);
    let get = server
        .client
        .get_object()
        .bucket(BUCKET)
        .key("k")
        .presigned(hour)
        .await
        .unwrap();
    assert_eq!(
        plain_http("GET", get.uri(), "").await,
        (200, "hello".into())
    );
    let other = get.uri().replace("/k?", "/other?");
    assert_eq!(plain_http("GET", &other, "").await.0, 403);
    let longer = get
        .uri()
        .replace("X-Amz-Expires=3600", "X-Amz-Expires=36000");
    assert_eq!(plain_http("GET", &longer, "").await.0, 403);
}

/// A request by hand, as by a client that knows nothing of S3.
async fn plain_http(method: &str, uri: &str, body: &str) -> (u16, String) {
    let (host, path) = uri
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}
