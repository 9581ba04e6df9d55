//! The transactions: each happens at once or not at all. `JobState::apply` of production decides;
//! around it stands what production's statements do in the same transaction.

use upres_common::job::state::LeaseToken;
use upres_common::job::{JobEvent, JobState};

use crate::Protocol;
use crate::rules::Flaw;
use crate::world::{Attempt, Cause, Job, LIVE, Parts, Publication, Row, Saved, Step, World};

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
    // Also of a job that waits: the upload that is kept for its next attempt.
    row.upload = match next {
        JobState::Running { .. } => row.upload,
        JobState::Scheduled | JobState::Queued => row.point.map(|point| point.upload),
        _ => None,
    };
    if next.is_terminal() {
        row.point = None;
    }
    let revived = (&before, &next) == (&JobState::Failed, &JobState::Queued);
    job.story.left_its_end |= before.is_terminal() && before != next && !revived;
}

impl Protocol {
    /// Grants a lease if the job is queued and due. The outbox row goes with the waiting. With
    /// `goes_on` the worker can go on with what is kept for it.
    pub fn claim(&self, job: &mut Job, at: usize, goes_on: bool) -> Option<Attempt> {
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
        let point = job.row.as_ref().and_then(|row| row.point);
        let (parts, spurned) = match goes_on {
            true => (point, None),
            false if self.lacks(Flaw::AnyEngineGoesOn) => (
                point.map(|point| Parts {
                    alike: false,
                    ..point
                }),
                None,
            ),
            false => (None, point.map(|point| point.upload)),
        };
        if self.lacks(Flaw::AbortsWhatItSpurns) {
            job.abort(spurned);
        }
        Some(Attempt {
            job: at,
            token,
            parts,
            spurned,
        })
    }

    /// Renews a lease and hears how far the attempt is. A worker that holds it no more is told to stop,
    /// but it is evidently alive.
    pub fn renew(&self, job: &mut Job, attempt: Attempt) -> bool {
        let (token, lease_until) = (attempt.token, LIVE);
        let held = transition(job, &JobEvent::Renewed { token, lease_until });
        let Some(row) = &mut job.row else { return held };
        if !held {
            row.blamed.remove(&token);
            return held;
        }
        if self.setting.parts > 1 {
            row.upload = attempt.parts.map(|parts| parts.upload).or(row.upload);
        }
        row.point = self.point(attempt).or(row.point);
        held
    }

    /// From where another could go on after this attempt.
    pub fn point(&self, attempt: Attempt) -> Option<Parts> {
        let whole = self.setting.parts;
        attempt
            .parts
            .filter(|parts| (1..whole).contains(&parts.count))
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
        if row.state.0.apply(&event).is_err() {
            return false;
        }
        // What an attempt had made may be what it failed of.
        let forgets = cause != Cause::Death && !self.lacks(Flaw::KeepsThePointOfAFailure);
        if let Some(row) = job.row.as_mut().filter(|_| forgets) {
            row.point = None;
        }
        transition(job, &event);
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

    /// Returns a job unfinished, and says where another can go on.
    pub fn hand_back(&self, job: &mut Job, token: LeaseToken, point: Option<Parts>) -> bool {
        let before = job.row.as_ref().and_then(|row| row.point);
        if let Some(row) = &mut job.row {
            row.point = point.or(before);
        }
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
        let Some(row) = &mut job.row else {
            return false;
        };
        if !done {
            row.point = before;
        } else if !self.lacks(Flaw::HandBackForgetsOutbox) {
            row.enqueue(true);
        }
        done
    }

    /// The owner wants the job no more. The upload of its attempt, or that is kept for the next, is given
    /// up.
    pub fn cancel(&self, job: &mut Job) -> bool {
        let upload = job.row.as_ref().and_then(|row| row.upload);
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
            if held.is_some() || !self.lacks(Flaw::CancelForgetsTheKept) {
                job.abort(upload);
            }
        }
        done
    }

    /// The job was not started before its deadline. The upload that is kept for it is given up.
    pub fn expire(&self, job: &mut Job) {
        let upload = job.row.as_ref().and_then(|row| row.upload);
        if !transition(job, &JobEvent::Expired) {
            return;
        }
        if let Some(row) = &mut job.row {
            row.outbox = None;
        }
        if !self.lacks(Flaw::ExpireForgetsTheKept) {
            job.abort(upload);
        }
    }

    /// The job's output is there already: it cannot succeed, and no worker is to try. The upload that is kept
    /// for it is given up.
    pub fn refuse(&self, job: &mut Job) {
        let upload = job.row.as_ref().and_then(|row| row.upload);
        if !transition(job, &JobEvent::Refused) {
            return;
        }
        if let Some(row) = &mut job.row
            && !self.lacks(Flaw::RefusalKeepsOutbox)
        {
            row.outbox = None;
        }
        job.abort(upload);
    }

    /// Gives up what nobody will complete. An attempt that holds its lease is younger than what the
    /// janitor looks at.
    pub fn sweep_uploads(&self, world: &mut World, at: usize) {
        let Some(row) = &world.jobs[at].row else {
            return;
        };
        let held = row.held().map(|(token, _)| token);
        let mut spared: Vec<_> = world
            .workers
            .iter()
            .filter_map(|worker| worker.attempt())
            .filter(|attempt| attempt.job == at && Some(attempt.token) == held)
            .filter_map(|attempt| Some(attempt.parts?.upload))
            .collect();
        spared.extend(match (held, self.lacks(Flaw::JanitorTakesWhatWaits)) {
            (None, true) => None,
            _ => row.upload,
        });
        if !self.lacks(Flaw::JanitorTakesWhatWaits) && !self.lacks(Flaw::JanitorKnowsOneUpload) {
            spared.extend(row.point.map(|point| point.upload));
        }
        let job = &mut world.jobs[at];
        job.uploads.retain(|upload, _| spared.contains(upload));
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
    pub fn begin_publication(&self, world: &mut World, attempt: Attempt) -> Begun {
        let (at, asks) = (attempt.job, attempt.token);
        let Some(parts) = attempt.parts else {
            return Begun::NotNow;
        };
        let held = world.jobs[at].row.as_ref().and_then(Row::held);
        let token = match held {
            Some((held, _)) if self.lacks(Flaw::TokenUnchecked) => held,
            _ => asks,
        };
        let publication = |next| Publication {
            job: at,
            token,
            by: asks,
            parts,
            next,
        };
        let under_way = world.jobs[at].row.as_ref().and_then(|row| row.publication);
        if self.lacks(Flaw::NoIntent) && held == Some((token, false)) {
            return Begun::Yes(publication(Step::Look));
        }
        if let Some((held, true)) = held {
            // Carried on as it was begun.
            return match held == token {
                true => Begun::Yes(Publication {
                    parts: under_way.unwrap_or(parts),
                    ..publication(Step::Look)
                }),
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
                row.publication = Some(parts);
                row.upload = Some(parts.upload).filter(|_| self.setting.parts > 1);
            }
            return Begun::Yes(publication(Step::Look));
        }
        let recorded = job.row.as_ref().and_then(|row| row.result);
        match recorded.is_some_and(|result| result.token == asks) {
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
