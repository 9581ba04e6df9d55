//! The history checker: every call of a run and its answer, and what is there when all is over, held
//! against what upres promises. It knows nothing of how upres works inside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use upres_common::sidecar::SUFFIX as SIDECAR;

/// A call, as the caller saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A job was sent under an idempotency key; with an id it was accepted (202).
    Submitted {
        /// Sent again with the same request until it was answered, sometimes once more.
        key: String,
        /// The accepted job.
        job: Option<String>,
        /// The status, or why there was none.
        answer: String,
    },
    /// A reader saw the job in this state.
    Seen {
        /// Each reader asks one thing after the other, so what it sees may not go backwards.
        reader: usize,
        /// Which.
        job: String,
        /// In which state.
        state: String,
        /// The state's version.
        version: i64,
    },
    /// The owner asked for its cancellation; `done` when the answer was "cancelled".
    Cancelled {
        /// Which.
        job: String,
        /// Answered with 200.
        done: bool,
    },
    /// The owner asked for a failed job to be tried anew, answered or not.
    Retried {
        /// Which.
        job: String,
    },
}

/// A job's row, when all is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndOfJob {
    /// Its state.
    pub state: String,
    /// The key of its picture.
    pub input: String,
    /// The key its result goes to.
    pub output: String,
    /// Its picture is none: it may fail.
    pub is_poison: bool,
    /// What it failed of.
    pub error: Option<String>,
    /// A record was asked for beside its result.
    pub has_record: bool,
    /// The recorded digest and size.
    pub result: Option<(String, u64)>,
    /// Every terminal state it ever entered, in order.
    pub ends: Vec<String>,
    /// Attempts that are still noted as running.
    pub running_attempts: usize,
    /// The fencing tokens of attempts that succeeded.
    pub succeeded_tokens: Vec<i64>,
    /// The fencing tokens of all attempts, in order.
    pub tokens: Vec<i64>,
}

/// A visible object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    /// Of its bytes as they are.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The job and the fencing token of the attempt that wrote it, by its metadata.
    pub writer: Option<(String, i64)>,
}

/// What is there when all is over.
#[derive(Debug, Clone, Default)]
pub struct Aftermath {
    /// All jobs by id.
    pub jobs: BTreeMap<String, EndOfJob>,
    /// All visible objects by key, without the inputs.
    pub objects: BTreeMap<String, Object>,
    /// Keys of the multipart uploads that are still open.
    pub uploads: Vec<String>,
    /// Jobs that the outbox still speaks of.
    pub outbox: Vec<String>,
    /// What the result of a picture is when nothing interrupts it, by the key of the picture: its SHA-256.
    pub expected: BTreeMap<String, String>,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Accepted, and then not brought to an end, or without its object.
    Lost,
    /// Ended twice, or accepted twice.
    Duplicated,
    /// A superseded, cancelled or failed attempt left its mark.
    Zombie,
    /// Something was left lying about.
    Orphan,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub kind: Kind,
    /// In a sentence.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.kind, self.what)
    }
}

/// All calls, in the order in which their answers arrived.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The calls.
    pub calls: Vec<Call>,
}

/// Whether a job in this state has ended.
#[must_use]
pub fn is_terminal(state: &str) -> bool {
    matches!(state, "succeeded" | "failed" | "cancelled" | "expired")
}

/// Holds the history and its aftermath against the promises.
#[must_use]
pub fn check(history: &History, aftermath: &Aftermath) -> Vec<Finding> {
    let mut check = Check {
        history,
        aftermath,
        findings: Vec::new(),
    };
    check.acceptances();
    check.sightings();
    check.cancellations();
    for (id, job) in &aftermath.jobs {
        check.end_of_job(id, job);
    }
    check.objects();
    check.remains();
    check.findings
}

struct Check<'a> {
    history: &'a History,
    aftermath: &'a Aftermath,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn find(&mut self, kind: Kind, what: String) {
        self.findings.push(Finding { kind, what });
    }

    /// Each accepted job is there, and each key stands for one job.
    fn acceptances(&mut self) {
        let mut by_key: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &self.history.calls {
            if let Call::Submitted { key, job, .. } = call
                && let Some(job) = job
            {
                by_key.entry(key).or_default().insert(job);
            }
        }
        for (key, jobs) in by_key {
            if jobs.len() > 1 {
                let what = format!("{key} was accepted as several jobs: {jobs:?}");
                self.find(Kind::Duplicated, what);
            }
            for job in jobs {
                if !self.aftermath.jobs.contains_key(job) {
                    self.find(Kind::Lost, format!("{job} was accepted and is gone"));
                }
            }
        }
    }

    /// No reader saw time run backwards, and nobody saw an end change but by a retry.
    fn sightings(&mut self) {
        let mut last: BTreeMap<(usize, &str), i64> = BTreeMap::new();
        let mut by_job: BTreeMap<&str, BTreeMap<i64, BTreeSet<&str>>> = BTreeMap::new();
        for call in &self.history.calls {
            let Call::Seen {
                reader,
                job,
                state,
                version,
            } = call
            else {
                continue;
            };
            let before = last.insert((*reader, job), *version).unwrap_or_default();
            if before > *version {
                let what = format!("{job} was seen at version {before} and later at {version}");
                self.find(Kind::Lost, what);
            }
            let versions = by_job.entry(job).or_default();
            versions.entry(*version).or_default().insert(state);
        }
        for (job, versions) in by_job {
            let end = self.aftermath.jobs.get(job).map(|job| job.state.clone());
            let mut states: Vec<&str> = Vec::new();
            for seen in versions.values() {
                states.extend(seen);
            }
            states.extend(end.as_deref());
            for pair in states.windows(2) {
                let revived = pair[0] == "failed" && self.was_retried(job);
                if is_terminal(pair[0]) && pair[1] != pair[0] && !revived {
                    let what = format!("{job} was {} and then {}", pair[0], pair[1]);
                    self.find(Kind::Duplicated, what);
                }
            }
        }
    }

    fn was_retried(&self, id: &str) -> bool {
        self.retries(id) > 0
    }

    fn retries(&self, id: &str) -> usize {
        let calls = self.history.calls.iter();
        calls
            .filter(|call| matches!(call, Call::Retried { job } if job == id))
            .count()
    }

    /// What was confirmed as cancelled stays so.
    fn cancellations(&mut self) {
        for call in &self.history.calls {
            if let Call::Cancelled { job, done: true } = call {
                let state = self.aftermath.jobs.get(job).map(|job| job.state.as_str());
                if let Some(state) = state.filter(|state| *state != "cancelled") {
                    let what = format!("{job} was confirmed as cancelled and is {state}");
                    self.find(Kind::Zombie, what);
                }
            }
        }
    }

    fn end_of_job(&mut self, id: &str, job: &EndOfJob) {
        if !is_terminal(&job.state) {
            self.find(Kind::Lost, format!("{id} is still {}", job.state));
        }
        if job.state == "failed" && !job.is_poison {
            let what = format!("{id} failed of {:?} and is innocent", job.error);
            self.find(Kind::Lost, what);
        }
        let (last, earlier) = job
            .ends
            .split_last()
            .map_or((None, &[][..]), |(last, earlier)| {
                (Some(last.as_str()), earlier)
            });
        let revivals = earlier.iter().filter(|end| *end == "failed").count();
        if revivals < earlier.len() || revivals > self.retries(id) {
            let what = format!("{id} ended more than once: {:?}", job.ends);
            self.find(Kind::Duplicated, what);
        }
        if is_terminal(&job.state) && last != Some(job.state.as_str()) {
            let what = format!("{id} is {}, but its ends were {:?}", job.state, job.ends);
            self.find(Kind::Duplicated, what);
        }
        if job.running_attempts > usize::from(!is_terminal(&job.state)) {
            let what = format!(
                "{id} is {} and {} of its attempts run",
                job.state, job.running_attempts
            );
            self.find(Kind::Orphan, what);
        }
        if job.tokens.windows(2).any(|pair| pair[0] >= pair[1]) {
            let what = format!("{id} has fencing tokens that do not grow: {:?}", job.tokens);
            self.find(Kind::Duplicated, what);
        }
        let successes = usize::from(job.state == "succeeded");
        if job.succeeded_tokens.len() != successes {
            let what = format!(
                "{id} is {} with {} successful attempts",
                job.state,
                job.succeeded_tokens.len()
            );
            self.find(Kind::Duplicated, what);
        }
        if successes == 1 {
            self.result(id, job);
        }
    }

    /// A success stands for the very object that was recorded.
    fn result(&mut self, id: &str, job: &EndOfJob) {
        let Some((sha256, bytes)) = &job.result else {
            return self.find(Kind::Lost, format!("{id} succeeded without a result"));
        };
        let Some(object) = self.aftermath.objects.get(&job.output) else {
            let what = format!("{id} succeeded and {} is not there", job.output);
            return self.find(Kind::Lost, what);
        };
        let record = format!("{}{SIDECAR}", job.output);
        if job.has_record && !self.aftermath.objects.contains_key(&record) {
            self.find(Kind::Lost, format!("{id} succeeded without {record}"));
        }
        if (&object.sha256, &object.bytes) != (sha256, bytes) {
            let what = format!("{} is not what {id} recorded", job.output);
            self.find(Kind::Zombie, what);
        }
        let expected = self.aftermath.expected.get(&job.input);
        if expected.is_some_and(|expected| *expected != object.sha256) {
            let what = format!(
                "{} is not what {} becomes undisturbed",
                job.output, job.input
            );
            self.find(Kind::Zombie, what);
        }
        // The upload may have been begun by an earlier attempt of the same job, from which work went on.
        let recorded = job.succeeded_tokens.last();
        let fits = object.writer.as_ref().is_some_and(|(writer, token)| {
            writer == id && job.tokens.contains(token) && Some(token) <= recorded
        });
        if !fits {
            let what = format!(
                "{} was written by {:?}, and recorded for {recorded:?} of {id}",
                job.output, object.writer
            );
            self.find(Kind::Zombie, what);
        }
    }

    /// Each visible object belongs to one success, and each record beside one, too.
    fn objects(&mut self) {
        for key in self.aftermath.objects.keys() {
            let output = key.strip_suffix(SIDECAR).unwrap_or(key);
            let jobs = self.aftermath.jobs.iter();
            let owners: Vec<_> = jobs.filter(|(_, job)| job.output == output).collect();
            let successes = owners.iter().filter(|(_, job)| job.state == "succeeded");
            match (owners.first(), successes.count()) {
                (None, _) => self.find(Kind::Orphan, format!("{key} belongs to no job")),
                (Some((id, job)), 0) => {
                    let what = format!("{key} is visible and {id} is {}", job.state);
                    self.find(Kind::Zombie, what);
                }
                (Some(_), 1) => {}
                (Some(_), _) => {
                    self.find(
                        Kind::Duplicated,
                        format!("{key} is the result of several jobs"),
                    );
                }
            }
        }
    }

    fn remains(&mut self) {
        for key in &self.aftermath.uploads {
            self.find(Kind::Orphan, format!("an upload to {key} is left over"));
        }
        for job in &self.aftermath.outbox {
            self.find(Kind::Orphan, format!("{job} is still in the outbox"));
        }
    }
}

#[cfg(test)]
mod tests;
