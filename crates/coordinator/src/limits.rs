//! What one tenant may ask for: jobs a second, and jobs that wait. Beyond it is 429 with the time to wait;
//! nothing is stored then. How much of a tenant's work runs at once is bounded where work is released.
//!
//! Each coordinator keeps its own account, so that behind n of them a tenant gets up to n times the rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use sqlx::PgPool;

use crate::config::LimitConfig;
use crate::store::{StoreError, outbox, within_patience};

/// Unused seconds that are saved up.
const BURST_SECS: f64 = 2.0;
/// A count of waiting jobs is good for so long.
const COUNT_FRESH: Duration = Duration::from_secs(1);
/// What a tenant with too many waiting jobs is told to wait.
const UNTIL_SOME_END: Duration = Duration::from_secs(10);
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Tenants that are remembered.
const REMEMBERED: usize = 10_000;

/// The accounts of all tenants.
#[derive(Debug)]
pub struct Limits {
    config: LimitConfig,
    accounts: Mutex<HashMap<String, Account>>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    /// Jobs that may be submitted at once.
    saved: f64,
    at: Instant,
    /// Jobs that waited when they were counted last.
    waiting: Option<(i64, Instant)>,
}

/// How a request stands to a limit of its tenant; for the `RateLimit` headers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// To that of submissions.
    Rate {
        /// Requests a second.
        rate: f64,
        /// Requests that may follow at once.
        remaining: u64,
    },
    /// To that of waiting jobs, which is reached.
    Waiting {
        /// Jobs that may wait.
        most: i64,
    },
}

impl Standing {
    /// As `RateLimit` headers.
    ///
    /// # Panics
    /// Never: numbers make a header.
    #[must_use]
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let text = |text: String| HeaderValue::from_str(&text).expect("numbers are harmless");
        let (policy, limit) = match self {
            Self::Rate { rate, remaining } => {
                let window = (1.0 / rate).max(1.0).ceil();
                let quota = (rate * window).floor().max(1.0);
                (
                    format!("\"submissions\";q={quota};w={window}"),
                    format!("\"submissions\";r={remaining};t={window}"),
                )
            }
            Self::Waiting { most } => {
                let wait = UNTIL_SOME_END.as_secs();
                (
                    format!("\"waiting\";q={most}"),
                    format!("\"waiting\";r=0;t={wait}"),
                )
            }
        };
        [(RATE_LIMIT_POLICY, text(policy)), (RATE_LIMIT, text(limit))]
    }
}

/// Why a request has to wait.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{detail}")]
pub struct TooMany {
    /// For a person.
    pub detail: String,
    /// When to ask again.
    pub retry_after: Duration,
    /// For the `RateLimit` headers.
    pub standing: Standing,
}

impl Limits {
    /// With nothing used yet.
    #[must_use]
    pub fn new(config: LimitConfig) -> Self {
        Self {
            config,
            accounts: Mutex::default(),
        }
    }

    /// Admits the submission of one job. `None` where no rate is set.
    ///
    /// # Errors
    /// [`TooMany`] within `Ok`, beside the database's.
    pub async fn admit(
        &self,
        pool: &PgPool,
        tenant: &str,
    ) -> Result<Result<Option<Standing>, TooMany>, StoreError> {
        if let Some(most) = self.config.tenant_waiting
            && !self.may_wait(pool, tenant, most).await?
        {
            return Ok(Err(TooMany {
                detail: format!(
                    "{most} jobs of this tenant wait already: submit more when some have ended"
                ),
                retry_after: UNTIL_SOME_END,
                standing: Standing::Waiting { most },
            }));
        }
        Ok(self.admit_batch(tenant))
    }

    /// Admits the submission of a batch, which brings its own line. `None` where no rate is set.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn admit_batch(&self, tenant: &str) -> Result<Option<Standing>, TooMany> {
        let rate = self.config.tenant_rate;
        rate.map(|rate| self.draw(tenant, rate, Instant::now()))
            .transpose()
    }

    fn draw(&self, tenant: &str, rate: f64, now: Instant) -> Result<Standing, TooMany> {
        let mut accounts = self.accounts();
        let account = accounts.entry(tenant.to_owned()).or_insert(Account {
            saved: (rate * BURST_SECS).max(1.0),
            at: now,
            waiting: None,
        });
        let gained = now.saturating_duration_since(account.at).as_secs_f64() * rate;
        account.saved = (account.saved + gained).min((rate * BURST_SECS).max(1.0));
        account.at = now;
        if account.saved < 1.0 {
            let seconds = ((1.0 - account.saved) / rate).max(0.001);
            return Err(TooMany {
                detail: format!(
                    "this tenant may submit {rate} times a second: wait as long as Retry-After says, or submit a batch"
                ),
                retry_after: Duration::from_secs_f64(seconds.min(3600.0)),
                standing: Standing::Rate { rate, remaining: 0 },
            });
        }
        account.saved -= 1.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not below zero, and whole requests are what is told"
        )]
        Ok(Standing::Rate {
            rate,
            remaining: account.saved as u64,
        })
    }

    /// Whether another job may wait; it counts from then on, until all are counted anew.
    async fn may_wait(&self, pool: &PgPool, tenant: &str, most: i64) -> Result<bool, StoreError> {
        let begun = Instant::now();
        if let Some(may) = self.take_a_place(tenant, most, begun) {
            return Ok(may);
        }
        let count = within_patience(async {
            let mut conn = pool.acquire().await?;
            outbox::count_waiting(&mut conn, tenant, most).await
        });
        let count = count.await?;
        let now = Instant::now();
        let mut accounts = self.accounts();
        let account = accounts.entry(tenant.to_owned()).or_insert(Account {
            saved: 0.0,
            at: now.checked_sub(Duration::from_secs(3600)).unwrap_or(now),
            waiting: None,
        });
        // Of several that counted at once, the first one's count holds: others have been admitted by it since.
        if account.waiting.is_none_or(|(_, at)| at < begun) {
            account.waiting = Some((count, now));
        }
        drop(accounts);
        Ok(self.take_a_place(tenant, most, now).unwrap_or(count < most))
    }

    /// `None` where nobody has counted for a while.
    fn take_a_place(&self, tenant: &str, most: i64, now: Instant) -> Option<bool> {
        let mut accounts = self.accounts();
        let (count, at) = accounts.get_mut(tenant)?.waiting.as_mut()?;
        if now.saturating_duration_since(*at) >= COUNT_FRESH {
            return None;
        }
        let may = *count < most;
        *count += i64::from(may);
        Some(may)
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Account>> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= REMEMBERED {
            accounts.clear();
        }
        accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_asks_too_often_is_told_when_to_come_back() {
        let limits = Limits::new(LimitConfig {
            tenant_rate: Some(5.0),
            ..LimitConfig::default()
        });
        let start = Instant::now();
        let burst = (0..).take_while(|_| limits.draw("a", 5.0, start).is_ok());
        assert_eq!(burst.count(), 10);
        let refused = limits.draw("a", 5.0, start).unwrap_err();
        assert!(refused.retry_after <= Duration::from_millis(200));
        assert!(limits.draw("b", 5.0, start).is_ok(), "another has its own");
        let later = start + refused.retry_after;
        let none_left = Standing::Rate {
            rate: 5.0,
            remaining: 0,
        };
        assert_eq!(limits.draw("a", 5.0, later), Ok(none_left));
        assert!(limits.draw("a", 5.0, later).is_err());
    }
}
