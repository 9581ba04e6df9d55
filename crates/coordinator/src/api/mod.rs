//! The HTTP edge: parse, call one function, render.

mod audit;
mod batch_events;
mod batch_follow;
mod batches;
mod caller;
mod docs;
mod error;
mod events;
mod extract;
mod follow;
mod health;
mod jobs;
mod keys;
mod leases;
mod links;
mod pages;
mod problems;
mod scaling;
mod uploads;
mod webhooks;
mod workers;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use upres_common::lease::{Beat, ClaimRequest, Lease, Verdict};
use upres_common::objects::{ObjectStore, UriPrefix};

use crate::accept::Accept;
use crate::batch::view::Figures;
use crate::changes::Changes;
use crate::dispatch::Bell;
use crate::estimate::Estimate;
use crate::fail::Failures;
use crate::group::Group;
use crate::key_cache::KeyCache;
use crate::limits::Limits;
use crate::publish::Door;

pub use docs::description;
pub use pages::content_policy;

/// A request with a larger body is refused.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// From where a job can be gone on with: of a picture of many small tiles, and in thousands of parts, that is long.
const MAX_LEASE_BYTES: usize = 64 * 1024 * 1024;
/// A batch may hold ten thousand items.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Longer than a long poll, and than a publication that waits for the object store.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// What handlers need; handed to each request, so a clone of it is one pointer.
#[derive(Clone)]
pub struct App(Arc<Parts>);

impl App {
    /// The router's state.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// See [`App`].
pub struct Parts {
    /// The database.
    pub pool: PgPool,
    /// The object store.
    pub objects: ObjectStore,
    /// Wakes the relay.
    pub bell: Arc<Bell>,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// Keys that were checked a moment ago.
    pub keys: Arc<KeyCache>,
    /// What batches' jobs said a moment ago.
    pub figures: Arc<Figures>,
    /// Wakes those who wait for a job to change.
    pub changes: Arc<Changes>,
    /// Says when to ask again.
    pub estimate: Estimate,
    /// What each tenant may ask for.
    pub limits: Arc<Limits>,
    /// Tile-steps that one tenant may have with the workers.
    pub of_a_tenant: Option<i64>,
    /// Accepts jobs, grouped.
    pub accept: Accept,
    /// Interactive claims, grouped.
    pub claims: Group<ClaimRequest, Vec<Lease>>,
    /// Those of bulk, apart: nobody who is waited for stands behind them.
    pub bulk_claims: Group<ClaimRequest, Vec<Lease>>,
    /// Heartbeats, grouped.
    pub heartbeats: Group<Vec<Beat>, Vec<Verdict>>,
    /// Reports of failure, grouped.
    pub failures: Failures,
    /// Where results become visible.
    pub door: Door,
    /// Tile-steps a second of a worker, as long as none was measured.
    pub assumed_pace: f64,
    /// Whether webhooks may lead into private networks.
    pub private_webhooks: bool,
    /// What browsers are to hold pages to.
    pub content_policy: HeaderValue,
    /// Where clients' own files go.
    pub uploads: Option<UriPrefix>,
    /// What goes on without its request; waited for when the process stops.
    pub tasks: TaskTracker,
    /// Ends long polls when the process stops.
    pub stop: CancellationToken,
}

impl FromRef<App> for PgPool {
    fn from_ref(app: &App) -> Self {
        app.pool.clone()
    }
}

/// The workers' own.
fn lease_routes() -> Router<App> {
    let long = || DefaultBodyLimit::max(MAX_LEASE_BYTES);
    Router::new()
        .route("/v1/leases/claim", post(leases::claim))
        .route(
            "/v1/leases/heartbeat",
            post(leases::heartbeat).layer(long()),
        )
        .route("/v1/leases/complete", post(leases::complete).layer(long()))
        .route("/v1/leases/fail", post(leases::fail))
        .route("/v1/leases/release", post(leases::release).layer(long()))
}

/// All routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/jobs", post(jobs::submit).get(jobs::list))
        .route("/v1/jobs/lookup", post(follow::lookup))
        .route("/v1/jobs/{id}", get(follow::read))
        .route("/v1/jobs/{id}/events", get(events::follow))
        .route("/v1/jobs/{id}/result", get(jobs::result))
        .route("/v1/jobs/{id}/links", get(links::read))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/v1/jobs/{id}/explain", get(jobs::explain))
        .route(
            "/v1/batches",
            post(batches::submit)
                .layer(DefaultBodyLimit::max(MAX_BATCH_BYTES))
                .get(batches::list),
        )
        .route(
            "/v1/batches/{id}",
            get(batch_follow::read).patch(batches::change),
        )
        .route("/v1/batches/{id}/jobs", get(batches::jobs))
        .route("/v1/batches/{id}/report", get(batches::report))
        .route("/v1/batches/{id}/events", get(batch_events::follow))
        .route("/v1/batches/{id}/pause", post(batches::pause))
        .route("/v1/batches/{id}/resume", post(batches::resume))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/batches/{id}/retry-failed", post(batches::retry_failed))
        .route("/v1/uploads", post(uploads::create))
        .route(
            "/v1/webhooks/secrets",
            post(webhooks::make_secret).get(webhooks::list_secrets),
        )
        .route("/v1/webhooks/secrets/{id}", delete(webhooks::end_secret))
        .route("/v1/webhooks/deliveries", get(webhooks::list))
        .route("/v1/webhooks/deliveries/{id}", get(webhooks::read))
        .route(
            "/v1/webhooks/deliveries/{id}/replay",
            post(webhooks::replay),
        )
        .route("/v1/keys", post(keys::create).get(keys::list))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/v1/audit", get(audit::list))
        .route("/v1/workers", get(workers::list))
        .merge(lease_routes())
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/scaling", get(scaling::scaling))
        .route("/problems", get(problems::index))
        .route("/problems/{slug}", get(problems::one))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(pages::docs))
        .route("/console/{name}", get(pages::asset))
        .route("/", get(pages::console))
        .fallback(error::no_such_page)
        .method_not_allowed_fallback(error::no_such_method)
        // Together, the first outermost: each layer of its own would box every request once more.
        .layer((
            TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST_TIMEOUT),
            DefaultBodyLimit::max(MAX_BODY_BYTES),
            CatchPanicLayer::custom(error::panicked),
            from_fn_with_state(app.content_policy.clone(), pages::guard),
        ))
        .with_state(app)
}
