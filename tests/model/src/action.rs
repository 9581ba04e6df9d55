//! What can happen next.

use upres_common::job::JobState;

use crate::Protocol;
use crate::rules::Flaw;
use crate::world::{Answer, Cause, Row, Step, Task, Worker, World};

/// Something that happens. Workers and coordinators are named by their place, jobs by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The owner submits the job.
    Submit(usize),
    /// Its time comes.
    ComeDue(usize),
    /// Its deadline passes.
    PassDeadline(usize),
    /// Its lease lapses, by the database's clock.
    Lapse(usize),
    /// The owner cancels it.
    Cancel(usize),
    /// The owner has it tried anew.
    Revive(usize),
    /// Somebody else writes to its output's address.
    Intrude(usize),
    /// The broker loses a wake-up for it, or a claim finds its row locked and drops the wake-up.
    Lose(usize),
    /// A coordinator queues it, because its time has come.
    Release(usize),
    /// A coordinator expires it.
    Expire(usize),
    /// A coordinator sees that its output is there already.
    Refuse(usize),
    /// A coordinator has its wake-up sent again, because the broker holds too few.
    Sweep(usize),
    /// A coordinator's janitor looks at its uploads.
    SweepUploads(usize),
    /// A coordinator takes its outbox row and publishes a wake-up.
    Relay {
        /// Who.
        coordinator: usize,
        /// Which job.
        job: usize,
    },
    /// A coordinator deals with its lapsed lease.
    Reap {
        /// Who.
        coordinator: usize,
        /// Which job.
        job: usize,
    },
    /// A coordinator goes on with what it does.
    Continue {
        /// Who.
        coordinator: usize,
        /// What it hears.
        answer: Answer,
    },
    /// A coordinator is killed, or its connection to what it waits for.
    CrashCoordinator(usize),
    /// A worker is woken and claims.
    Claim {
        /// Who.
        worker: usize,
        /// Which job.
        job: usize,
        /// The wake-up is settled; otherwise the broker delivers it again.
        acked: bool,
        /// It has the engine, and finds the input, that what is kept for it was made with.
        goes_on: bool,
    },
    /// A worker's heartbeat.
    Renew(usize),
    /// A worker begins its upload.
    Begin(usize),
    /// A worker uploads the next part.
    Upload(usize),
    /// A worker reports an error.
    Fail(usize, Cause),
    /// A worker drains. It may leave all that it has, even before it has uploaded a part.
    HandBack {
        /// Who.
        worker: usize,
        /// What it has not uploaded has a place, too.
        leaves: bool,
    },
    /// A worker asks for publication.
    Ask {
        /// Who.
        worker: usize,
        /// Whom.
        coordinator: usize,
    },
    /// A worker is killed.
    CrashWorker(usize),
}

/// The places of all that are not the same as their left neighbour: what one can do, so can the other.
fn distinct<T: PartialEq>(all: &[T]) -> impl Iterator<Item = (usize, &T)> {
    let new = |(place, item): &(usize, &T)| *place == 0 || all[place - 1] != **item;
    all.iter().enumerate().filter(new)
}

impl Protocol {
    /// Everything that can happen in `world`, some of which may turn out to change nothing.
    pub(crate) fn possible(&self, world: &World, actions: &mut Vec<Action>) {
        for job in 0..world.jobs.len() {
            match &world.jobs[job].row {
                Some(row) => self.possible_with(world, job, row, actions),
                None => actions.push(Action::Submit(job)),
            }
        }
        for (worker, state) in distinct(&world.workers) {
            self.possible_for_worker(world, worker, *state, actions);
        }
        for (coordinator, task) in distinct(&world.coordinators) {
            if *task == Task::Idle {
                continue;
            }
            actions.push(Action::CrashCoordinator(coordinator));
            let answer = Answer::Honest;
            actions.push(Action::Continue {
                coordinator,
                answer,
            });
            let completes = matches!(task, Task::Publishing(it) if it.next == Step::Complete);
            if completes && self.setting.refusals {
                for answer in [Answer::Refusal, Answer::LateRefusal] {
                    actions.push(Action::Continue {
                        coordinator,
                        answer,
                    });
                }
            }
        }
    }

    fn possible_with(&self, world: &World, job: usize, row: &Row, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action| {
            if enabled {
                actions.push(action);
            }
        };
        let idle = world
            .coordinators
            .iter()
            .position(|task| *task == Task::Idle);
        let due = row.outbox.is_some_and(|outbox| outbox.due);
        when(row.outbox.is_some() && !due, Action::ComeDue(job));
        when(
            self.setting.timed && !row.overdue,
            Action::PassDeadline(job),
        );
        when(
            row.held().is_some() && !row.has_lapsed(),
            Action::Lapse(job),
        );
        when(self.setting.restless_owners, Action::Cancel(job));
        when(self.setting.restless_owners, Action::Revive(job));
        let free = world.objects[self.output(job)].is_none();
        when(self.setting.outsider && free, Action::Intrude(job));
        let careless = self.setting.careless_broker;
        when(careless && world.jobs[job].wake_ups > 0, Action::Lose(job));
        when(
            due && row.state.0 == JobState::Scheduled,
            Action::Release(job),
        );
        when(row.overdue && row.waits(), Action::Expire(job));
        let taken = !free && !self.setting.overwrite;
        when(taken && row.waits(), Action::Refuse(job));
        let resumable = self.setting.parts > 1;
        let any = !world.jobs[job].uploads.is_empty();
        when(resumable && any, Action::SweepUploads(job));
        let sent = row.outbox.is_some_and(|outbox| outbox.sent);
        when(sent && self.misses_wake_ups(world), Action::Sweep(job));
        let Some(coordinator) = idle else { return };
        when(due && !sent, Action::Relay { coordinator, job });
        when(row.has_lapsed(), Action::Reap { coordinator, job });
    }

    fn possible_for_worker(
        &self,
        world: &World,
        worker: usize,
        state: Worker,
        actions: &mut Vec<Action>,
    ) {
        let careless = self.setting.careless_broker;
        match state {
            Worker::Idle => {
                for (job, _) in world
                    .jobs
                    .iter()
                    .enumerate()
                    .filter(|(_, job)| job.wake_ups > 0)
                {
                    let kept = world.jobs[job].row.as_ref().and_then(|row| row.point);
                    let both = [true, false];
                    for acked in both.into_iter().filter(|acked| *acked || careless) {
                        for goes_on in both.into_iter().filter(|yes| *yes || kept.is_some()) {
                            actions.push(Action::Claim {
                                worker,
                                job,
                                acked,
                                goes_on,
                            });
                        }
                    }
                }
                return;
            }
            Worker::Working(attempt) => {
                let begun = attempt.parts.is_some() || self.setting.parts == 1;
                actions.push(match begun {
                    true => Action::Upload(worker),
                    false => Action::Begin(worker),
                });
                for cause in [Cause::Final, Cause::Attempt, Cause::Death] {
                    actions.push(Action::Fail(worker, cause));
                }
                let (worth, places) = (self.setting.parts > 1, [false, true]);
                for leaves in places.into_iter().filter(|leaves| worth || !leaves) {
                    actions.push(Action::HandBack { worker, leaves });
                }
            }
            Worker::Asking(_) => {
                let idle = world
                    .coordinators
                    .iter()
                    .position(|task| *task == Task::Idle);
                actions.extend(idle.map(|coordinator| Action::Ask {
                    worker,
                    coordinator,
                }));
            }
        }
        actions.push(Action::Renew(worker));
        actions.push(Action::CrashWorker(worker));
    }

    /// Whether the broker holds fewer wake-ups than jobs wait for an answer to theirs.
    fn misses_wake_ups(&self, world: &World) -> bool {
        let sent = |row: &Row| row.outbox.is_some_and(|outbox| outbox.sent);
        let rows = world.jobs.iter().filter_map(|job| job.row.as_ref());
        let unanswered = rows.filter(|row| sent(row)).count();
        let held: u8 = world.jobs.iter().map(|job| job.wake_ups).sum();
        !self.lacks(Flaw::NoSweeper) && unanswered > usize::from(held)
    }
}
