//! Forgets what makes no difference, so that there are few enough worlds to look at all of them:
//! which worker is which, the numbers of lease tokens beyond which is the last, and uploads that
//! nobody will ever complete. This is also what bounds the worlds: a job may be handed back, given up
//! for dead and tried anew without end, and yet there are only so many.

use std::collections::{BTreeMap, BTreeSet};

use upres_common::job::JobState;
use upres_common::job::state::LeaseToken;

use crate::world::{Attempt, Object, Parts, Publication, Row, Saved, Step, Task, Worker, World};

/// Brings `world` into the form that all worlds have that differ from it in nothing that matters.
pub(crate) fn rewrite(world: &mut World) {
    for job in 0..world.jobs.len() {
        forget_the_superseded(world, job);
        forget_what_is_lost(world, job);
        rename_outbox_row(world, job);
        let names = names(world, job);
        rename_tokens(world, job, &names);
    }
    world.workers.sort_unstable();
    world.coordinators.sort_unstable();
}

/// Whoever presents a token that is not held will not be heard: what they believe of an upload, or mean to do
/// about it, makes no difference.
fn forget_the_superseded(world: &mut World, at: usize) {
    let row = world.jobs[at].row.as_ref();
    let held = row.and_then(Row::held).map(|(token, _)| token);
    for worker in &mut world.workers {
        if let Worker::Working(attempt) | Worker::Asking(attempt) = worker
            && attempt.job == at
            && Some(attempt.token) != held
            && let Some(parts) = &mut attempt.parts
        {
            parts.intact = true;
        }
    }
    for task in &mut world.coordinators {
        if let Task::Reaping { job, token, upload } = task
            && *job == at
            && Some(*token) != held
        {
            *upload = None;
        }
    }
}

/// Drops uploads that only the janitor will ever deal with, and counts deaths of workers that are dead.
fn forget_what_is_lost(world: &mut World, at: usize) {
    let in_hand = in_hand(world, at);
    let workers: BTreeSet<_> = attempts_on(world, at).map(|(it, _)| it.token).collect();
    let job = &mut world.jobs[at];
    let row = job.row.as_ref();
    let named = |upload| row.is_some_and(|row| row.names(upload));
    job.uploads
        .retain(|upload, left| !*left || in_hand.contains(upload) || named(*upload));
    if let Some(row) = &mut job.row {
        let before = row.blamed.len();
        row.blamed.retain(|token| workers.contains(token));
        row.deaths += before - row.blamed.len();
    }
}

/// The uploads that somebody has something to do with.
pub(crate) fn in_hand(world: &World, at: usize) -> BTreeSet<LeaseToken> {
    let mut uploads = BTreeSet::new();
    for (attempt, _) in attempts_on(world, at) {
        uploads.extend(attempt.parts.map(|parts| parts.upload));
        uploads.extend(attempt.spurned);
    }
    uploads.extend(publications_of(world, at).map(|it| it.parts.upload));
    uploads.extend(reaped(world, at).filter_map(|(_, upload)| upload));
    uploads
}

/// The outbox row is number 1; a relay has that one in its hands, or one that is gone.
fn rename_outbox_row(world: &mut World, at: usize) {
    let row = world.jobs[at].row.as_mut();
    let outbox = row.and_then(|row| row.outbox.as_mut());
    let id = outbox.map(|outbox| std::mem::replace(&mut outbox.id, 1));
    for task in &mut world.coordinators {
        if let Task::Relaying { job, row } = task
            && *job == at
        {
            *row = u8::from(Some(*row) == id);
        }
    }
}

/// What distinguishes one token of a job from another. The last one drawn is always the greatest.
type Traits = (
    [bool; 8],
    Vec<(bool, bool, bool, Attempt)>,
    Vec<(bool, bool)>,
    Vec<(bool, bool, Step)>,
);

/// New numbers from 1, the same for tokens that are in the same situation.
fn names(world: &World, at: usize) -> BTreeMap<LeaseToken, LeaseToken> {
    let mut tokens: Vec<_> = tokens_of(world, at)
        .into_iter()
        .map(|token| (traits(world, at, token), token))
        .collect();
    tokens.sort_unstable();
    let numbered = tokens.into_iter().zip(1..);
    numbered
        .map(|((_, token), number)| (token, LeaseToken(number)))
        .collect()
}

fn tokens_of(world: &World, at: usize) -> BTreeSet<LeaseToken> {
    let job = &world.jobs[at];
    let mut tokens: BTreeSet<_> = job.uploads.keys().copied().collect();
    tokens.extend(job.story.token);
    if let Some(row) = &job.row {
        tokens.extend(&row.blamed);
        tokens.extend(row.held().map(|(token, _)| token));
        tokens.extend(row.upload);
        tokens.extend(
            [row.point, row.publication]
                .into_iter()
                .flatten()
                .map(|it| it.upload),
        );
        tokens.extend(row.result.into_iter().flat_map(|it| [it.token, it.upload]));
    }
    tokens.extend(visible(world, at));
    tokens.extend(in_hand(world, at));
    tokens.extend(attempts_on(world, at).map(|(attempt, _)| attempt.token));
    tokens.extend(reaped(world, at).map(|(token, _)| token));
    for publication in publications_of(world, at) {
        tokens.extend([publication.token, publication.by]);
    }
    tokens
}

fn traits(world: &World, at: usize, token: LeaseToken) -> Traits {
    let job = &world.jobs[at];
    let has = |of: fn(&Row) -> Option<LeaseToken>| job.row.as_ref().and_then(of) == Some(token);
    let is = [
        job.story.token == Some(token),
        has(|row| row.result.map(|result| result.token)),
        visible(world, at).any(|visible| visible == token),
        job.uploads.contains_key(&token),
        job.uploads.get(&token) == Some(&true),
        has(|row| row.upload),
        has(|row| row.point.map(|point| point.upload)),
        job.row
            .as_ref()
            .is_some_and(|row| row.blamed.contains(&token)),
    ];
    // What else a worker has in its hands tells its token from others, whatever it is called.
    let mut attempts: Vec<_> = attempts_on(world, at)
        .map(|(it, asking)| {
            let upload = it.parts.map(|parts| parts.upload);
            let roles = [Some(it.token), upload, it.spurned].map(|role| role == Some(token));
            (roles, asking, it)
        })
        .filter(|(roles, ..)| roles.contains(&true))
        .map(|(roles, asking, it)| (roles, asking, nameless(it)))
        .map(|([owns, writes, _], asking, it)| (owns, writes, asking, it))
        .collect();
    attempts.sort_unstable();
    let mut reapers: Vec<_> = reaped(world, at)
        .map(|(reaped, upload)| (reaped == token, upload == Some(token)))
        .filter(|roles| *roles != (false, false))
        .collect();
    reapers.sort_unstable();
    let mut steps: Vec<_> = publications_of(world, at)
        .map(|it| (it.token == token, it.parts.upload == token, it.next))
        .filter(|(owns, completes, _)| *owns || *completes)
        .collect();
    steps.sort_unstable();
    (is, attempts, reapers, steps)
}

/// The attempt without the numbers of its tokens.
fn nameless(attempt: Attempt) -> Attempt {
    let none = LeaseToken(0);
    Attempt {
        token: none,
        parts: attempt.parts.map(|parts| Parts {
            upload: none,
            ..parts
        }),
        spurned: attempt.spurned.map(|_| none),
        ..attempt
    }
}

fn rename_tokens(world: &mut World, at: usize, names: &BTreeMap<LeaseToken, LeaseToken>) {
    let rename = |token: &mut LeaseToken| *token = names[token];
    let job = &mut world.jobs[at];
    job.uploads = std::mem::take(&mut job.uploads)
        .into_iter()
        .map(|(token, left)| (names[&token], left))
        .collect();
    job.story.token.iter_mut().for_each(rename);
    if let Some(row) = &mut job.row {
        row.drawn = job.story.token.map_or(0, |token| token.0);
        row.blamed = row.blamed.iter().map(|token| names[token]).collect();
        if let Saved(JobState::Running { token, .. }) = &mut row.state {
            rename(token);
        }
        row.upload.iter_mut().for_each(rename);
        let lists = row.point.iter_mut().chain(&mut row.publication);
        lists.for_each(|parts| rename(&mut parts.upload));
        if let Some(result) = &mut row.result {
            rename(&mut result.token);
            rename(&mut result.upload);
        }
    }
    for object in world.objects.iter_mut().flatten() {
        if let Object::Result { job, token } = object
            && *job == at
        {
            rename(token);
        }
    }
    for worker in &mut world.workers {
        if let Worker::Working(attempt) | Worker::Asking(attempt) = worker
            && attempt.job == at
        {
            rename(&mut attempt.token);
            attempt.spurned.iter_mut().for_each(rename);
            if let Some(parts) = &mut attempt.parts {
                rename(&mut parts.upload);
            }
        }
    }
    for task in &mut world.coordinators {
        match task {
            Task::Publishing(publication) if publication.job == at => {
                rename(&mut publication.token);
                rename(&mut publication.by);
                rename(&mut publication.parts.upload);
            }
            Task::Reaping { job, token, upload } if *job == at => {
                rename(token);
                upload.iter_mut().for_each(rename);
            }
            _ => {}
        }
    }
}

/// The attempts that workers have in their hands, and whether they ask for publication already.
fn attempts_on(world: &World, at: usize) -> impl Iterator<Item = (Attempt, bool)> {
    world
        .workers
        .iter()
        .filter_map(move |worker| match *worker {
            Worker::Working(attempt) if attempt.job == at => Some((attempt, false)),
            Worker::Asking(attempt) if attempt.job == at => Some((attempt, true)),
            _ => None,
        })
}

fn publications_of(world: &World, at: usize) -> impl Iterator<Item = Publication> {
    world
        .coordinators
        .iter()
        .filter_map(move |task| match *task {
            Task::Publishing(publication) if publication.job == at => Some(publication),
            _ => None,
        })
}

/// The tokens of the job's leases that a reaper saw lapsed, and the uploads that they may leave behind.
fn reaped(world: &World, at: usize) -> impl Iterator<Item = (LeaseToken, Option<LeaseToken>)> {
    world
        .coordinators
        .iter()
        .filter_map(move |task| match *task {
            Task::Reaping { job, token, upload } if job == at => Some((token, upload)),
            _ => None,
        })
}

fn visible(world: &World, at: usize) -> impl Iterator<Item = LeaseToken> {
    world
        .objects
        .iter()
        .flatten()
        .filter_map(move |object| match *object {
            Object::Result { job, token } if job == at => Some(token),
            _ => None,
        })
}
