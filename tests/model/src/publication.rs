//! The steps of a publication after the intent, each of which may be the last before a crash, or
//! wait for as long as it likes while another coordinator does the same.

use upres_common::job::JobEvent;

use crate::Protocol;
use crate::database::transition;
use crate::rules::Flaw;
use crate::world::{Answer, Cause, LIVE, Object, Publication, Recorded, Step, Task, World};

impl Protocol {
    /// Makes the next step.
    pub fn step(&self, world: &mut World, publication: Publication, answer: Answer) -> Task {
        let next = match publication.next {
            Step::Look => self.look(world, publication),
            Step::Complete => Some(match answer {
                Answer::Honest => self.complete(world, publication),
                Answer::Refusal => self.cannot(Cause::Final),
                Answer::LateRefusal => {
                    self.complete(world, publication);
                    self.cannot(Cause::Final)
                }
            }),
            Step::Check(cause) => Some(self.check(world, publication, cause)),
            Step::Record => self.record(world, publication),
            Step::Abandon(cause) => {
                abort(world, publication);
                Some(Step::LookAgain(cause))
            }
            Step::LookAgain(cause) => match self.is_ours(world, publication) {
                true if !self.lacks(Flaw::BelievesTheAnswer) => Some(Step::Record),
                _ => Some(Step::End(cause)),
            },
            Step::End(cause) => self.end(world, publication, cause),
            Step::Abort(cause) => {
                abort(world, publication);
                Some(Step::Fail(cause))
            }
            Step::Fail(cause) => {
                self.fail(&mut world.jobs[publication.job], publication.token, cause);
                None
            }
        };
        next.map_or(Task::Idle, |next| {
            Task::Publishing(Publication {
                next,
                ..publication
            })
        })
    }

    fn is_ours(&self, world: &World, publication: Publication) -> bool {
        let job = publication.job;
        let token = match self.lacks(Flaw::LooksForTheNewToken) {
            true => publication.token,
            false => publication.parts.upload,
        };
        world.objects[self.output(job)] == Some(Object::Result { job, token })
    }

    fn look(&self, world: &World, publication: Publication) -> Option<Step> {
        let there = world.objects[self.output(publication.job)];
        Some(match there {
            Some(_) if self.is_ours(world, publication) => Step::Record,
            Some(_) if !self.setting.overwrite => self.cannot(Cause::Final),
            _ => Step::Complete,
        })
    }

    /// The store completes the upload, if it still has it. Whether the answer arrives is another
    /// matter: an answer that is lost is a coordinator that makes no further step.
    fn complete(&self, world: &mut World, publication: Publication) -> Step {
        let Publication {
            job: at, by, parts, ..
        } = publication;
        let upload = parts.upload;
        let output = self.output(at);
        let taken = world.objects[output].is_some() && !self.setting.overwrite;
        if !world.jobs[at].uploads.contains_key(&upload) {
            return match self.lacks(Flaw::BelievesTheAnswer) {
                true => self.cannot(Cause::Attempt),
                false => Step::Check(Cause::Attempt),
            };
        }
        if taken && self.setting.conditional_store {
            return Step::Check(Cause::Final);
        }
        if !parts.intact && !self.lacks(Flaw::TagsUnchecked) {
            return Step::Check(Cause::Attempt);
        }
        let job = &mut world.jobs[at];
        job.uploads.remove(&upload);
        job.story.patched |= !parts.intact || !parts.alike;
        job.story.published = (job.story.published + 1).min(2);
        let held = job.row.as_ref().and_then(crate::world::Row::held);
        job.story.strayed |= held != Some((by, true));
        world.objects[output] = Some(Object::Result {
            job: at,
            token: upload,
        });
        Step::Check(Cause::Attempt)
    }

    fn check(&self, world: &World, publication: Publication, cause: Cause) -> Step {
        match self.is_ours(world, publication) {
            true => Step::Record,
            false => self.cannot(cause),
        }
    }

    fn cannot(&self, cause: Cause) -> Step {
        match self.lacks(Flaw::EndsBeforeAborting) {
            true => Step::End(cause),
            false => Step::Abandon(cause),
        }
    }

    fn record(&self, world: &mut World, publication: Publication) -> Option<Step> {
        let (token, upload) = (publication.token, publication.parts.upload);
        let job = &mut world.jobs[publication.job];
        if self.lacks(Flaw::NoIntent) {
            let lease_until = LIVE;
            transition(job, &JobEvent::PublicationBegun { token, lease_until });
        }
        if let (true, Some(row)) = (
            transition(job, &JobEvent::Completed { token }),
            &mut job.row,
        ) {
            row.result = Some(Recorded { token, upload });
        }
        None
    }

    fn end(&self, world: &mut World, publication: Publication, cause: Cause) -> Option<Step> {
        let Publication { job, token, .. } = publication;
        if !transition(&mut world.jobs[job], &JobEvent::PublicationEnded { token }) {
            return None;
        }
        if self.lacks(Flaw::EndsBeforeAborting) {
            return Some(Step::Abort(cause));
        }
        if self.lacks(Flaw::EndsInTwoSteps) {
            return Some(Step::Fail(cause));
        }
        self.fail(&mut world.jobs[job], token, cause);
        None
    }
}

fn abort(world: &mut World, publication: Publication) {
    world.jobs[publication.job].abort(Some(publication.parts.upload));
}
