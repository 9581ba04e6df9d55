//! What an action does to the world.

use upres_common::job::state::LeaseToken;
use upres_common::job::{JobEvent, JobState};

use crate::Protocol;
use crate::action::Action;
use crate::canonical;
use crate::database::transition;
use crate::rules::Flaw;
use crate::world::{
    Answer, Cause, LAPSED, Object, Publication, Row, Saved, Step, Task, Worker, World,
};

impl Protocol {
    /// The world after `action`.
    pub(crate) fn after(&self, world: &World, action: Action) -> World {
        let mut next = world.clone();
        match action {
            Action::Relay { coordinator, job } => self.relay(&mut next, coordinator, job),
            Action::Reap { coordinator, job } => self.reap(&mut next, coordinator, job),
            Action::Continue {
                coordinator,
                answer,
            } => {
                self.go_on(&mut next, coordinator, answer);
            }
            Action::CrashCoordinator(coordinator) => {
                let task = std::mem::replace(&mut next.coordinators[coordinator], Task::Idle);
                if let Task::Publishing(publication) = task {
                    next.jobs[publication.job].leave(Some(publication.parts.upload));
                }
            }
            Action::Claim {
                worker,
                job,
                acked,
                goes_on,
            } => {
                let attempt = self.claim(&mut next.jobs[job], job, goes_on);
                next.jobs[job].wake_ups -= u8::from(acked);
                if let Some(attempt) = attempt {
                    next.workers[worker] = Worker::Working(attempt);
                }
            }
            Action::Renew(worker)
            | Action::Begin(worker)
            | Action::Upload(worker)
            | Action::Fail(worker, _)
            | Action::HandBack { worker, .. }
            | Action::CrashWorker(worker)
            | Action::Ask { worker, .. } => {
                next.workers[worker] = self.work(&mut next, worker, action);
            }
            _ => self.happen(&mut next, action),
        }
        canonical::rewrite(&mut next);
        next
    }

    /// What needs no process of ours, or only one transaction of any coordinator.
    fn happen(&self, world: &mut World, action: Action) {
        match action {
            Action::Submit(job) => world.jobs[job].row = Some(Row::accepted(self.setting.timed)),
            Action::Cancel(job) => _ = self.cancel(&mut world.jobs[job]),
            Action::Revive(job) => _ = self.revive(&mut world.jobs[job]),
            Action::Intrude(job) => {
                let output = self.output(job);
                world.objects[output] = Some(Object::Outsider);
            }
            Action::Lose(job) => world.jobs[job].wake_ups -= 1,
            Action::Release(job) => _ = transition(&mut world.jobs[job], &JobEvent::Released),
            Action::Expire(job) => self.expire(&mut world.jobs[job]),
            Action::Refuse(job) => self.refuse(&mut world.jobs[job]),
            Action::SweepUploads(job) => self.sweep_uploads(world, job),
            Action::ComeDue(job)
            | Action::PassDeadline(job)
            | Action::Lapse(job)
            | Action::Sweep(job) => {
                if let Some(row) = &mut world.jobs[job].row {
                    pass(row, action);
                }
            }
            _ => {}
        }
    }

    fn relay(&self, world: &mut World, coordinator: usize, at: usize) {
        let Some(row) = &mut world.jobs[at].row else {
            return;
        };
        let Some(outbox) = &mut row.outbox else {
            return;
        };
        let id = outbox.id;
        world.coordinators[coordinator] = Task::Relaying { job: at, row: id };
        if self.lacks(Flaw::SentBeforeConfirm) {
            outbox.sent = true;
        } else {
            publish_wake_up(world, at);
        }
    }

    fn reap(&self, world: &mut World, coordinator: usize, at: usize) {
        let job = &mut world.jobs[at];
        let Some(row) = &job.row else { return };
        let Some((token, publishing)) = row.held() else {
            return;
        };
        let (upload, intended) = (row.upload, row.publication);
        if !publishing {
            let resumable = upload.is_some() && upload == row.point.map(|point| point.upload);
            let kept = resumable && self.lacks(Flaw::ReaperTrustsItsLook);
            world.coordinators[coordinator] = Task::Reaping {
                job: at,
                token,
                upload: upload.filter(|_| !kept),
            };
            return;
        }
        if self.lacks(Flaw::ReaperSkipsPublishing) {
            return;
        }
        if self.lacks(Flaw::ReaperDoesNotLook) {
            transition(job, &JobEvent::PublicationEnded { token });
            self.fail(job, token, Cause::Death);
            return;
        }
        let Some(parts) = intended else { return };
        world.coordinators[coordinator] = Task::Publishing(Publication {
            job: at,
            token,
            by: token,
            parts,
            next: Step::Look,
        });
    }

    fn go_on(&self, world: &mut World, coordinator: usize, answer: Answer) {
        let task = world.coordinators[coordinator];
        world.coordinators[coordinator] = match task {
            Task::Idle => Task::Idle,
            Task::Relaying { job, .. } if self.lacks(Flaw::SentBeforeConfirm) => {
                publish_wake_up(world, job);
                Task::Idle
            }
            Task::Relaying { job, row: taken } => {
                let row = world.jobs[job].row.as_mut();
                let outbox = row.and_then(|row| row.outbox.as_mut());
                if let Some(outbox) = outbox.filter(|outbox| outbox.id == taken) {
                    outbox.sent = true;
                }
                Task::Idle
            }
            // By now it may have been renewed, settled, or begun to publish.
            Task::Reaping { job, token, upload } => {
                let job = &mut world.jobs[job];
                if self.fail(job, token, Cause::Death) {
                    let row = job.row.as_ref();
                    let named = |upload: &LeaseToken| row.is_some_and(|row| row.names(*upload));
                    let trusts = self.lacks(Flaw::ReaperTrustsItsLook);
                    let left = upload.filter(|upload| trusts || !named(upload));
                    job.abort(left);
                }
                Task::Idle
            }
            Task::Publishing(publication) => self.step(world, publication, answer),
        };
    }
}

fn publish_wake_up(world: &mut World, job: usize) {
    let wake_ups = &mut world.jobs[job].wake_ups;
    *wake_ups = (*wake_ups + 1).min(2);
}

/// Time passes for one row.
fn pass(row: &mut Row, action: Action) {
    match (action, &mut row.outbox) {
        (Action::ComeDue(_), Some(outbox)) => outbox.due = true,
        (Action::Sweep(_), Some(outbox)) => outbox.sent = false,
        (Action::PassDeadline(_), _) => row.overdue = true,
        (Action::Lapse(_), _) => {
            if let Some((token, publishing)) = row.held() {
                row.state = Saved(JobState::Running {
                    token,
                    lease_until: LAPSED,
                    publishing,
                });
            }
        }
        _ => {}
    }
}
