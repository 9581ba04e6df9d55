//! What there is: the database's rows, the broker's wake-ups, the store's uploads and objects, and
//! what every process has in its hands.
//!
//! Times are relative to the database's clock, so that the passing of time is a change of the world
//! like any other: [`LIVE`] lies ahead of it, [`LAPSED`] behind.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use upres_common::job::JobState;
use upres_common::job::state::LeaseToken;

/// The database's `now()`.
const NOW: DateTime<Utc> = at(0);
/// When a lease that was just given or renewed lapses.
pub const LIVE: DateTime<Utc> = at(1);
/// When a lease lapsed that lapsed.
pub const LAPSED: DateTime<Utc> = at(-1);

/// An outbox row that nobody has taken yet.
pub const NEW_ROW: u8 = 2;

const fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).expect("the epoch has neighbours")
}

/// Everything. Workers and coordinators are kept sorted: which is which makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The jobs, and what the broker and the store hold of each.
    pub jobs: Vec<Job>,
    /// The visible object under each address, if any.
    pub objects: Vec<Option<Object>>,
    /// What each worker does.
    pub workers: Vec<Worker>,
    /// What each coordinator does beyond single transactions.
    pub coordinators: Vec<Task>,
}

/// One job everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Job {
    /// Absent until it is submitted.
    pub row: Option<Row>,
    /// Its wake-ups on the broker. Two stand for two or more.
    pub wake_ups: u8,
    /// Its invisible uploads, by the token of the attempt that began them. True: somebody died, or was
    /// superseded, with it in hand, and it may be for the janitor.
    pub uploads: BTreeMap<LeaseToken, bool>,
    /// What an observer from outside remembers. The protocol never reads it.
    pub story: Story,
}

/// The job in the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// Production's own type; only its `apply` says what follows.
    pub state: Saved,
    /// Present while the job waits.
    pub outbox: Option<Outbox>,
    /// The last lease token drawn for it.
    pub drawn: i64,
    /// Attempts spent.
    pub failures: u8,
    /// Attempts that seem to have ended with their worker, held against the job.
    pub blamed: BTreeSet<LeaseToken>,
    /// How many more of these there are, of which no worker will speak again.
    pub deaths: usize,
    /// The upload that its attempt writes to, or that is kept for the next, as far as was heard.
    pub upload: Option<LeaseToken>,
    /// From where the next attempt can go on.
    pub point: Option<Parts>,
    /// The upload noted as intended, while the job is publishing.
    pub publication: Option<Parts>,
    /// What was recorded.
    pub result: Option<Recorded>,
    /// Its deadline has passed.
    pub overdue: bool,
}

/// The job's outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outbox {
    /// Tells it from the job's earlier ones.
    pub id: u8,
    /// Its time has come.
    pub due: bool,
    /// Marked as sent.
    pub sent: bool,
}

/// Some parts of an upload, as somebody has listed them. Whether they still are as listed is kept here
/// rather than their tags: what two attempts write differs, and nobody writes a part twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parts {
    /// The upload, by the token under which it was begun.
    pub upload: LeaseToken,
    /// The first so many.
    pub count: u8,
    /// None was overwritten by somebody else since.
    pub intact: bool,
    /// One engine made them all, of one input.
    pub alike: bool,
}

/// A recorded result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recorded {
    /// Which attempt's.
    pub token: LeaseToken,
    /// The attempt under which its upload was begun, as the object's metadata say.
    pub upload: LeaseToken,
}

/// The observer's notes, for what no single state can show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Story {
    /// The last token granted.
    pub token: Option<LeaseToken>,
    /// A token was granted that did not exceed the one before.
    pub token_did_not_grow: bool,
    /// A final state was left.
    pub left_its_end: bool,
    /// The owner was told that the job is cancelled.
    pub cancelled: bool,
    /// Its objects that became visible. Two stand for two or more.
    pub published: u8,
    /// One became visible while the job was not publishing that very attempt.
    pub strayed: bool,
    /// One became visible that was not made of the parts that its attempt had listed, or of parts that
    /// do not fit together.
    pub patched: bool,
}

/// A visible object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// Written by somebody who knows nothing of upres.
    Outsider,
    /// The result of an attempt, as its metadata say.
    Result {
        /// Whose.
        job: usize,
        /// Which attempt began its upload.
        token: LeaseToken,
    },
}

/// One worker. A paused one is one that is not given a turn: it goes on later with what it believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    /// Waits for a wake-up; also one that was just restarted.
    Idle,
    /// Computes and uploads.
    Working(Attempt),
    /// Has uploaded, and asks for publication until it is heard.
    Asking(Attempt),
}

/// What a worker has in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt {
    /// Which job.
    pub job: usize,
    /// Under which lease.
    pub token: LeaseToken,
    /// What it has uploaded, and found uploaded, once there is an upload.
    pub parts: Option<Parts>,
    /// The upload that was kept for it and with which it cannot go on.
    pub spurned: Option<LeaseToken>,
}

/// What a coordinator is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Nothing; also one that was just restarted.
    Idle,
    /// Between the broker and the outbox row.
    Relaying {
        /// Which job.
        job: usize,
        /// The outbox row that it took.
        row: u8,
    },
    /// Between a look at the lapsed leases and the end of the attempt.
    Reaping {
        /// Which job.
        job: usize,
        /// The lease that had lapsed.
        token: LeaseToken,
        /// The upload that it may leave behind.
        upload: Option<LeaseToken>,
    },
    /// Making a result visible.
    Publishing(Publication),
}

/// A publication in one coordinator's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publication {
    /// Which job.
    pub job: usize,
    /// The lease under which it was begun.
    pub token: LeaseToken,
    /// The attempt that asked for it.
    pub by: LeaseToken,
    /// The upload to complete.
    pub parts: Parts,
    /// What comes next.
    pub next: Step,
}

/// The steps of a publication that others can come between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// What is under the output's address?
    Look,
    /// Complete the upload.
    Complete,
    /// What is there now? The store's answer decides the cause if it is not ours.
    Check(Cause),
    /// Record the result.
    Record,
    /// It cannot be done: give the upload up before saying so.
    Abandon(Cause),
    /// The upload is gone: did another coordinator complete it first?
    LookAgain(Cause),
    /// Note that the publication is over.
    End(Cause),
    /// Give the upload up.
    Abort(Cause),
    /// End the attempt.
    Fail(Cause),
}

/// What the store says when a coordinator makes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What it did.
    Honest,
    /// That the coordinator's credentials are no good.
    Refusal,
    /// The same, to the second try of a request whose first try went through unheard.
    LateRefusal,
}

/// What the end of an attempt costs the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The job.
    Final,
    /// One of its attempts.
    Attempt,
    /// One of the deaths it may cause.
    Death,
}

/// Production's state, with the hash that a model checker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved(pub JobState);

impl Hash for Saved {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.name().hash(hasher);
        if let JobState::Running {
            token,
            lease_until,
            publishing,
        } = &self.0
        {
            (token, lease_until, publishing).hash(hasher);
        }
    }
}

impl World {
    /// The same world after every process was killed and started anew.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let mut world = self.clone();
        world.workers.fill(Worker::Idle);
        world.coordinators.fill(Task::Idle);
        world
    }

    /// The job's state, once it is submitted.
    #[must_use]
    pub fn state(&self, job: usize) -> Option<&JobState> {
        self.jobs[job].row.as_ref().map(|row| &row.state.0)
    }

    /// Whether every job that was accepted has ended.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let mut accepted = self.jobs.iter().filter_map(|job| job.row.as_ref());
        accepted.all(|row| row.state.0.is_terminal())
    }
}

impl Worker {
    /// What it has in its hands.
    #[must_use]
    pub const fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Idle => None,
            Self::Working(attempt) | Self::Asking(attempt) => Some(attempt),
        }
    }
}

impl Job {
    /// Somebody who had this upload in hand does nothing more about it.
    pub fn leave(&mut self, upload: Option<LeaseToken>) {
        if let Some(left) = upload.and_then(|upload| self.uploads.get_mut(&upload)) {
            *left = true;
        }
    }

    /// Gives this upload up.
    pub fn abort(&mut self, upload: Option<LeaseToken>) {
        if let Some(upload) = upload {
            self.uploads.remove(&upload);
        }
    }
}

impl Row {
    /// Whether the job speaks of this upload: then it is not for others to give it up.
    #[must_use]
    pub fn names(&self, upload: LeaseToken) -> bool {
        let listed = [self.point, self.publication];
        self.upload == Some(upload) || listed.iter().flatten().any(|parts| parts.upload == upload)
    }

    /// A job that was just accepted.
    #[must_use]
    pub fn accepted(later: bool) -> Self {
        let state = match later {
            true => JobState::Scheduled,
            false => JobState::Queued,
        };
        Self {
            state: Saved(state),
            outbox: Some(Outbox {
                id: NEW_ROW,
                due: !later,
                sent: false,
            }),
            drawn: 0,
            failures: 0,
            blamed: BTreeSet::new(),
            deaths: 0,
            upload: None,
            point: None,
            publication: None,
            result: None,
            overdue: false,
        }
    }

    /// The lease that is held, and whether it is publishing.
    #[must_use]
    pub fn held(&self) -> Option<(LeaseToken, bool)> {
        match self.state.0 {
            JobState::Running {
                token, publishing, ..
            } => Some((token, publishing)),
            _ => None,
        }
    }

    /// Whether a lease is held that has lapsed.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        matches!(self.state.0, JobState::Running { lease_until, .. } if lease_until < NOW)
    }

    /// Whether the job waits for a worker.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.state.0, JobState::Scheduled | JobState::Queued)
    }

    /// Puts the job into the outbox.
    pub fn enqueue(&mut self, due: bool) {
        self.outbox = Some(Outbox {
            id: NEW_ROW,
            due,
            sent: false,
        });
    }
}
