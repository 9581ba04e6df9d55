//! `/openapi.json` and `/docs`.

use axum::Json;
use axum::response::{Html, Redirect};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::error::Problem;
use super::{batches, health, jobs, keys, leases, uploads};

#[derive(OpenApi)]
#[openapi(
    info(title = "upres", description = "Bulk image super-resolution as a job queue."),
    paths(
        jobs::submit, jobs::list, jobs::read, jobs::result, jobs::cancel, jobs::retry, jobs::explain,
        batches::submit, batches::list, batches::read, batches::change, batches::jobs, batches::report, batches::pause,
        batches::resume, batches::cancel, batches::retry_failed, uploads::create,
        keys::create, keys::list, keys::revoke, leases::claim, leases::heartbeat,
        leases::complete, leases::fail, leases::release, health::healthz, health::readyz,
        health::metrics
    ),
    components(schemas(Problem)),
    modifiers(&BearerKey),
    tags(
        (name = "jobs", description = "Submit images and follow them"),
        (name = "batches", description = "Submit many images at once"),
        (name = "keys", description = "API keys"),
        (name = "leases", description = "The workers' own door"),
        (name = "operation", description = "For probes and dashboards")
    )
)]
struct Api;

struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("key", scheme);
    }
}

/// The API's description, OpenAPI 3.1.
pub async fn openapi() -> Json<Document> {
    Json(Api::openapi())
}

/// Whoever opens the bare address is shown what there is.
pub async fn front() -> Redirect {
    Redirect::to("/docs")
}

/// The same for people: one page, no foreign scripts.
pub async fn page() -> Html<&'static str> {
    Html(include_str!("docs.html"))
}
