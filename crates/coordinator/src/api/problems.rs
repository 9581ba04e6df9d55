//! `/problems/{slug}`: every type of problem, documented where its URI leads.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Html;

use super::error::ApiError;

/// A type of problem: what programs look at, and what people read.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The last part of its URI.
    pub slug: &'static str,
    /// The status it comes with.
    pub status: StatusCode,
    /// The same for every problem of the type.
    pub title: &'static str,
    /// What it means, and what to do about it.
    pub help: &'static str,
}

pub const MALFORMED: Kind = Kind {
    slug: "malformed-request",
    status: StatusCode::BAD_REQUEST,
    title: "The request cannot be read",
    help: "The body is no JSON, has another shape than the call expects, or holds a field that it does \
        not know; or the query string cannot be read. <code>errors</code> names the field where there \
        is one. Mend the request: sent again as it is, it fails again.",
};
pub const UNAUTHENTICATED: Kind = Kind {
    slug: "unauthenticated",
    status: StatusCode::UNAUTHORIZED,
    title: "A valid API key is needed",
    help: "Send <code>Authorization: Bearer upres_&lt;id&gt;_&lt;secret&gt;</code>. The key is missing, \
        unknown, revoked, or past its end.",
};
pub const FORBIDDEN: Kind = Kind {
    slug: "forbidden",
    status: StatusCode::FORBIDDEN,
    title: "This key may not do that",
    help: "The key is valid, but lacks the scope that the call needs, or its prefixes do not cover the \
        objects that the request names. Use another key, or have one made.",
};
pub const NOT_FOUND: Kind = Kind {
    slug: "not-found",
    status: StatusCode::NOT_FOUND,
    title: "There is no such thing",
    help: "Nothing in the key's tenant has this id, or the address itself is wrong. What other tenants \
        have looks the same as what nobody has.",
};
pub const METHOD: Kind = Kind {
    slug: "method-not-allowed",
    status: StatusCode::METHOD_NOT_ALLOWED,
    title: "This method is not for this address",
    help: "The address exists, but takes other methods: the <code>Allow</code> header names them, and \
        <a href=\"/docs\">/docs</a> what they do.",
};
pub const CONFLICT: Kind = Kind {
    slug: "conflict",
    status: StatusCode::CONFLICT,
    title: "The present state does not allow it",
    help: "The job has gone on since, an object stands under the output's address, or a request with the \
        same <code>Idempotency-Key</code> is under way. Read the job again, or choose another address; \
        <code>detail</code> and <code>errors</code> say which.",
};
pub const TOO_LARGE: Kind = Kind {
    slug: "body-too-large",
    status: StatusCode::PAYLOAD_TOO_LARGE,
    title: "The body is too large",
    help: "A request has at most 1 MiB. Split it, or put a manifest into a bucket.",
};
pub const MEDIA_TYPE: Kind = Kind {
    slug: "unsupported-media-type",
    status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
    title: "The body is not said to be JSON",
    help: "Send <code>Content-Type: application/json</code>.",
};
pub const INVALID: Kind = Kind {
    slug: "invalid-request",
    status: StatusCode::UNPROCESSABLE_ENTITY,
    title: "The request is not acceptable",
    help: "It can be read, but holds values that cannot be accepted. <code>errors</code> names each: \
        <code>pointer</code> is a JSON pointer into the body (or the name of a header or parameter), \
        <code>detail</code> says what is wrong and what to do.",
};
pub const TOO_MANY: Kind = Kind {
    slug: "too-many-requests",
    status: StatusCode::TOO_MANY_REQUESTS,
    title: "This tenant's limit is reached",
    help: "The tenant submits faster, or has more waiting, than it may; <code>detail</code> says which. Nothing \
        was done: wait as long as <code>Retry-After</code> says, then send the same request. A batch takes many \
        images with one.",
};
pub const UNAVAILABLE: Kind = Kind {
    slug: "unavailable",
    status: StatusCode::SERVICE_UNAVAILABLE,
    title: "A service is away for now",
    help: "The database or the object store does not answer. Nothing was done, or asking again is safe: \
        wait as long as <code>Retry-After</code> says, then send the same request.",
};
pub const INTERNAL: Kind = Kind {
    slug: "internal",
    status: StatusCode::INTERNAL_SERVER_ERROR,
    title: "The coordinator failed",
    help: "The fault is the coordinator's, and its log has the cause. Trying again is safe.",
};

/// Every type there is.
pub const ALL: [Kind; 12] = [
    MALFORMED,
    UNAUTHENTICATED,
    FORBIDDEN,
    NOT_FOUND,
    METHOD,
    CONFLICT,
    TOO_LARGE,
    MEDIA_TYPE,
    INVALID,
    TOO_MANY,
    UNAVAILABLE,
    INTERNAL,
];

/// Every type, on one page.
pub async fn index() -> Html<String> {
    page("Problems", &ALL)
}

/// One type.
pub async fn one(Path(slug): Path<String>) -> Result<Html<String>, ApiError> {
    let kind = ALL.into_iter().find(|kind| kind.slug == slug);
    let kind = kind.ok_or(ApiError::NotFound("there is no such type of problem"))?;
    Ok(page(kind.title, &[kind]))
}

/// Made of this file's own words alone, so there is nothing to escape.
fn page(title: &str, kinds: &[Kind]) -> Html<String> {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <title>{title} · upres</title>\n<link rel=\"icon\" href=\"/console/icon.svg\" type=\"image/svg+xml\">\n<link rel=\"stylesheet\" href=\"/console/style.css\">\n\
        <main class=\"text\">\n<h1>{title}</h1>\n"
    );
    for kind in kinds {
        let Kind {
            slug, title, help, ..
        } = kind;
        html.push_str(&format!(
            "<h2 id=\"{slug}\">{title}</h2>\n<p><code>/problems/{slug}</code>, status {}</p>\n<p>{help}</p>\n",
            kind.status.as_u16()
        ));
    }
    html.push_str("<p><a href=\"/problems\">All problems</a> · <a href=\"/docs\">API</a></p>\n</main>\n</html>\n");
    Html(html)
}
