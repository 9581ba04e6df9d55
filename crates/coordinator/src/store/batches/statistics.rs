//! What a batch's jobs say, counted from their rows in one pass.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use upres_common::batch::BatchId;
use upres_common::batch::view::Counts;

use super::super::{StoreError, in_seconds};

/// Minutes that the pace is measured over.
pub const PACE_MINUTES: i32 = 30;

/// A batch's jobs in figures.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Jobs by state.
    pub counts: Counts,
    /// Failed ones by the type of their error.
    pub errors: BTreeMap<String, i64>,
    /// Tile-steps of those that succeeded: what failed took few of its steps, or none.
    pub done: i64,
    /// Of those that have not ended; where a header was not read yet, the mean of those that were.
    pub left: i64,
    /// When the first of them was started, of each the last time.
    pub started_at: Option<DateTime<Utc>>,
    /// Tile-steps of what succeeded in each of the last minutes, the latest first; index 0 is the minute
    /// that goes on.
    pub by_minute: BTreeMap<i32, i64>,
    /// When they were counted, by the database's clock.
    pub at: DateTime<Utc>,
}

/// Reads all jobs of the batch, whatever their number: some tenths of a second for hundreds of thousands.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn statistics(conn: &mut PgConnection, id: BatchId) -> Result<Statistics, StoreError> {
    let rows = sqlx::query!(
        r#"
        select state, error_type, minute, count(*) as "jobs!",
            count(cost) as "priced!", coalesce(sum(cost), 0)::bigint as "cost!",
            min(started_at) as started_at
        from (
            select state, cost, started_at,
                case when state = 'failed' then error ->> 'type' end as error_type,
                case
                    when state = 'succeeded' and finished_at > now() - make_interval(mins => $2)
                    then floor(extract(epoch from now() - finished_at) / 60)::integer
                end as minute
            from jobs
            where batch_id = $1
        ) as seen
        group by state, error_type, minute"#,
        id.0,
        PACE_MINUTES,
    );
    let mut statistics = Statistics {
        at: in_seconds(conn, 0.0).await?,
        ..Statistics::default()
    };
    let (mut priced, mut cost, mut unpriced) = (0, 0, 0);
    for row in rows.fetch_all(conn).await? {
        let counts = &mut statistics.counts;
        let (count, ended) = match row.state.as_str() {
            "scheduled" => (&mut counts.scheduled, false),
            "queued" => (&mut counts.queued, false),
            "running" => (&mut counts.running, false),
            "succeeded" => (&mut counts.succeeded, true),
            "failed" => (&mut counts.failed, true),
            "cancelled" => (&mut counts.cancelled, true),
            _ => (&mut counts.expired, true),
        };
        *count += row.jobs;
        priced += row.priced;
        cost += row.cost;
        if row.state == "succeeded" {
            statistics.done += row.cost;
        } else if !ended {
            statistics.left += row.cost;
            unpriced += row.jobs - row.priced;
        }
        statistics.started_at = statistics
            .started_at
            .into_iter()
            .chain(row.started_at)
            .min();
        if let Some(error_type) = row.error_type {
            *statistics.errors.entry(error_type).or_default() += row.jobs;
        }
        if let Some(minute) = row.minute {
            *statistics.by_minute.entry(minute).or_default() += row.cost;
        }
    }
    if priced > 0 {
        let guess = i128::from(cost) * i128::from(unpriced) / i128::from(priced);
        statistics.left += i64::try_from(guess).unwrap_or(i64::MAX);
    }
    Ok(statistics)
}
