//! Forgets what makes no difference, so that there are few enough worlds to look at all of them:
//! which worker is which, the numbers of lease tokens beyond which is the last, and uploads that
//! nobody will ever complete. This is also what bounds the worlds: a job may be handed back, given up
//! for dead and tried anew without end, and yet there are only so many.

use std::collections::{BTreeMap, BTreeSet};

use upres_common::job::JobState;
use upres_common::job::state::LeaseToken;

use crate::world::{Object, Publication, Row, Saved, Step, Task, Worker, World};

/// Brings `world` into the form that all worlds have that differ from it in nothing that matters.
pub(crate) fn rewrite(world: &mut World) {
    for job in 0..world.jobs.len() {
        forget_what_is_lost(world, job);
        rename_outbox_row(world, job);
        let names = names(world, job);
        rename_tokens(world, job, &names);
    }
    world.workers.sort_unstable();
    world.coordinators.sort_unstable();
}

/// Drops uploads that no process and no row speaks of, and counts deaths of workers that are dead.
fn forget_what_is_lost(world: &mut World, at: usize) {
    let workers: BTreeSet<_> = workers_on(world, at).map(|(token, _)| token).collect();
    let publishers: Vec<_> = publications_of(world, at).collect();
    let job = &mut world.jobs[at];
    let intended = job.row.as_ref().and_then(|row| row.publication);
    job.uploads.retain(|token| {
        let published = publishers
            .iter()
            .any(|publication| publication.upload == *token);
        workers.contains(token) || published || intended == Some(*token)
    });
    if let Some(row) = &mut job.row {
        let before = row.blamed.len();
        row.blamed.retain(|token| workers.contains(token));
        row.deaths += before - row.blamed.len();
    }
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
type Traits = ([bool; 5], [usize; 3], Vec<(bool, bool, Step)>);

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
    let mut tokens = job.uploads.clone();
    tokens.extend(job.story.token);
    if let Some(row) = &job.row {
        tokens.extend(&row.blamed);
        tokens.extend(row.held().map(|(token, _)| token));
        tokens.extend(row.publication);
        tokens.extend(row.result);
    }
    tokens.extend(visible(world, at));
    tokens.extend(workers_on(world, at).map(|(token, _)| token));
    tokens.extend(reaped(world, at));
    for publication in publications_of(world, at) {
        tokens.extend([publication.token, publication.upload]);
    }
    tokens
}

fn traits(world: &World, at: usize, token: LeaseToken) -> Traits {
    let job = &world.jobs[at];
    let has = |of: fn(&Row) -> Option<LeaseToken>| job.row.as_ref().and_then(of) == Some(token);
    let count = |asking: bool| {
        workers_on(world, at)
            .filter(|it| *it == (token, asking))
            .count()
    };
    let mut steps: Vec<_> = publications_of(world, at)
        .map(|it| (it.token == token, it.upload == token, it.next))
        .filter(|(owns, completes, _)| *owns || *completes)
        .collect();
    steps.sort_unstable();
    let is = [
        job.story.token == Some(token),
        has(|row| row.result),
        visible(world, at).any(|visible| visible == token),
        job.uploads.contains(&token),
        job.row
            .as_ref()
            .is_some_and(|row| row.blamed.contains(&token)),
    ];
    let reapers = reaped(world, at).filter(|reaped| *reaped == token).count();
    (is, [count(false), count(true), reapers], steps)
}

fn rename_tokens(world: &mut World, at: usize, names: &BTreeMap<LeaseToken, LeaseToken>) {
    let rename = |token: &mut LeaseToken| *token = names[token];
    let renamed = |tokens: &BTreeSet<LeaseToken>| tokens.iter().map(|token| names[token]).collect();
    let job = &mut world.jobs[at];
    job.uploads = renamed(&job.uploads);
    job.story.token.iter_mut().for_each(rename);
    if let Some(row) = &mut job.row {
        row.drawn = job.story.token.map_or(0, |token| token.0);
        row.blamed = renamed(&row.blamed);
        if let Saved(JobState::Running { token, .. }) = &mut row.state {
            rename(token);
        }
        row.publication
            .iter_mut()
            .chain(&mut row.result)
            .for_each(rename);
    }
    for object in world.objects.iter_mut().flatten() {
        if let Object::Result { job, token } = object
            && *job == at
        {
            rename(token);
        }
    }
    for worker in &mut world.workers {
        if let Worker::Working { job, token } | Worker::Asking { job, token } = worker
            && *job == at
        {
            rename(token);
        }
    }
    for task in &mut world.coordinators {
        match task {
            Task::Publishing(publication) if publication.job == at => {
                rename(&mut publication.token);
                rename(&mut publication.upload);
            }
            Task::Reaping { job, token } if *job == at => rename(token),
            _ => {}
        }
    }
}

/// The tokens that workers present for the job, and whether they ask for publication already.
fn workers_on(world: &World, at: usize) -> impl Iterator<Item = (LeaseToken, bool)> {
    world
        .workers
        .iter()
        .filter_map(move |worker| match *worker {
            Worker::Working { job, token } if job == at => Some((token, false)),
            Worker::Asking { job, token } if job == at => Some((token, true)),
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

/// The tokens of the job's leases that a reaper saw lapsed.
fn reaped(world: &World, at: usize) -> impl Iterator<Item = LeaseToken> {
    world
        .coordinators
        .iter()
        .filter_map(move |task| match *task {
            Task::Reaping { job, token } if job == at => Some(token),
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
