//! The life of a job and the protocol around it, small enough to be looked at whole.
//!
//! `JobState::apply` is production's own and decides every transition. Around it, each transaction
//! and each call to the object store of `coordinator/src/{submit,dispatch,lease,publish,reap}.rs` and
//! of the worker is one [`action::Action`]; a model checker tries every order of them, with crashes,
//! lost and repeated wake-ups, lost answers, lapsing leases, workers that wake up after their lease is
//! gone, cancellations and retries between any two. Where results are made of several parts, the next
//! attempt goes on from those that are there, or cannot; the one before may still be writing, and whatever
//! it writes differs from what the next one does. [`promises`] says what must hold throughout;
//! [`rules::Flaw`] lists rules that can be left out, to see that each is needed.
//!
//! Left out: contents and integrity of objects beyond that; masters (an output that is another job's
//! input); the age by which the janitor knows what no attempt can still be about to name; priorities,
//! fairness and the release limit; deaths that a job is not blamed for; how long anything takes;
//! idempotency keys; a database or a store that breaks its own promises. Processes are anonymous, and each coordinator does one thing at a time; a
//! request that is still under way when its sender has died is a sender that has not died yet.

pub mod action;
mod canonical;
pub mod database;
mod effect;
pub mod promises;
pub mod publication;
pub mod rules;
mod work;
pub mod world;

use std::sync::Mutex;

use stateright::{Model, Property};

use action::Action;
use promises::Ending;
use rules::{Flaw, Setting};
use world::{Job, Object, Task, Worker, World};

/// The protocol in some surroundings, perhaps with rules left out.
#[derive(Debug)]
pub struct Protocol {
    setting: Setting,
    flaws: Vec<Flaw>,
    ending: Mutex<Ending>,
}

impl Protocol {
    /// The protocol in `setting`, without the rules in `flaws`.
    #[must_use]
    pub fn new(setting: Setting, flaws: &[Flaw]) -> Self {
        Self {
            setting,
            flaws: flaws.to_vec(),
            ending: Mutex::default(),
        }
    }

    /// Whether a rule is left out.
    fn lacks(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }

    /// The address that a job writes to.
    fn output(&self, job: usize) -> usize {
        match self.setting.one_output {
            true => 0,
            false => job,
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let jobs = self.setting.jobs;
        let there = self.setting.overwrite.then_some(Object::Outsider);
        vec![World {
            jobs: vec![Job::default(); jobs],
            objects: vec![there; if self.setting.one_output { 1 } else { jobs }],
            workers: vec![Worker::Idle; self.setting.workers],
            coordinators: vec![Task::Idle; self.setting.coordinators],
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.possible(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = self.after(world, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = promises::promises();
        properties.extend(promises::sights());
        if self.setting.parts > 1 {
            properties.extend(promises::sights_of_going_on());
        }
        properties
    }
}
