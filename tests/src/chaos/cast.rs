//! Who takes part in a run: the services, our programs, and a proxy on every link between them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use super::Options;
use super::load::Load;
use crate::process::Process;
use crate::services::Services;
use crate::world::first_key;
use crate::{DEADLINE, Fault, OwnBroker, OwnPostgres, Proxy, Store, until};

const COORDINATORS: usize = 2;
const WORKERS: usize = 3;

/// Faults after which a worker is not heard of again, or only when its job has long gone on.
const DEADLY: [&str; 2] = ["kill", "pause"];

/// A program of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Coordinator(usize),
    Worker(usize),
}

/// What a program talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Postgres,
    Broker,
    Store,
    /// The coordinators, for workers.
    Api,
}

impl Service {
    pub(super) const ALL: [Self; 4] = [Self::Postgres, Self::Broker, Self::Store, Self::Api];
}

impl Role {
    /// What it talks to.
    pub(super) fn services(self) -> [Service; 3] {
        match self {
            Self::Coordinator(_) => [Service::Postgres, Service::Broker, Service::Store],
            Self::Worker(_) => [Service::Api, Service::Broker, Service::Store],
        }
    }

    fn name(self) -> String {
        match self {
            Self::Coordinator(number) => format!("coordinator-{number}"),
            Self::Worker(number) => format!("worker-{number}"),
        }
    }
}

/// One program and how to start it again.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    program: &'static str,
    args: Vec<&'static str>,
    env: Vec<(String, String)>,
    folder: PathBuf,
    process: Option<Process>,
    starts: usize,
}

impl Member {
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        let name = format!("{}-{:03}", self.role.name(), self.starts);
        self.process = None;
        self.process = Some(Process::start(
            &self.folder,
            &name,
            self.program,
            &self.args,
            &self.env,
        )?);
        Ok(())
    }

    pub(super) fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
    }

    pub(super) fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Starts it when it has ended by itself. Returns whether it had.
    pub(super) fn supervise(&mut self) -> anyhow::Result<bool> {
        let ended = self
            .process
            .as_mut()
            .is_some_and(|process| !process.is_running());
        if ended {
            self.start()?;
        }
        Ok(ended)
    }
}

/// Everybody.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) members: Vec<Mutex<Member>>,
    pub(super) roles: Vec<Role>,
    links: Vec<(Role, Service, Proxy)>,
    pub(super) store: Store,
    pub(super) key: String,
    pub(super) coordinators: Vec<String>,
    pub(super) postgres: Arc<OwnPostgres>,
    pub(super) broker: Arc<OwnBroker>,
    pub(super) lease: Duration,
    pub(super) load: Load,
    /// Whether innocent jobs lose their workers for good.
    is_deadly: bool,
    /// The SHA-256 of the result of each input, made while nothing was broken.
    pub(super) expected: BTreeMap<String, String>,
    client: reqwest::Client,
}

impl Cast {
    /// Starts the services, the proxies and the programs.
    pub(super) async fn assemble(options: &Options, folder: &Path) -> anyhow::Result<Self> {
        // Fails only when it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Services::from_env()?;
        let (postgres, broker) = tokio::join!(
            tokio::task::spawn_blocking(OwnPostgres::start),
            tokio::task::spawn_blocking(OwnBroker::start)
        );
        let bucket = format!("chaos-{}", uuid::Uuid::now_v7().simple());
        let mut cast = Self {
            members: Vec::new(),
            roles: Vec::new(),
            links: Vec::new(),
            store: Store::create(&shared.s3_endpoint, &bucket).await?,
            key: String::new(),
            coordinators: lasting_addresses(COORDINATORS)?,
            postgres: Arc::new(postgres??),
            broker: Arc::new(broker??),
            lease: options.lease,
            load: options.load,
            is_deadly: options
                .faults
                .iter()
                .any(|fault| DEADLY.contains(&&**fault)),
            expected: BTreeMap::new(),
            // A connection each: what one request suffers is not handed on to the next.
            client: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .build()?,
        };
        cast.key = first_key(&[
            ("UPRES_DATABASE_URL".to_owned(), cast.postgres.url()),
            ("UPRES_AMQP_URL".to_owned(), cast.broker.url()),
            ("UPRES_S3_ENDPOINT".to_owned(), shared.s3_endpoint.clone()),
        ])?;
        cast.note_every_end().await?;
        for number in 0..COORDINATORS {
            cast.add(Role::Coordinator(number), &shared, folder).await?;
        }
        for url in &cast.coordinators {
            let ready = format!("http://{url}/readyz");
            until("a coordinator is ready", DEADLINE, async || {
                let answer = reqwest::get(&ready).await;
                Ok(answer.is_ok_and(|answer| answer.status().is_success()))
            })
            .await?;
        }
        for number in 0..WORKERS {
            cast.add(Role::Worker(number), &shared, folder).await?;
        }
        Ok(cast)
    }

    /// Only the database sees every step: it notes each end of each job, beside our programs' backs.
    async fn note_every_end(&self) -> anyhow::Result<()> {
        let mut database = self.database().await?;
        let schema = "
            create table chaos_ends (
                seq bigint generated always as identity, job_id uuid not null, state text not null);
            create function chaos_note_end() returns trigger language plpgsql as $$
            begin
                insert into chaos_ends (job_id, state) values (new.job_id, new.state);
                return null;
            end $$;
            create trigger chaos_note_end after update of state on jobs for each row
            when (old.state is distinct from new.state
                and new.state in ('succeeded', 'failed', 'cancelled', 'expired'))
            execute function chaos_note_end();";
        sqlx::raw_sql(schema).execute(&mut database).await?;
        Ok(())
    }

    async fn add(&mut self, role: Role, shared: &Services, folder: &Path) -> anyhow::Result<()> {
        let mut env = self.settings();
        for service in role.services() {
            let (name, url) = self.link(role, service, shared).await?;
            env.push((name.to_owned(), url));
        }
        let (program, args) = match role {
            Role::Coordinator(number) => {
                let listen = self.coordinators[number].clone();
                env.push(("UPRES_LISTEN".to_owned(), listen));
                ("upres-coordinator", vec!["serve"])
            }
            Role::Worker(_) => {
                env.push(("UPRES_API_KEY".to_owned(), self.worker_key().await?));
                env.extend(self.load.settings()?);
                self.load.worker()
            }
        };
        let mut member = Member {
            role,
            program,
            args,
            env,
            folder: folder.to_owned(),
            process: None,
            starts: 0,
        };
        member.start()?;
        self.roles.push(role);
        self.members.push(Mutex::new(member));
        Ok(())
    }

    fn settings(&self) -> Vec<(String, String)> {
        let pairs = [
            (
                "UPRES_LOG",
                "info,upres_coordinator=debug,upres_worker=debug".to_owned(),
            ),
            // Where drained workers leave what they have.
            ("UPRES_UPLOADS", self.store.uri("")),
            ("UPRES_LEASE_TTL_SECS", self.lease.as_secs().to_string()),
            ("UPRES_REAP_SECS", "0.5".to_owned()),
            ("UPRES_RETRY_BASE_SECS", "0.2".to_owned()),
            ("UPRES_RETRY_CAP_SECS", "5".to_owned()),
            ("UPRES_RESEND_SECS", "3".to_owned()),
            ("UPRES_PUBLISH_SECS", "20".to_owned()),
            // Enough to keep three workers busy, few enough to matter.
            ("UPRES_RELEASE_LIMIT", "100".to_owned()),
            ("UPRES_DATABASE_CONNECTIONS", "8".to_owned()),
            // Longer than any attempt here, short enough to wait for.
            ("UPRES_ORPHAN_SECS", "30".to_owned()),
            ("UPRES_JANITOR_SECS", "5".to_owned()),
        ];
        let mut pairs = pairs.map(|(name, value)| (name.to_owned(), value)).to_vec();
        if self.is_deadly {
            // Here innocent jobs are killed many times. Where none is, what production holds against a job may
            // not be held against any.
            let after = ("UPRES_QUARANTINE_AFTER".to_owned(), "1000".to_owned());
            pairs.push(after);
        }
        pairs
    }

    /// A proxy for one link; returns the variable that leads a program to it.
    async fn link(
        &mut self,
        role: Role,
        service: Service,
        shared: &Services,
    ) -> anyhow::Result<(&'static str, String)> {
        let (variable, url) = match service {
            Service::Postgres => ("UPRES_DATABASE_URL", self.postgres.url()),
            Service::Broker => ("UPRES_AMQP_URL", self.broker.url()),
            Service::Store => ("UPRES_S3_ENDPOINT", shared.s3_endpoint.clone()),
            Service::Api => ("UPRES_API_URL", format!("http://{}", self.coordinators[0])),
        };
        let host = host_of(&url).context("an address")?.to_owned();
        let upstreams: Vec<&str> = match service {
            Service::Api => self.coordinators.iter().map(String::as_str).collect(),
            _ => vec![&host],
        };
        let proxy = Proxy::start(&upstreams).await?;
        let through = url.replacen(&host, &proxy.address().to_string(), 1);
        self.links.push((role, service, proxy));
        Ok((variable, through))
    }

    async fn worker_key(&self) -> anyhow::Result<String> {
        let request = self
            .request(Method::POST, 0, "/v1/keys")
            .json(&json!({"scopes": ["worker"]}));
        let answer: Value = request.send().await?.json().await?;
        Ok(answer["key"].as_str().context("a key")?.to_owned())
    }

    /// A request to one of the coordinators, with the admin key, past the proxies.
    pub(super) fn request(
        &self,
        method: Method,
        coordinator: usize,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let url = &self.coordinators[coordinator % self.coordinators.len()];
        self.client
            .request(method, format!("http://{url}{path}"))
            .timeout(Duration::from_secs(10))
            .bearer_auth(&self.key)
    }

    /// A connection to the database, past the proxies.
    pub(super) async fn database(&self) -> anyhow::Result<PgConnection> {
        let connect = PgConnection::connect(&self.postgres.url()).await;
        connect.context("connect to PostgreSQL")
    }

    pub(super) fn member(&self, role: Role) -> &Mutex<Member> {
        let at = self.roles.iter().position(|member| *member == role);
        &self.members[at.unwrap_or_default()]
    }

    /// The links to a service, of one program or of all.
    pub(super) fn links(&self, role: Option<Role>, service: Service) -> Vec<&Proxy> {
        let links = self
            .links
            .iter()
            .filter(|(of, to, _)| *to == service && role.is_none_or(|role| role == *of));
        links.map(|(_, _, proxy)| proxy).collect()
    }

    /// All links pass again, and every program runs.
    pub(super) async fn heal(&self) -> anyhow::Result<()> {
        for (_, _, proxy) in &self.links {
            proxy.set(Fault::Pass);
        }
        for member in &self.members {
            member.lock().await.supervise()?;
        }
        Ok(())
    }
}

fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    Some(authority.rsplit('@').next().unwrap_or(authority))
}

/// Addresses that stay ours while a program is down: below the ports that outgoing connections get.
fn lasting_addresses(count: usize) -> anyhow::Result<Vec<String>> {
    let listeners: Vec<_> = (0..count)
        .map(|_| crate::services::lasting_port())
        .collect::<Result<_, _>>()?;
    let address = |listener: &TcpListener| listener.local_addr().map(|at| at.to_string());
    Ok(listeners.iter().map(address).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_an_address_is_found() {
        for url in [
            "postgres://upres@h:1/upres",
            "amqp://guest:guest@h:1/%2f",
            "http://h:1",
        ] {
            assert_eq!(host_of(url), Some("h:1"), "{url}");
        }
    }
}
