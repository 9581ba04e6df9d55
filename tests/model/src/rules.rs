//! What is varied: the surroundings, and the rules that a deliberately broken protocol leaves out.

/// The surroundings and the bounds of one exploration.
#[derive(Debug, Clone)]
pub struct Setting {
    /// How many jobs are submitted.
    pub jobs: usize,
    /// How many workers there are.
    pub workers: usize,
    /// How many coordinators there are.
    pub coordinators: usize,
    /// The broker may lose wake-ups and deliver them again at any time.
    pub careless_broker: bool,
    /// Owners may cancel jobs, and have failed ones tried anew.
    pub restless_owners: bool,
    /// All jobs write to one address; otherwise each to its own.
    pub one_output: bool,
    /// Jobs replace what is there, and something is there.
    pub overwrite: bool,
    /// The store refuses to complete an upload over an object when asked to; some stores ignore it.
    pub conditional_store: bool,
    /// The store may refuse a coordinator's credentials at any time.
    pub refusals: bool,
    /// Somebody who knows nothing of upres may write to a free address at any time.
    pub outsider: bool,
    /// Jobs are submitted for later and have a deadline.
    pub timed: bool,
    /// Of how many parts a result is made. Of more than one, the next attempt can go on where one ended.
    pub parts: u8,
    /// Attempts that may be spent.
    pub max_attempts: u8,
    /// Deaths of workers after which a job is held back.
    pub max_deaths: usize,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            jobs: 1,
            workers: 3,
            coordinators: 2,
            careless_broker: true,
            restless_owners: true,
            one_output: false,
            overwrite: false,
            conditional_store: true,
            refusals: false,
            outsider: false,
            timed: false,
            parts: 1,
            max_attempts: 2,
            max_deaths: 2,
        }
    }
}

/// A rule left out. Each must be noticed, or the model proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Whoever asks for publication is taken for the holder of the lease.
    TokenUnchecked,
    /// Every claim is given the same token.
    TokenStandsStill,
    /// An outbox row is marked as sent before the broker has confirmed the message.
    SentBeforeConfirm,
    /// Lost wake-ups are not sent again.
    NoSweeper,
    /// The reaper passes over jobs that are publishing.
    ReaperSkipsPublishing,
    /// The reaper ends an unfinished publication without looking at the object.
    ReaperDoesNotLook,
    /// The upload is completed before anything is written down.
    NoIntent,
    /// An upload that is gone counts as a failure, whatever the object says.
    BelievesTheAnswer,
    /// A report is applied to the state that the worker remembers, not to the one in the database.
    RemembersTheState,
    /// A job is cancelled although its result is being published.
    CancelsWhilePublishing,
    /// A cancelled job can be tried anew.
    RevivesAnything,
    /// A job that is handed back is not put into the outbox.
    HandBackForgetsOutbox,
    /// A job that is tried anew is not put into the outbox.
    ReviveForgetsOutbox,
    /// A claim leaves the outbox row behind.
    ClaimKeepsOutbox,
    /// A publication is declared over before its upload is given up: one that another coordinator is
    /// still at may yet succeed.
    EndsBeforeAborting,
    /// Two jobs may publish to one address at the same time.
    SharesTheOutput,
    /// What an attempt has uploaded is gone on with although it has reported an error.
    KeepsThePointOfAFailure,
    /// A worker whose attempt fails gives its upload up before the coordinator has forgotten it, and even
    /// if the attempt is superseded.
    AbortsBeforeItReports,
    /// A worker that cannot go on with what was kept for it gives that up at once.
    AbortsWhatItSpurns,
    /// The reaper gives up an upload because there was no resume point when it looked.
    ReaperTrustsItsLook,
    /// A publication's end and the end of its attempt are two transactions.
    EndsInTwoSteps,
    /// The janitor spares the uploads of running jobs only.
    JanitorTakesWhatWaits,
    /// The janitor spares what a job's attempt writes to, and not what it may fall back on.
    JanitorKnowsOneUpload,
    /// Publication looks for the attempt that asks for it, not for the one that began the upload.
    LooksForTheNewToken,
    /// A cancelled job's upload is given up only if an attempt has it.
    CancelForgetsTheKept,
    /// The same, of a job that expires.
    ExpireForgetsTheKept,
    /// A job that is refused beforehand stays in the outbox.
    RefusalKeepsOutbox,
    /// The store completes an upload whatever has become of its parts.
    TagsUnchecked,
    /// Work goes on whatever engine and input it was begun with.
    AnyEngineGoesOn,
}

/// What production leaves out: nothing.
pub const TODAY: [Flaw; 0] = [];
