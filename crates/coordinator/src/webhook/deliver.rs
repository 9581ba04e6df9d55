//! Delivering: takes what is due, sends it, notes what came of it.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::sign::signatures;
use super::target::{self, PublicResolver};
use crate::config::WebhookConfig;
use crate::store::webhooks::{self, Next, Taken, Tried};
use crate::store::{StoreError, webhook_secrets, within_patience};

/// Deliveries under way at once …
const AT_ONCE: usize = 64;
/// … of them of one tenant.
const OF_A_TENANT: usize = 16;
/// A receiver that takes longer has not answered.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for what is due.
const INTERVAL: Duration = Duration::from_millis(500);
/// Deliveries that ended are shown, and can be replayed, for so long.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
const FORGET_EVERY: Duration = Duration::from_secs(3600);
const FORGET_AT_ONCE: i64 = 1000;

/// What a delivery needs.
#[derive(Debug, Clone)]
pub struct Courier {
    pool: PgPool,
    client: Client,
    config: WebhookConfig,
}

impl Courier {
    /// A courier that calls nobody who may not be called.
    ///
    /// # Errors
    /// When the TLS library finds no certificates to trust.
    pub fn new(pool: &PgPool, config: &WebhookConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            pool: pool.clone(),
            client: client(config.allow_private)?,
            config: config.clone(),
        })
    }

    /// Makes one attempt and notes what came of it.
    ///
    /// # Errors
    /// [`StoreError`]; the attempt is made again then.
    async fn attempt(&self, taken: &Taken) -> Result<(), StoreError> {
        let secrets = within_patience(async {
            let mut conn = self.pool.acquire().await?;
            webhook_secrets::in_force(&mut conn, &taken.tenant).await
        });
        let secrets = secrets.await?;
        let began = Instant::now();
        let (status, error) = match secrets.is_empty() {
            true => (None, Some("there is no signing secret in force".to_owned())),
            false => self.send(taken, &secrets).await,
        };
        let tried = Tried {
            status: status.map(|status| i32::from(status.as_u16())),
            next: self.next(taken, status, error.is_none()),
            error,
            duration: began.elapsed(),
        };
        let id = &taken.delivery_id;
        match &tried.error {
            None => tracing::info!(webhook.id = id, "webhook delivered"),
            Some(error) => {
                let next = tried.next;
                tracing::info!(
                    webhook.id = id,
                    attempt = taken.attempt,
                    error,
                    ?next,
                    "webhook not delivered"
                );
            }
        }
        within_patience(async {
            let mut conn = self.pool.acquire().await?;
            webhooks::record(&mut conn, taken, &tried).await
        })
        .await
    }

    /// Status, and why it is no success.
    async fn send(
        &self,
        taken: &Taken,
        secrets: &[Vec<u8>],
    ) -> (Option<StatusCode>, Option<String>) {
        let url = match target::check(&taken.url, self.config.allow_private) {
            Ok(url) => url,
            Err(error) => return (None, Some(error.to_string())),
        };
        let timestamp = taken.at.timestamp();
        let signature = signatures(secrets, &taken.delivery_id, timestamp, &taken.payload);
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &taken.delivery_id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(taken.payload.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => (Some(answer.status()), None),
            Ok(answer) => {
                let status = answer.status();
                (
                    Some(status),
                    Some(format!("the receiver answered {status}")),
                )
            }
            Err(error) => (None, Some(in_words(error))),
        }
    }

    fn next(&self, taken: &Taken, status: Option<StatusCode>, delivered: bool) -> Next {
        if delivered {
            return Next::Done;
        }
        // The receiver's way to say that it will never want this again.
        if status == Some(StatusCode::GONE) {
            return Next::GiveUp;
        }
        let place = usize::try_from(taken.failures).unwrap_or_default();
        match self.config.schedule.get(place) {
            Some(pause) => Next::Again(pause.mul_f64(jitter())),
            None => Next::GiveUp,
        }
    }
}

fn client(allow_private: bool) -> Result<Client, reqwest::Error> {
    // Fails only when the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .dns_resolver(Arc::new(PublicResolver { allow_private }))
        // A redirect, or a proxy from the environment, would lead past the resolver.
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_PATIENCE)
        .timeout(PATIENCE)
        .user_agent(concat!("upres/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The error and its causes, without the address, which the owner knows.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// Up to a tenth more or less, so that messages that failed together do not come back together.
fn jitter() -> f64 {
    let random = getrandom::u32().expect("the operating system hands out randomness");
    0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX)
}

/// Delivers until `stop`. What is under way then has its time, and is sent again if that does not do.
pub async fn run(courier: Courier, stop: CancellationToken) {
    let mut under_way = JoinSet::new();
    let mut tenants: HashMap<String, usize> = HashMap::new();
    let mut forgot = None::<Instant>;
    while !stop.is_cancelled() {
        if forgot.is_none_or(|forgot| forgot.elapsed() >= FORGET_EVERY) {
            forgot = Some(Instant::now());
            log(forget(&courier.pool).await);
        }
        let taken = take(&courier.pool, under_way.len(), &tenants).await;
        for taken in taken.unwrap_or_else(|error| {
            log(Err(error));
            Vec::new()
        }) {
            *tenants.entry(taken.tenant.clone()).or_default() += 1;
            let courier = courier.clone();
            under_way.spawn(async move {
                log(courier.attempt(&taken).await);
                taken.tenant
            });
        }
        tokio::select! {
            ended = under_way.join_next(), if !under_way.is_empty() => {
                let mut ended = ended;
                // All that have ended by now: one look for what is due then fills all their places.
                while let Some(delivery) = ended {
                    if let Ok(tenant) = delivery
                        && let Some(count) = tenants.get_mut(&tenant)
                    {
                        *count -= 1;
                    }
                    ended = under_way.try_join_next();
                }
            }
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => {}
        }
        tenants.retain(|_, count| *count > 0);
    }
    while under_way.join_next().await.is_some() {}
}

async fn take(
    pool: &PgPool,
    under_way: usize,
    tenants: &HashMap<String, usize>,
) -> Result<Vec<Taken>, StoreError> {
    let room = AT_ONCE.saturating_sub(under_way);
    if room == 0 {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    within_patience(async {
        let mut conn = pool.acquire().await?;
        webhooks::take(&mut conn, limit, OF_A_TENANT as i64, tenants).await
    })
    .await
}

async fn forget(pool: &PgPool) -> Result<(), StoreError> {
    within_patience(async {
        let mut conn = pool.acquire().await?;
        while webhooks::forget(&mut conn, KEPT, FORGET_AT_ONCE).await? > 0 {}
        Ok(())
    })
    .await
}

fn log(done: Result<(), StoreError>) {
    if let Err(error) = done {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "webhooks wait for the database");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_the_connection_is_made() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = client(false).unwrap();
        let request = request.post(format!("http://localhost:{port}/")).send();
        let words = in_words(request.await.unwrap_err());
        assert!(
            words.contains(&target::TargetError::Private.to_string()),
            "{words}"
        );
        assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending());
    }
}
