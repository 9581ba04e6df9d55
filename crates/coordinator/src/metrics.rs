//! Metrics: names, and the recorder behind `/metrics`.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Installs the recorder and describes what is counted.
///
/// # Errors
/// When the process has a recorder already.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    metrics::describe_counter!("upres_jobs_total", "Jobs that reached an end, by outcome");
    metrics::describe_counter!(
        "upres_jobs_submitted_total",
        "Jobs accepted, those of batches too"
    );
    metrics::describe_counter!("upres_batches_submitted_total", "Batches accepted");
    metrics::describe_counter!(
        "upres_batches_finished_total",
        "Batches that reached an end"
    );
    metrics::describe_counter!(
        "upres_wakeups_sent_total",
        "Wake-ups published to the broker"
    );
    metrics::describe_counter!("upres_wakeups_resent_total", "Wake-ups that seemed lost");
    metrics::describe_counter!(
        "upres_wakeups_dead_total",
        "Messages that the broker gave up, by reason"
    );
    metrics::describe_counter!(
        "upres_leases_lapsed_total",
        "Leases that lapsed without a word"
    );
    metrics::describe_counter!(
        "upres_listening_begun_total",
        "Connections to the database over which changes were listened for"
    );
    metrics::describe_gauge!(
        "upres_jobs_waiting",
        "Jobs that wait for a worker; every coordinator tells the same number"
    );
    metrics::describe_gauge!(
        "upres_jobs_running",
        "Jobs under a lease; every coordinator tells the same number"
    );
    metrics::describe_gauge!(
        "upres_oldest_wait_seconds",
        "Age of the oldest due job; every coordinator tells the same number"
    );
    metrics::describe_gauge!("upres_database_connections", "Open database connections");
    Ok(handle)
}
