//! What must hold in every world, and what must happen in some, lest the rest be true of nothing.

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

use stateright::{Model, Property};
use upres_common::job::JobState;

use crate::Protocol;
use crate::action::Action;
use crate::canonical::in_hand;
use crate::world::{Answer, Job, Object, Parts, Publication, Row, Step, Task, Worker, World};

/// Nothing leaves a final state but a failed job, by its owner's wish.
pub const ENDS_ONCE: &str = "a job ends once";
/// A job whose owner was told that it is cancelled stays cancelled.
pub const CANCEL_IS_FINAL: &str = "cancel is final";
/// Every lease's token exceeds that of the lease before.
pub const TOKENS_GROW: &str = "lease tokens only grow";
/// An upload becomes visible only while its job is publishing under the very lease of its attempt.
pub const NO_STRAY_RESULT: &str = "only the holder of the lease makes a result visible";
/// Not one for each attempt: one, revivals included.
pub const ONE_OBJECT: &str = "at most one object is published for a job";
/// The object is that of the recorded attempt. Not promised where jobs share an output and replace
/// each other's, nor against writers outside upres that replace it.
pub const SUCCESS_IS_VISIBLE: &str = "a succeeded job's object is there";
/// A visible result belongs to a job that has succeeded with it, or is publishing it at this moment.
pub const VISIBLE_IS_SUCCESS: &str =
    "no object of a job that ended otherwise, or not yet, is there";
/// Hence the relay finds whatever waits, and sends nothing that does not.
pub const WAITS_IN_OUTBOX: &str = "a job waits exactly if it is in the outbox";
/// What is kept for the next attempt, and what the present one writes to, is not given up under its hands:
/// neither by a superseded attempt, nor by one that cannot go on with it, nor by whoever cleans up.
pub const WORK_IS_KEPT: &str = "an upload that work goes on with is there";
/// A list of parts, some of which another attempt overwrote, becomes no object; nor do parts that were made
/// of another input or by another engine than the rest.
pub const ONE_PIECE: &str = "a result is made of the parts that its attempt listed";
/// Nor has anybody given it up, and no attempt that might know of it died or was superseded: those are left
/// to the janitor.
pub const NOTHING_IS_LEFT: &str = "an upload that nobody goes on with is given up";
/// Of every job that was accepted, whatever happened before, if nothing more goes wrong: with all
/// processes as they are, and with all of them killed and started anew.
pub const COMES_TO_AN_END: &str = "every job comes to an end";

/// All of them.
pub const PROMISES: [&str; 12] = [
    ENDS_ONCE,
    CANCEL_IS_FINAL,
    TOKENS_GROW,
    NO_STRAY_RESULT,
    ONE_OBJECT,
    SUCCESS_IS_VISIBLE,
    VISIBLE_IS_SUCCESS,
    WAITS_IN_OUTBOX,
    WORK_IS_KEPT,
    ONE_PIECE,
    NOTHING_IS_LEFT,
    COMES_TO_AN_END,
];

/// What must come up where work goes on, and its results are of three parts.
pub const SIGHTS_OF_GOING_ON: [&str; 4] = [
    "two attempts write to one upload",
    "one attempt's upload is published for another",
    "a list is refused",
    "a resume point has parts that were overwritten",
];

/// Far more steps than any job needs to come to its end.
const PATIENCE: usize = 200;

pub(crate) fn promises() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ENDS_ONCE, |_, world| {
            !any(world, |job| job.story.left_its_end)
        }),
        Property::always(CANCEL_IS_FINAL, |_, world| {
            !any(world, |job| {
                job.story.cancelled && !is(job, &JobState::Cancelled)
            })
        }),
        Property::always(TOKENS_GROW, |_, world| {
            !any(world, |job| job.story.token_did_not_grow)
        }),
        Property::always(NO_STRAY_RESULT, |_, world| {
            !any(world, |job| job.story.strayed)
        }),
        Property::always(ONE_OBJECT, |_, world| {
            !any(world, |job| job.story.published > 1)
        }),
        Property::always(SUCCESS_IS_VISIBLE, success_is_visible),
        Property::always(VISIBLE_IS_SUCCESS, visible_is_success),
        Property::always(WAITS_IN_OUTBOX, |_, world| {
            !any(world, |job| {
                let row = job.row.as_ref();
                row.is_some_and(|row| row.waits() != row.outbox.is_some())
            })
        }),
        Property::always(WORK_IS_KEPT, |_, world: &World| {
            (0..world.jobs.len()).all(|at| work_is_kept(world, at))
        }),
        Property::always(ONE_PIECE, |_, world| !any(world, |job| job.story.patched)),
        Property::always(NOTHING_IS_LEFT, |_, world: &World| {
            (0..world.jobs.len()).all(|at| nothing_is_left(world, at))
        }),
        Property::always(COMES_TO_AN_END, |protocol, world| {
            protocol.comes_to_an_end(world) && protocol.comes_to_an_end(&world.restarted())
        }),
    ]
}

/// What a fair exploration must have come across.
pub(crate) fn sights() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes("a job succeeds", |_, world| {
            any(world, |job| is(job, &JobState::Succeeded))
        }),
        Property::sometimes("a job fails", |_, world| {
            any(world, |job| is(job, &JobState::Failed))
        }),
        Property::sometimes("a job is cancelled", |_, world| {
            any(world, |job| is(job, &JobState::Cancelled))
        }),
        Property::sometimes(
            "a superseded attempt asks beside the one that counts",
            stale_asks,
        ),
        Property::sometimes("a crash leaves a visible result unrecorded", |_, world| {
            any(world, |job| {
                let row = job.row.as_ref();
                job.story.published == 1 && row.is_some_and(|row| row.result.is_none())
            }) && world.coordinators.iter().all(|task| *task == Task::Idle)
        }),
        Property::sometimes("all coordinators complete one upload", all_complete),
    ]
}

fn stale_asks(_: &Protocol, world: &World) -> bool {
    world.workers.iter().any(|worker| match worker {
        Worker::Asking(attempt) => {
            let held = world.jobs[attempt.job].row.as_ref().and_then(Row::held);
            held.is_some_and(|(held, publishing)| publishing && held != attempt.token)
        }
        _ => false,
    })
}

/// What an exploration in which work goes on must have come across as well.
pub(crate) fn sights_of_going_on() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(SIGHTS_OF_GOING_ON[0], |_, world: &World| {
            let uploads: Vec<_> = world
                .workers
                .iter()
                .filter_map(Worker::attempt)
                .filter_map(|attempt| Some((attempt.job, attempt.parts?.upload)))
                .collect();
            let distinct: BTreeSet<_> = uploads.iter().collect();
            distinct.len() < uploads.len()
        }),
        Property::sometimes(SIGHTS_OF_GOING_ON[1], |_, world| {
            publishes(world, |it| it.parts.upload != it.token)
        }),
        Property::sometimes(SIGHTS_OF_GOING_ON[2], |_, world| {
            publishes(world, |it| !it.parts.intact && it.next == Step::Complete)
        }),
        Property::sometimes(SIGHTS_OF_GOING_ON[3], |_, world| {
            any(world, |job| {
                let point = job.row.as_ref().and_then(|row| row.point);
                point.is_some_and(|point| !point.intact)
            })
        }),
    ]
}

fn publishes(world: &World, of: fn(&Publication) -> bool) -> bool {
    world.coordinators.iter().any(|task| match task {
        Task::Publishing(publication) => of(publication),
        _ => false,
    })
}

fn all_complete(_: &Protocol, world: &World) -> bool {
    world.coordinators.iter().all(|task| match task {
        Task::Publishing(publication) => publication.next == Step::Complete,
        _ => false,
    })
}

fn any(world: &World, of: impl Fn(&Job) -> bool) -> bool {
    world.jobs.iter().any(of)
}

fn is(job: &Job, state: &JobState) -> bool {
    job.row.as_ref().is_some_and(|row| row.state.0 == *state)
}

fn success_is_visible(protocol: &Protocol, world: &World) -> bool {
    let mut jobs = world.jobs.iter().enumerate();
    jobs.all(|(at, job)| {
        let row = job.row.as_ref().filter(|_| is(job, &JobState::Succeeded));
        row.is_none_or(|row| {
            let recorded = row.result.map(|result| Object::Result {
                job: at,
                token: result.upload,
            });
            recorded.is_some() && world.objects[protocol.output(at)] == recorded
        })
    })
}

fn visible_is_success(_: &Protocol, world: &World) -> bool {
    world.objects.iter().flatten().all(|object| match object {
        Object::Outsider => true,
        Object::Result { job, token } => {
            let job = &world.jobs[*job];
            let row = job.row.as_ref();
            let intended = row.and_then(|row| row.publication);
            let recorded = row.and_then(|row| row.result);
            let publishing = intended.is_some_and(|parts| parts.upload == *token);
            let succeeded = is(job, &JobState::Succeeded)
                && recorded.is_some_and(|result| result.upload == *token);
            publishing || succeeded
        }
    })
}

fn work_is_kept(world: &World, at: usize) -> bool {
    let job = &world.jobs[at];
    let Some(row) = &job.row else { return true };
    let held = row.held();
    if held.is_some_and(|(_, publishing)| publishing) {
        return true;
    }
    let attempts = world.workers.iter().filter_map(Worker::attempt);
    let mut present =
        attempts.filter(|it| it.job == at && held.map(|(token, _)| token) == Some(it.token));
    let there = |parts: Parts| job.uploads.contains_key(&parts.upload);
    row.point.is_none_or(there) && present.all(|attempt| attempt.parts.is_none_or(there))
}

fn nothing_is_left(world: &World, at: usize) -> bool {
    let job = &world.jobs[at];
    let in_hand = in_hand(world, at);
    job.uploads.iter().all(|(upload, left)| {
        let row = job.row.as_ref();
        *left || in_hand.contains(upload) || row.is_some_and(|row| row.names(*upload))
    })
}

/// How soon a fair scheduler lets something happen; `None`: it is a misfortune, or somebody's wish,
/// that no job may depend on. What is in hand is finished first, time passes last.
fn urgency(action: Action) -> Option<u8> {
    Some(match action {
        Action::Continue {
            answer: Answer::Honest,
            ..
        } => 0,
        Action::Begin(_) | Action::Upload(_) => 1,
        Action::Ask { .. } => 2,
        Action::Claim { acked: true, .. } => 3,
        Action::Expire(_) => 4,
        Action::Release(_) => 5,
        Action::Relay { .. } => 6,
        Action::Sweep(_) => 7,
        Action::Reap { .. } => 8,
        Action::ComeDue(_) => 9,
        Action::Lapse(_) => 10,
        _ => return None,
    })
}

impl Protocol {
    /// Lets the fair scheduler run until all accepted jobs have ended. What it meets on the way is
    /// remembered: each world is walked through once.
    fn comes_to_an_end(&self, world: &World) -> bool {
        let mut walked = Vec::new();
        let mut world = world.clone();
        for _ in 0..PATIENCE {
            let mark = digest(&world);
            if self.known_to_end(mark) || world.is_settled() {
                self.remember(walked);
                return true;
            }
            walked.push(mark);
            match self.fair_next(&world) {
                Some(next) => world = next,
                None => return false,
            }
        }
        false
    }

    /// The first thing, in the order of urgency, that changes anything.
    fn fair_next(&self, world: &World) -> Option<World> {
        let mut actions = Vec::new();
        self.actions(world, &mut actions);
        let mut fair: Vec<_> = actions
            .into_iter()
            .filter_map(|action| Some((urgency(action)?, action)))
            .collect();
        fair.sort_by_key(|(urgency, _)| *urgency);
        let mut next = fair
            .into_iter()
            .filter_map(|(_, action)| self.next_state(world, action));
        next.next()
    }

    fn known_to_end(&self, mark: u64) -> bool {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.contains(&mark)
    }

    fn remember(&self, walked: Vec<u64>) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.extend(walked);
    }
}

/// Worlds known to come to an end, by their digest.
pub(crate) type Ending = HashSet<u64>;

fn digest(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}
