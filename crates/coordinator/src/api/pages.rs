//! What is made for people: the console at `/`, and the style that all pages share. The files lie in
//! `src/console/` and are part of the program; nothing is fetched from anywhere else.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// Name, media type, content.
type Asset = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [Asset; 10] = [
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("../console/style.css"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_str!("../console/icon.svg"),
    ),
    ("main.js", SCRIPT, include_str!("../console/main.js")),
    ("api.js", SCRIPT, include_str!("../console/api.js")),
    ("dom.js", SCRIPT, include_str!("../console/dom.js")),
    ("jobs.js", SCRIPT, include_str!("../console/jobs.js")),
    ("job.js", SCRIPT, include_str!("../console/job.js")),
    ("batches.js", SCRIPT, include_str!("../console/batches.js")),
    ("workers.js", SCRIPT, include_str!("../console/workers.js")),
    ("docs.js", SCRIPT, include_str!("../console/docs.js")),
];

/// The console.
pub async fn console() -> Response {
    page(include_str!("../console/index.html"))
}

/// The API for people.
pub async fn docs() -> Response {
    page(include_str!("../console/docs.html"))
}

fn page(html: &'static str) -> Response {
    let media_type = HeaderValue::from_static("text/html; charset=utf-8");
    ([(header::CONTENT_TYPE, media_type)], html).into_response()
}

/// A part of a page.
pub async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = ASSETS.iter().find(|(known, ..)| *known == name);
    let (_, media_type, content) = found.ok_or(ApiError::NotFound("there is no such file"))?;
    let headers = [
        (header::CONTENT_TYPE, *media_type),
        // A coordinator of another version may serve another.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, *content).into_response())
}

/// Sets what browsers are to hold pages to: own scripts and styles only, pictures from the object store
/// besides, never inside a frame; and no answer is ever taken for something else than it says.
pub async fn guard(
    State(policy): State<HeaderValue>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let html = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if html {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    response
}

/// The policy for pages of a deployment whose pictures come from this endpoint; empty: from AWS.
#[must_use]
pub fn content_policy(s3_endpoint: &str) -> HeaderValue {
    let pictures = origin(s3_endpoint).unwrap_or("https://*.amazonaws.com");
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
        img-src 'self' {pictures}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Scheme, host and port, if the address is made of nothing that a policy could be broken with.
fn origin(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let harmless = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let sound =
        ["http", "https"].contains(&scheme) && !host.is_empty() && host.chars().all(harmless);
    sound.then(|| &url[..scheme.len() + 3 + host.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_from_the_object_store_and_nothing_breaks_the_policy() {
        let policy = |endpoint| content_policy(endpoint).to_str().unwrap().to_owned();
        assert!(
            policy("http://127.0.0.1:9000/x").contains("img-src 'self' http://127.0.0.1:9000;")
        );
        assert!(policy("").contains("img-src 'self' https://*.amazonaws.com;"));
        let broken = policy("http://a; script-src *");
        assert!(!broken.contains("script-src *"), "{broken}");
    }

    #[test]
    fn pages_hold_nothing_that_their_policy_forbids() {
        for page in [
            include_str!("../console/index.html"),
            include_str!("../console/docs.html"),
        ] {
            assert!(!page.contains("<style") && !page.contains("style="));
            let is_listener = |word: &str| word.starts_with("on") && word.contains('=');
            assert!(!page.split_whitespace().any(is_listener));
            let scripts = page.matches("<script").count();
            assert_eq!(scripts, page.matches("src=\"/console/").count());
        }
        for (name, _, content) in ASSETS {
            for markup in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!content.contains(markup), "{name} makes markup of text");
            }
        }
    }
}
