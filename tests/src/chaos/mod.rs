//! Chaos: a whole upres on services of its own, under load and under faults; afterwards the history
//! is held against the promises.
//!
//! Two coordinators and three workers with a fake engine or the real one, a proxy on every link. Clients submit and
//! watch while three lanes of faults, drawn from a seed, strike programs, servers and links. Then
//! everything heals, and every job must come to its end.

mod aftermath;
mod cast;
mod client;
mod load;
mod plan;
mod strikes;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::history::{Finding, Kind, check};
use crate::until;
use cast::Cast;
use client::{Client, Recorder};
use plan::{Lane, Strikes};
use strikes::Striker;

pub use load::Load;
pub use plan::FAULTS;

/// Longer than a publication waits for its coordinator before another looks after it (5 minutes).
const SETTLE_WITHIN: Duration = Duration::from_secs(600);
/// How long abandoned uploads may stay once all jobs have ended: the janitor's patience, and some.
const UPLOADS_GONE_WITHIN: Duration = Duration::from_secs(90);

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Replays the same submissions and the same faults.
    pub seed: u64,
    /// Jobs to submit.
    pub jobs: usize,
    /// How long to strike; the submissions are spread over this time.
    pub duration: Duration,
    /// The names of the faults to draw from, of [`FAULTS`].
    pub faults: Vec<String>,
    /// How long a claim lasts.
    pub lease: Duration,
    /// What the jobs are made of.
    pub load: Load,
    /// For the logs, the history and the report.
    pub folder: PathBuf,
}

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Jobs there are.
    pub jobs: usize,
    /// How often each fault took place.
    pub faults: BTreeMap<&'static str, usize>,
    /// Jobs and attempts by how they ended.
    pub tallies: Vec<(String, i64)>,
    /// Results of which one attempt made the beginning and another the end.
    pub shared: usize,
    /// Programs that ended although nobody ended them.
    pub own_ends: usize,
    /// Valid submissions that were refused for good.
    pub refused: Vec<String>,
    /// Broken promises.
    pub findings: Vec<Finding>,
    /// From the first submission to the last fault's end.
    pub struck_for: Duration,
    /// From then until the last job ended.
    pub settled_in: Duration,
}

impl Report {
    /// How many promises of that kind were broken.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let all = self.findings.iter();
        all.filter(|finding| finding.kind == kind).count()
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.refused.is_empty() && self.own_ends == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(out, "{finding}")?;
        }
        for refused in &self.refused {
            writeln!(out, "Refused: {refused}")?;
        }
        for (what, count) in &self.tallies {
            writeln!(out, "{count:>7} {what}")?;
        }
        for (fault, count) in &self.faults {
            writeln!(out, "{count:>7} faults {fault}")?;
        }
        writeln!(out, "{:>7} programs ended by themselves", self.own_ends)?;
        writeln!(
            out,
            "{:>7} results begun and finished by different attempts",
            self.shared
        )?;
        let (struck, settled) = (self.struck_for.as_secs(), self.settled_in.as_secs());
        write!(
            out,
            "seed {}: {} jobs, {} faults in {struck} s, settled in {settled} s: {} lost, {} duplicated, {} zombies, {} orphans",
            self.seed,
            self.jobs,
            self.faults.values().sum::<usize>(),
            self.count(Kind::Lost),
            self.count(Kind::Duplicated),
            self.count(Kind::Zombie),
            self.count(Kind::Orphan),
        )
    }
}

/// Runs it.
///
/// # Errors
/// When the run itself cannot be made: no service, no program. Broken promises are in the report.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    if options.folder.exists() {
        std::fs::remove_dir_all(&options.folder)?;
    }
    std::fs::create_dir_all(&options.folder)?;
    let mut cast = Cast::assemble(options, &options.folder).await?;
    load::put_inputs(&cast).await?;
    cast.expected = load::undisturbed_results(&cast, &options.folder).await?;
    let cast = Arc::new(cast);
    let run = Run {
        recorder: Arc::new(Recorder::new(&options.folder)?),
        cast,
        enough: watch::Sender::new(false),
        over: watch::Sender::new(false),
    };
    let mut report = run.play(options).await?;
    report.seed = options.seed;
    std::fs::write(options.folder.join("report.txt"), format!("{report}\n"))?;
    Ok(report)
}

struct Run {
    cast: Arc<Cast>,
    recorder: Arc<Recorder>,
    /// True: no more faults.
    enough: watch::Sender<bool>,
    /// True: no more calls.
    over: watch::Sender<bool>,
}

impl Run {
    async fn play(&self, options: &Options) -> anyhow::Result<Report> {
        let mut report = Report::default();
        let begun = Instant::now();
        let client = Client {
            cast: Arc::clone(&self.cast),
            recorder: Arc::clone(&self.recorder),
            over: self.over.subscribe(),
        };
        let mut readers = JoinSet::new();
        for reader in 0..self.cast.coordinators.len() {
            readers.spawn(client.clone().watch(reader));
        }
        let mut supervisor = JoinSet::new();
        supervisor.spawn(supervise(client.clone()));
        let mut lanes = self.strike(options);
        let mut clients = JoinSet::new();
        let gap = options.duration / u32::try_from(options.jobs.max(1))?;
        for (at, submission) in (0..).zip(plan::submissions(options.seed, options.jobs)) {
            // On time even when this machine is late.
            tokio::time::sleep_until(begun + gap * at).await;
            clients.spawn(client.clone().follow(submission));
        }
        tokio::time::sleep_until(begun + options.duration).await;
        self.enough.send_replace(true);
        while let Some(lane) = lanes.join_next().await {
            for fault in lane?? {
                *report.faults.entry(fault).or_default() += 1;
            }
        }
        self.cast.heal().await?;
        self.recorder.note("healed");
        report.struck_for = begun.elapsed();

        let healed = Instant::now();
        self.settle(&mut clients).await?;
        report.settled_in = healed.elapsed();
        self.over.send_replace(true);
        readers.join_all().await;
        report.own_ends = supervisor.join_all().await.into_iter().sum();
        clients.join_all().await;
        self.judge(&mut report).await?;
        Ok(report)
    }

    fn strike(&self, options: &Options) -> JoinSet<anyhow::Result<Vec<&'static str>>> {
        let mut lanes = JoinSet::new();
        for lane in Lane::ALL {
            let strikes = Strikes::new(options.seed, lane, &self.cast.roles, &options.faults);
            let striker = Striker {
                cast: Arc::clone(&self.cast),
                recorder: Arc::clone(&self.recorder),
                enough: self.enough.subscribe(),
                client: reqwest::Client::new(),
            };
            lanes.spawn(striker.work(strikes));
        }
        lanes
    }

    /// Waits until every client is content and every job has ended. What has not by then is judged
    /// as it is.
    async fn settle(&self, clients: &mut JoinSet<()>) -> anyhow::Result<()> {
        let settled = until("every job has ended", SETTLE_WITHIN, async || {
            while clients.try_join_next().is_some() {}
            let (jobs, outbox) = aftermath::unfinished(&self.cast).await?;
            Ok(clients.is_empty() && jobs == 0 && outbox == 0)
        });
        if let Err(error) = settled.await {
            self.recorder.note(&format!("{error:#}"));
        }
        let cleared = until("no upload is left", UPLOADS_GONE_WITHIN, async || {
            Ok(aftermath::unfinished_work(&self.cast).await? == 0)
        });
        if let Err(error) = cleared.await {
            self.recorder.note(&format!("{error:#}"));
        }
        Ok(())
    }

    async fn judge(&self, report: &mut Report) -> anyhow::Result<()> {
        let aftermath = aftermath::gather(&self.cast).await?;
        let (history, refused) = self.recorder.history();
        let own = |key: &str| !key.starts_with(load::UNDISTURBED);
        let jobs = aftermath.jobs.values();
        report.jobs = jobs.filter(|job| own(&job.output)).count();
        report.shared = aftermath::shared(&aftermath);
        report.findings = check(&history, &aftermath);
        report.refused = refused;
        report.tallies = aftermath::tallies(&self.cast).await?;
        Ok(())
    }
}

/// Starts what ended by itself, as any service manager would; returns how often.
async fn supervise(mut client: Client) -> usize {
    let mut ends = 0;
    while !*client.over.borrow() {
        for member in &client.cast.members {
            // Taken: somebody is about to kill or start it anyway.
            if let Ok(mut member) = member.try_lock()
                && member.supervise().unwrap_or(false)
            {
                ends += 1;
                client
                    .recorder
                    .note(&format!("{:?} had ended by itself", member.role));
            }
        }
        let over = client.over.wait_for(|over| *over);
        let _ = tokio::time::timeout(Duration::from_secs(1), over).await;
    }
    ends
}
