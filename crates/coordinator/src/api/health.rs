//! `/healthz`, `/readyz`, `/metrics`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use crate::store::{listing, within_patience};

/// A database that takes longer is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, description = "It lives")))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The process can take requests: the database answers. The broker need not: what is accepted while
/// it is away is sent when it is back.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, description = "Ready"), (status = 503, description = "The database does not answer")))]
pub async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    let ask = sqlx::query("select 1").execute(&app.pool);
    match tokio::time::timeout(READY_TIMEOUT, ask).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n"),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer\n",
        ),
    }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text"), (status = 503, description = "The database does not answer: no figures rather than stale ones")))]
pub async fn metrics(State(app): State<App>) -> Result<String, (StatusCode, &'static str)> {
    let away = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the database does not answer\n",
    );
    let backlog = within_patience(async {
        let mut conn = app.pool.acquire().await?;
        listing::backlog(&mut conn).await
    });
    let backlog = backlog.await.map_err(|_| away)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "gauges are floating-point numbers"
    )]
    let count = |n: i64| n as f64;
    metrics::gauge!("upres_jobs_waiting").set(count(backlog.waiting));
    metrics::gauge!("upres_jobs_running").set(count(backlog.running));
    metrics::gauge!("upres_oldest_wait_seconds").set(backlog.oldest_secs);
    metrics::gauge!("upres_database_connections").set(f64::from(app.pool.size()));
    Ok(app.metrics.render())
}
