//! Carries out the faults, and makes good what each of them broke.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use upres_common::job::Class;

use super::cast::{Cast, Role, Service};
use super::client::Recorder;
use super::plan::{Strike, Strikes};
use crate::{Fault, OwnBroker, OwnPostgres, Proxy};

/// How long a broker's own management may take: it can hang while a queue has no leader.
const PATIENCE: Duration = Duration::from_secs(10);
/// The promise of a drain, and some.
const DRAINED_WITHIN: Duration = Duration::from_secs(35);
/// How long a crash of the broker waits for jobs to pass through new queues.
const SETTLING: Duration = Duration::from_secs(20);

/// One lane at work.
#[derive(Debug)]
pub(super) struct Striker {
    pub(super) cast: Arc<Cast>,
    pub(super) recorder: Arc<Recorder>,
    /// Becomes true when there are to be no more faults.
    pub(super) enough: watch::Receiver<bool>,
    pub(super) client: reqwest::Client,
}

impl Striker {
    /// Strikes until there is enough; returns the names of what was done.
    pub(super) async fn work(mut self, mut strikes: Strikes) -> anyhow::Result<Vec<&'static str>> {
        let mut done = Vec::new();
        while let Some((pause, strike)) = strikes.next() {
            if self.enough_within(pause).await {
                break;
            }
            self.recorder.note(&format!("begins {strike:?}"));
            let struck = self.strike(strike).await?;
            self.recorder.note(&format!("ends {strike:?}"));
            if struck {
                done.push(strike.name());
            }
        }
        Ok(done)
    }

    async fn enough_within(&mut self, pause: Duration) -> bool {
        let enough = self.enough.wait_for(|enough| *enough);
        tokio::time::timeout(pause, enough).await.is_ok()
    }

    /// Returns whether the fault took place.
    async fn strike(&mut self, strike: Strike) -> anyhow::Result<bool> {
        match strike {
            Strike::Kill(role, down) => self.kill(role, down).await?,
            Strike::Terminate(role) => self.terminate(role).await?,
            Strike::Pause(role) => self.pause(role).await?,
            Strike::CrashPostgres => {
                let postgres = Arc::clone(&self.cast.postgres);
                blocking(move || again(|| OwnPostgres::crash_and_restart(&postgres))).await?;
            }
            Strike::CrashBroker => {
                if !self.queues_are_settled().await {
                    return Ok(false);
                }
                let broker = Arc::clone(&self.cast.broker);
                blocking(move || again(|| OwnBroker::crash_and_restart(&broker))).await?;
            }
            Strike::RestartBroker => {
                let broker = Arc::clone(&self.cast.broker);
                blocking(move || again(|| OwnBroker::restart(&broker))).await?;
            }
            Strike::DeleteQueues => return Ok(self.delete_all("queues/%2f").await),
            Strike::CloseBrokerConnections => return Ok(self.delete_all("connections").await),
            Strike::Reset(service) => self.on(None, service, Proxy::reset),
            Strike::Forget(role, service) => {
                self.on(Some(role), service, Proxy::lose_connections);
            }
            Strike::StoreUnavailable(long) => {
                self.during(None, Service::Store, Fault::Unavailable, long)
                    .await;
            }
            Strike::Hang(service, long) => {
                self.during(None, service, Fault::BlackHole, long).await;
            }
            Strike::BlackHole(role, service, long) => {
                self.during(Some(role), service, Fault::BlackHole, long)
                    .await;
            }
            Strike::Slow(role, service, long) => {
                let delay = Fault::Delay(Duration::from_millis(100));
                self.during(Some(role), service, delay, long / 2).await;
                let narrow = Fault::Limit(20_000);
                self.during(Some(role), service, narrow, long / 2).await;
            }
        }
        Ok(true)
    }

    async fn kill(&mut self, role: Role, down: Duration) -> anyhow::Result<()> {
        let cast = Arc::clone(&self.cast);
        let mut member = cast.member(role).lock().await;
        member.kill();
        self.enough_within(down).await;
        member.start()
    }

    async fn terminate(&mut self, role: Role) -> anyhow::Result<()> {
        let cast = Arc::clone(&self.cast);
        let mut member = cast.member(role).lock().await;
        if let Some(process) = member.process()
            && process.signal("TERM").is_ok()
        {
            let deadline = Instant::now() + DRAINED_WITHIN;
            while process.is_running() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            if process.is_running() {
                self.recorder.undrained(&format!("{role:?}"));
            }
        }
        member.start()
    }

    async fn pause(&mut self, role: Role) -> anyhow::Result<()> {
        let cast = Arc::clone(&self.cast);
        let mut member = cast.member(role).lock().await;
        if let Some(process) = member.process()
            && process.signal("STOP").is_ok()
        {
            // Whole even when the run ends: a stopped process would never finish.
            tokio::time::sleep(self.cast.lease * 2).await;
            process.signal("CONT")?;
        }
        Ok(())
    }

    fn on(&self, role: Option<Role>, service: Service, act: fn(&Proxy)) {
        for proxy in self.cast.links(role, service) {
            act(proxy);
        }
    }

    async fn during(&mut self, role: Option<Role>, service: Service, fault: Fault, long: Duration) {
        for proxy in self.cast.links(role, service) {
            proxy.set(fault);
        }
        self.enough_within(long).await;
        for proxy in self.cast.links(role, service) {
            proxy.set(Fault::Pass);
        }
    }

    /// Whether jobs went through the queues as they are now. RabbitMQ 3.10 that is killed within a
    /// second of making a quorum queue brings it back without a leader, for ever.
    async fn queues_are_settled(&mut self) -> bool {
        let deadline = Instant::now() + SETTLING;
        while Instant::now() < deadline {
            let queues = self
                .manage(Method::GET, "queues/%2f")
                .await
                .unwrap_or_default();
            let used = queues.as_array().into_iter().flatten().filter(|queue| {
                let acked = queue["message_stats"]["ack"].as_i64();
                acked.is_some_and(|acked| acked > 0)
            });
            if used.count() >= Class::ALL.len() {
                return true;
            }
            if self.enough_within(Duration::from_millis(500)).await {
                return false;
            }
        }
        false
    }

    /// Deletes everything that the broker's management lists there. Returns whether there was any.
    async fn delete_all(&self, what: &str) -> bool {
        let Some(listed) = self.manage(Method::GET, what).await else {
            return false;
        };
        let mut deleted = false;
        for one in listed.as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default();
            let path = format!("{what}/{}", name.replace(' ', "%20").replace('>', "%3E"));
            deleted |= self.manage(Method::DELETE, &path).await.is_some();
        }
        deleted
    }

    /// `None` when the broker is away, or busy with itself.
    async fn manage(&self, method: Method, path: &str) -> Option<Value> {
        let broker = Arc::clone(&self.cast.broker);
        let url = blocking(move || broker.management_url()).await.ok()?;
        let request = self.client.request(method, format!("{url}/api/{path}"));
        let answer = request.timeout(PATIENCE).send().await.ok()?;
        let text = answer.error_for_status().ok()?.text().await.ok()?;
        Some(serde_json::from_str(&text).unwrap_or_default())
    }
}

/// A port may be in a stranger's hands for a moment while its owner is dead.
fn again(start: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for _ in 0..4 {
        if start().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(3));
    }
    start()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
