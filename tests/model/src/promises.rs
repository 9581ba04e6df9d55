//! What must hold in every world, and what must happen in some, lest the rest be true of nothing.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

use stateright::{Model, Property};
use upres_common::job::JobState;

use crate::Protocol;
use crate::action::Action;
use crate::world::{Answer, Job, Object, Row, Step, Task, Worker, World};

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
/// Of every job that was accepted, whatever happened before, if nothing more goes wrong: with all
/// processes as they are, and with all of them killed and started anew.
pub const COMES_TO_AN_END: &str = "every job comes to an end";

/// All of them.
pub const PROMISES: [&str; 9] = [
    ENDS_ONCE,
    CANCEL_IS_FINAL,
    TOKENS_GROW,
    NO_STRAY_RESULT,
    ONE_OBJECT,
    SUCCESS_IS_VISIBLE,
    VISIBLE_IS_SUCCESS,
    WAITS_IN_OUTBOX,
    COMES_TO_AN_END,
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
        Worker::Asking { job, token } => {
            let held = world.jobs[*job].row.as_ref().and_then(Row::held);
            held.is_some_and(|(held, publishing)| publishing && held != *token)
        }
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
            let recorded = row.result.map(|token| Object::Result { job: at, token });
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
            let publishing = row.and_then(Row::held) == Some((*token, true));
            let succeeded =
                is(job, &JobState::Succeeded) && row.is_some_and(|row| row.result == Some(*token));
            publishing || succeeded
        }
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
        Action::Upload(_) => 1,
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
