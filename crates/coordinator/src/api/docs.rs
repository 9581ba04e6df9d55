//! `/openapi.json`.

use axum::Json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::error::Problem;
use super::{
    audit, batch_events, batch_follow, batches, events, follow, health, jobs, keys, leases, links,
    scaling, uploads, webhooks, workers,
};

const PROBLEM: &str = "application/problem+json";

#[derive(OpenApi)]
#[openapi(
    info(title = "upres", description = "Bulk image super-resolution as a job queue."),
    paths(
        jobs::submit, jobs::list, follow::read, follow::lookup, events::follow, jobs::result,
        jobs::cancel, jobs::retry, jobs::explain, links::read, workers::list,
        batches::submit, batches::list, batch_follow::read, batches::change, batches::jobs, batches::report, batches::pause,
        batches::resume, batches::cancel, batches::retry_failed, batch_events::follow,
        uploads::create,
        webhooks::make_secret, webhooks::list_secrets, webhooks::end_secret,
        webhooks::list, webhooks::read, webhooks::replay,
        keys::create, keys::list, keys::rotate, keys::revoke, audit::list,
        leases::claim, leases::heartbeat,
        leases::complete, leases::fail, leases::release, health::healthz, health::readyz,
        health::metrics, scaling::scaling
    ),
    components(schemas(Problem)),
    modifiers(&BearerKey, &Problems),
    tags(
        (name = "jobs", description = "Submit images and follow them"),
        (name = "batches", description = "Submit many images at once"),
        (name = "webhooks", description = "Being told of a job's end: signed by the Standard Webhooks specification, retried over three days"),
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

/// Every call may be answered with a problem, and a problem has a type of its own.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        for (path, item) in &mut document.paths.paths {
            let calls = [
                &mut item.get,
                &mut item.post,
                &mut item.patch,
                &mut item.delete,
            ];
            for call in calls.into_iter().flatten() {
                let responses = &mut call.responses.responses;
                for (status, response) in responses.iter_mut() {
                    if let RefOr::T(response) = response
                        && !status.starts_with('2')
                        && let Some(problem) = response.content.shift_remove("application/json")
                    {
                        response.content.insert(PROBLEM.to_owned(), problem);
                    }
                }
                if path.starts_with("/v1/") {
                    responses.insert("default".to_owned(), RefOr::T(any_problem()));
                }
            }
        }
    }
}

fn any_problem() -> Response {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    ResponseBuilder::new()
        .description("A problem; /problems lists the types")
        .content(PROBLEM, Content::new(Some(schema)))
        .build()
}

/// The API's description, OpenAPI 3.1.
#[must_use]
pub fn description() -> Document {
    Api::openapi()
}

/// `/openapi.json`.
pub async fn openapi() -> Json<Document> {
    Json(description())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described() {
        let router = include_str!("mod.rs");
        let routes = router.split(".route(").skip(1);
        let routes = routes.map(|route| route.split('"').nth(1).unwrap_or_default());
        // Pages for people.
        let pages = |path: &str| {
            ["/openapi.json", "/docs", "/"].contains(&path)
                || path.starts_with("/problems")
                || path.starts_with("/console/")
        };
        let routes: BTreeSet<_> = routes.filter(|path| !pages(path)).collect();
        let api = description();
        let described: BTreeSet<_> = api.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(routes, described);
    }

    #[test]
    fn the_description_that_is_checked_in_is_this_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        let present = description().to_pretty_json().unwrap();
        assert!(
            kept.trim_end() == present,
            "docs/openapi.json is out of date: upres-coordinator openapi > docs/openapi.json"
        );
    }
}
