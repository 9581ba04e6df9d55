//! What a worker does with its attempt: it uploads, tells how far it is, and ends. It gives an upload up
//! only when no job speaks of it any more, or if nobody else can have heard of it.

use upres_common::job::JobState;

use crate::Protocol;
use crate::action::Action;
use crate::database::Begun;
use crate::rules::Flaw;
use crate::world::{Attempt, Cause, Parts, Task, Worker, World};

impl Protocol {
    /// What the worker at `place` becomes.
    pub(crate) fn work(&self, world: &mut World, place: usize, action: Action) -> Worker {
        let state = world.workers[place];
        let (Worker::Working(attempt) | Worker::Asking(attempt)) = state else {
            return state;
        };
        let job = &mut world.jobs[attempt.job];
        match action {
            Action::Renew(_) if self.renew(job, attempt) => state,
            // What is uploaded is still offered: the answer then says what to do with it.
            Action::Renew(_) if matches!(state, Worker::Asking(_)) => state,
            Action::Renew(_) => self.stop(world, attempt),
            Action::Begin(_) => Worker::Working(begin(world, attempt)),
            Action::Upload(_) => self.upload(world, place, attempt),
            Action::Fail(_, cause) => self.report(world, attempt, cause),
            Action::HandBack { leaves, .. } => self.drain(world, attempt, leaves),
            Action::Ask { coordinator, .. } => match self.begin_publication(world, attempt) {
                Begun::Yes(publication) => {
                    world.coordinators[coordinator] = Task::Publishing(publication);
                    state
                }
                Begun::NotNow => state,
                Begun::Repeated => {
                    world.jobs[attempt.job].abort(attempt.spurned);
                    Worker::Idle
                }
                Begun::Superseded => self.abandon(world, attempt),
            },
            _ => {
                leave(world, attempt);
                Worker::Idle
            }
        }
    }

    /// Puts the next part. Those who have listed it find another in its place.
    fn upload(&self, world: &mut World, place: usize, attempt: Attempt) -> Worker {
        let attempt = match attempt.parts {
            Some(_) => attempt,
            None => begin(world, attempt),
        };
        let Some(parts) = attempt.parts else {
            return Worker::Working(attempt);
        };
        if !world.jobs[attempt.job].uploads.contains_key(&parts.upload) {
            return self.report(world, attempt, Cause::Attempt);
        }
        let count = parts.count + 1;
        world.workers[place] = Worker::Idle;
        overwrite(world, attempt.job, parts.upload, count);
        let parts = Some(Parts { count, ..parts });
        let attempt = Attempt { parts, ..attempt };
        match count < self.setting.parts {
            true => Worker::Working(attempt),
            false => Worker::Asking(attempt),
        }
    }

    /// Whether nobody else can have heard where this attempt is.
    fn is_alone(&self, attempt: Attempt) -> bool {
        let unheard = |parts: Parts| parts.count == 0 && parts.upload == attempt.token;
        self.setting.parts == 1 || attempt.parts.is_none_or(unheard)
    }

    /// The attempt counts no more: what others may have gone on with is left to them.
    fn abandon(&self, world: &mut World, attempt: Attempt) -> Worker {
        leave(world, attempt);
        if self.is_alone(attempt) {
            abort(world, attempt);
        }
        Worker::Idle
    }

    /// The lease is lost.
    fn stop(&self, world: &mut World, attempt: Attempt) -> Worker {
        if world.state(attempt.job) == Some(&JobState::Cancelled) {
            abort(world, attempt);
            world.jobs[attempt.job].abort(attempt.spurned);
            return Worker::Idle;
        }
        self.abandon(world, attempt)
    }

    /// Reports an error, and cleans up once that is accepted.
    fn report(&self, world: &mut World, attempt: Attempt, cause: Cause) -> Worker {
        if self.lacks(Flaw::AbortsBeforeItReports) && cause != Cause::Death {
            abort(world, attempt);
        }
        let accepted = self.fail(&mut world.jobs[attempt.job], attempt.token, cause);
        if accepted && cause != Cause::Death {
            abort(world, attempt);
            world.jobs[attempt.job].abort(attempt.spurned);
            return Worker::Idle;
        }
        self.abandon(world, attempt)
    }

    /// Hands the job back, with whatever there is to go on with.
    fn drain(&self, world: &mut World, attempt: Attempt, leaves: bool) -> Worker {
        let attempt = match attempt.parts {
            None if leaves => begin(world, attempt),
            _ => attempt,
        };
        let point = attempt.parts.filter(|_| leaves).or(self.point(attempt));
        if point.is_none() && self.is_alone(attempt) {
            abort(world, attempt);
        }
        let job = &mut world.jobs[attempt.job];
        let accepted = self.hand_back(job, attempt.token, point);
        if accepted && point.is_some() {
            job.abort(attempt.spurned);
        }
        if !accepted {
            leave(world, attempt);
        }
        Worker::Idle
    }
}

fn begin(world: &mut World, attempt: Attempt) -> Attempt {
    let upload = attempt.token;
    world.jobs[attempt.job].uploads.insert(upload, false);
    let parts = Some(Parts {
        upload,
        count: 0,
        intact: true,
        alike: true,
    });
    Attempt { parts, ..attempt }
}

fn abort(world: &mut World, attempt: Attempt) {
    let upload = attempt.parts.map(|parts| parts.upload);
    world.jobs[attempt.job].abort(upload);
}

pub(crate) fn leave(world: &mut World, attempt: Attempt) {
    let job = &mut world.jobs[attempt.job];
    job.leave(attempt.parts.map(|parts| parts.upload));
    job.leave(attempt.spurned);
}

/// Somebody puts this part: every list that has it already is wrong from now on.
fn overwrite(
    world: &mut World,
    at: usize,
    upload: upres_common::job::state::LeaseToken,
    number: u8,
) {
    let strike = |parts: &mut Parts| {
        parts.intact &= parts.upload != upload || parts.count < number;
    };
    for worker in &mut world.workers {
        if let Worker::Working(attempt) | Worker::Asking(attempt) = worker
            && attempt.job == at
        {
            attempt.parts.iter_mut().for_each(strike);
        }
    }
    for task in &mut world.coordinators {
        if let Task::Publishing(publication) = task
            && publication.job == at
        {
            strike(&mut publication.parts);
        }
    }
    if let Some(row) = &mut world.jobs[at].row {
        row.point
            .iter_mut()
            .chain(&mut row.publication)
            .for_each(strike);
    }
}
