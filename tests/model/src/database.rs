//! The transactions: each happens at once or not at all. `JobState::apply` of production decides;
//! around it stands what production's statements do in the same transaction.

use upres_common::job::state::LeaseToken;
use upres_common::job::{JobEvent, JobState};

use crate::Protocol;
use crate::rules::Flaw;
use crate::world::{Cause, Job, LIVE, Publication, Row, Saved, Step, World};

/// What a worker hears when it asks for publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Go on from the object.
    Yes(Publication),
    /// Ask again.
    NotNow,
    /// It was recorded before.
    Repeated,
    /// The attempt counts no more.
    Superseded,
}

/// Applies `event` to the job as it is in the database.
pub fn transition(job: &mut Job, event: &JobEvent) -> bool {
    let Some(row) = &job.row else { return false };
    let state = row.state.0.clone();
    transition_from(job, &state, event)
}

/// Applies `event` to `state`, and saves what follows whatever the database holds.
fn transition_from(job: &mut Job, state: &JobState, event: &JobEvent) -> bool {
    match state.apply(event) {
        Ok(next) => {
            save(job, next);
            true
        }
        Err(_) => false,
    }
}

fn save(job: &mut Job, next: JobState) {
    let Some(row) = &mut job.row else { return };
    let before = std::mem::replace(&mut row.state, Saved(next.clone())).0;
    if row.held().is_none_or(|(_, publishing)| !publishing) {
        row.publication = None;
    }
    let revived = (&before, &next) == (&JobState::Failed, &JobState::Queued);
    job.story.left_its_end |= before.is_terminal() && before != next && !revived;
}

impl Protocol {
    /// Grants a lease if the job is queued and due. The outbox row goes with the waiting.
    pub fn claim(&self, job: &mut Job) -> Option<LeaseToken> {
        let row = job.row.as_mut()?;
        let due = row.outbox.is_some_and(|outbox| outbox.due);
        if row.state.0 != JobState::Queued || !due || row.overdue {
            return None;
        }
        row.drawn += 1;
        let token = LeaseToken(match self.lacks(Flaw::TokenStandsStill) {
            true => 1,
            false => row.drawn,
        });
        let lease_until = LIVE;
        if !transition(job, &JobEvent::Claimed { token, lease_until }) {
            return None;
        }
        if let (Some(row), false) = (&mut job.row, self.lacks(Flaw::ClaimKeepsOutbox)) {
            row.outbox = None;
        }
        let before = job.story.token.replace(token);
        job.story.token_did_not_grow |= before.is_some_and(|before| before >= token);
        Some(token)
    }

    /// Renews a lease. A worker that holds it no more is told to stop, but it is evidently alive.
    pub fn renew(&self, job: &mut Job, token: LeaseToken) -> bool {
        let lease_until = LIVE;
        let held = transition(job, &JobEvent::Renewed { token, lease_until });
        if let (false, Some(row)) = (held, &mut job.row) {
            row.blamed.remove(&token);
        }
        held
    }

    /// Ends an attempt with an error: another follows, or the job fails.
    pub fn fail(&self, job: &mut Job, token: LeaseToken, cause: Cause) -> bool {
        let Some(row) = &job.row else { return false };
        let again = match cause {
            Cause::Final => false,
            Cause::Attempt => row.failures + 1 < self.setting.max_attempts,
            Cause::Death => row.blamed.len() + row.deaths + 1 < self.setting.max_deaths,
        };
        let event = match again {
            true => JobEvent::Retried { token },
            false => JobEvent::GivenUp { token },
        };
        if !transition(job, &event) {
            return false;
        }
        if let Some(row) = &mut job.row {
            match cause {
                Cause::Final => {}
                Cause::Attempt => row.failures += 1,
                Cause::Death => _ = row.blamed.insert(token),
            }
            if again {
                // A failure is followed by a pause, a death is not.
                row.enqueue(cause == Cause::Death);
            }
        }
        true
    }

    /// Returns a job unfinished.
    pub fn hand_back(&self, job: &mut Job, token: LeaseToken) {
        let event = JobEvent::HandedBack { token };
        let done = if self.lacks(Flaw::RemembersTheState) {
            let remembered = JobState::Running {
                token,
                lease_until: LIVE,
                publishing: false,
            };
            transition_from(job, &remembered, &event)
        } else {
            transition(job, &event)
        };
        let Some(row) = job.row.as_mut().filter(|_| done) else {
            return;
        };
        if !self.lacks(Flaw::HandBackForgetsOutbox) {
            row.enqueue(true);
        }
    }

    /// The owner wants the job no more. Its attempt's upload is given up.
    pub fn cancel(&self, job: &mut Job) -> bool {
        let held = job.row.as_ref().and_then(Row::held);
        let done = match held {
            Some((token, true)) if self.lacks(Flaw::CancelsWhilePublishing) => {
                let unaware = JobState::Running {
                    token,
                    lease_until: LIVE,
                    publishing: false,
                };
                transition_from(job, &unaware, &JobEvent::Cancelled)
            }
            _ => transition(job, &JobEvent::Cancelled),
        };
        if let (true, Some(row)) = (done, &mut job.row) {
            row.outbox = None;
            job.story.cancelled = true;
            if let Some((token, _)) = held {
                job.uploads.remove(&token);
            }
        }
        done
    }

    /// The owner wants the job tried anew, with all its attempts.
    pub fn revive(&self, job: &mut Job) -> bool {
        let cancelled = job.row.as_ref().map(|row| &row.state.0) == Some(&JobState::Cancelled);
        let done = match cancelled && self.lacks(Flaw::RevivesAnything) {
            true => transition_from(job, &JobState::Failed, &JobEvent::Revived),
            false => transition(job, &JobEvent::Revived),
        };
        if let (true, Some(row)) = (done, &mut job.row) {
            row.failures = 0;
            row.blamed.clear();
            row.deaths = 0;
            if !self.lacks(Flaw::ReviveForgetsOutbox) {
                row.enqueue(true);
            }
        }
        done
    }

    /// The first step of a publication: notes the intent for the holder of the lease.
    pub fn begin_publication(&self, world: &mut World, at: usize, asks: LeaseToken) -> Begun {
        let held = world.jobs[at].row.as_ref().and_then(Row::held);
        let token = match held {
            Some((held, _)) if self.lacks(Flaw::TokenUnchecked) => held,
            _ => asks,
        };
        let publication = |next| Publication {
            job: at,
            token,
            upload: asks,
            next,
        };
        if self.lacks(Flaw::NoIntent) && held == Some((token, false)) {
            return Begun::Yes(publication(Step::Look));
        }
        if let Some((held, true)) = held {
            return match held == token {
                true => Begun::Yes(publication(Step::Look)),
                false => Begun::Superseded,
            };
        }
        if held.is_some_and(|(held, _)| held == token) && self.output_is_reserved(world, at) {
            return Begun::NotNow;
        }
        let job = &mut world.jobs[at];
        let lease_until = LIVE;
        if transition(job, &JobEvent::PublicationBegun { token, lease_until }) {
            if let Some(row) = &mut job.row {
                row.publication = Some(asks);
            }
            return Begun::Yes(publication(Step::Look));
        }
        match job.row.as_ref().is_some_and(|row| row.result == Some(asks)) {
            true => Begun::Repeated,
            false => Begun::Superseded,
        }
    }

    /// Whether another job is publishing to the same address.
    fn output_is_reserved(&self, world: &World, at: usize) -> bool {
        let output = self.output(at);
        let publishing =
            |job: &Job| matches!(job.row.as_ref().and_then(Row::held), Some((_, true)));
        let mut jobs = world.jobs.iter().enumerate();
        !self.lacks(Flaw::SharesTheOutput)
            && jobs
                .any(|(other, job)| other != at && self.output(other) == output && publishing(job))
    }
}
