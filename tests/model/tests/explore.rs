//! Every order of events in a few small worlds; and that each rule left out is noticed.
//!
//! `cargo test -p job-model -- --nocapture` shows how many worlds there were, and for each rule the
//! shortest way on which its absence does harm. Workers and coordinators are sorted after every step,
//! so their numbers in it may change.

use std::collections::BTreeSet;
use std::time::Instant;

use job_model::Protocol;
use job_model::promises::{
    CANCEL_IS_FINAL, COMES_TO_AN_END, ENDS_ONCE, NO_STRAY_RESULT, NOTHING_IS_LEFT, ONE_OBJECT,
    ONE_PIECE, PROMISES, SIGHTS_OF_GOING_ON, SUCCESS_IS_VISIBLE, TOKENS_GROW, VISIBLE_IS_SUCCESS,
    WAITS_IN_OUTBOX, WORK_IS_KEPT,
};
use job_model::rules::{Flaw, Setting, TODAY};
use stateright::{Checker, HasDiscoveries, Model, Path};

/// Farther than the harm that any single flaw does.
const MAX_DEPTH: usize = 30;

/// Explores all of `setting`, and finds that every promise is kept.
fn holds(what: &str, setting: Setting, flaws: &[Flaw]) -> impl Checker<Protocol> + use<> {
    let begun = Instant::now();
    let checker = Protocol::new(setting, flaws)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{what}: {} worlds, {} steps between them, up to {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    for promise in PROMISES {
        checker.assert_no_discovery(promise);
    }
    checker
}

/// Finds one of the shortest ways on which `promise` is broken.
fn breaks(setting: &Setting, flaws: &[Flaw], promise: &'static str) {
    let way = (2..=MAX_DEPTH).find_map(|depth| {
        let checker = Protocol::new(setting.clone(), flaws)
            .checker()
            .target_max_depth(depth)
            .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([promise])))
            .spawn_bfs()
            .join();
        checker.discovery(promise).map(Path::into_actions)
    });
    println!("without {flaws:?}, `{promise}` is broken: {way:?}");
    assert!(
        way.is_some(),
        "the absence of {flaws:?} goes unnoticed: `{promise}` is kept"
    );
}

/// Few attempts and two workers, for what is large otherwise.
fn small() -> Setting {
    Setting {
        workers: 2,
        max_attempts: 1,
        max_deaths: 1,
        ..Setting::default()
    }
}

/// Two jobs that write to one address, and nothing else that could go wrong.
fn one_output() -> Setting {
    Setting {
        jobs: 2,
        one_output: true,
        careless_broker: false,
        restless_owners: false,
        ..small()
    }
}

#[test]
fn one_job_keeps_every_promise() {
    let checker = holds("one job", Setting::default(), &TODAY);
    // Among them are the sights: the model is not idle.
    checker.assert_properties();
}

#[test]
fn one_job_keeps_every_promise_for_later_and_with_a_deadline() {
    let setting = Setting {
        timed: true,
        workers: 2,
        ..Setting::default()
    };
    holds("one job for later", setting, &TODAY);
}

#[test]
fn one_job_keeps_every_promise_over_an_object_it_replaces() {
    let setting = Setting {
        overwrite: true,
        conditional_store: false,
        workers: 2,
        ..Setting::default()
    };
    holds("one job over an object", setting, &TODAY);
}

#[test]
fn one_job_keeps_every_promise_beside_an_outsider() {
    let setting = Setting {
        outsider: true,
        ..small()
    };
    holds("one job beside an outsider", setting, &TODAY);
}

#[test]
fn two_jobs_keep_every_promise() {
    let setting = Setting {
        jobs: 2,
        restless_owners: false,
        ..small()
    };
    holds("two jobs", setting, &TODAY);
}

#[test]
fn two_jobs_with_one_output_keep_every_promise() {
    holds("two jobs with one output", one_output(), &TODAY);
}

#[test]
fn a_store_that_ignores_conditions_needs_one_publication_at_a_time() {
    let setting = Setting {
        conditional_store: false,
        ..one_output()
    };
    holds("two jobs, no conditional writes", setting.clone(), &[]);
    breaks(&setting, &[Flaw::SharesTheOutput], SUCCESS_IS_VISIBLE);
}

#[test]
fn a_store_that_may_refuse_needs_an_abort_before_the_end() {
    let setting = Setting {
        refusals: true,
        ..small()
    };
    let flaws = [Flaw::EndsBeforeAborting];
    holds("one job, refusals", setting.clone(), &[]);
    breaks(&setting, &flaws, NO_STRAY_RESULT);
    breaks(&setting, &flaws, VISIBLE_IS_SUCCESS);
    let setting = Setting {
        overwrite: true,
        ..setting
    };
    breaks(&setting, &flaws, ONE_OBJECT);
}

#[test]
fn a_broker_that_loses_nothing_needs_no_sweeper_but_the_order_of_confirm_and_mark() {
    let setting = Setting {
        careless_broker: false,
        ..small()
    };
    let mut flaws = vec![Flaw::NoSweeper];
    holds("no sweeper", setting.clone(), &flaws);
    flaws.push(Flaw::SentBeforeConfirm);
    breaks(&setting, &flaws, COMES_TO_AN_END);
}

#[test]
fn every_rule_is_needed() {
    use Flaw as F;
    let table = [
        (F::TokenUnchecked, NO_STRAY_RESULT),
        (F::TokenStandsStill, TOKENS_GROW),
        (F::NoSweeper, COMES_TO_AN_END),
        (F::ReaperSkipsPublishing, COMES_TO_AN_END),
        (F::ReaperDoesNotLook, VISIBLE_IS_SUCCESS),
        (F::NoIntent, VISIBLE_IS_SUCCESS),
        (F::BelievesTheAnswer, VISIBLE_IS_SUCCESS),
        (F::RemembersTheState, CANCEL_IS_FINAL),
        (F::RemembersTheState, ENDS_ONCE),
        (F::CancelsWhilePublishing, VISIBLE_IS_SUCCESS),
        (F::RevivesAnything, ENDS_ONCE),
        (F::HandBackForgetsOutbox, WAITS_IN_OUTBOX),
        (F::HandBackForgetsOutbox, COMES_TO_AN_END),
        (F::ReviveForgetsOutbox, WAITS_IN_OUTBOX),
        (F::ClaimKeepsOutbox, WAITS_IN_OUTBOX),
    ];
    for (flaw, promise) in table {
        breaks(&Setting::default(), &[flaw], promise);
    }
    let setting = Setting {
        outsider: true,
        ..small()
    };
    breaks(&setting, &[F::RefusalKeepsOutbox], WAITS_IN_OUTBOX);
}

/// One job whose result is made of several parts, and that may outlive a worker.
fn parts(parts: u8) -> Setting {
    Setting {
        parts,
        coordinators: 1,
        careless_broker: false,
        max_deaths: 2,
        ..small()
    }
}

#[test]
fn a_job_of_several_parts_keeps_every_promise() {
    let checker = holds("one job of three parts", parts(3), &TODAY);
    for sight in SIGHTS_OF_GOING_ON {
        checker.assert_any_discovery(sight);
    }
}

#[test]
fn a_job_of_several_parts_keeps_every_promise_between_two_coordinators() {
    let setting = Setting {
        coordinators: 2,
        restless_owners: false,
        ..parts(2)
    };
    holds("one job of two parts", setting, &TODAY);
}

#[test]
fn every_rule_of_going_on_is_needed() {
    use Flaw as F;
    let table = [
        (F::KeepsThePointOfAFailure, WORK_IS_KEPT),
        (F::AbortsBeforeItReports, WORK_IS_KEPT),
        (F::AbortsWhatItSpurns, WORK_IS_KEPT),
        (F::ReaperTrustsItsLook, WORK_IS_KEPT),
        (F::EndsInTwoSteps, WORK_IS_KEPT),
        (F::JanitorTakesWhatWaits, WORK_IS_KEPT),
        (F::JanitorKnowsOneUpload, WORK_IS_KEPT),
        (F::LooksForTheNewToken, VISIBLE_IS_SUCCESS),
        (F::CancelForgetsTheKept, NOTHING_IS_LEFT),
        (F::TagsUnchecked, ONE_PIECE),
        (F::AnyEngineGoesOn, ONE_PIECE),
    ];
    let setting = Setting {
        max_attempts: 2,
        ..parts(2)
    };
    for (flaw, promise) in table {
        breaks(&setting, &[flaw], promise);
    }
    let setting = Setting {
        timed: true,
        ..setting
    };
    breaks(&setting, &[F::ExpireForgetsTheKept], NOTHING_IS_LEFT);
}
