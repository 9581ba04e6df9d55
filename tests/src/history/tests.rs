//! What the checker finds, and what it lets pass.

use super::*;

fn seen(reader: usize, state: &str, version: i64) -> Call {
    Call::Seen {
        reader,
        job: "j1".to_owned(),
        state: state.to_owned(),
        version,
    }
}

fn submitted(key: &str, job: Option<&str>) -> Call {
    Call::Submitted {
        key: key.to_owned(),
        job: job.map(str::to_owned),
        answer: "202".to_owned(),
    }
}

/// A run of one job in which all is as it should be.
fn good() -> (History, Aftermath) {
    let calls = vec![
        submitted("k1", None),
        submitted("k1", Some("j1")),
        submitted("k1", Some("j1")),
        seen(0, "queued", 1),
        seen(0, "running", 2),
        seen(1, "queued", 1),
        seen(0, "succeeded", 5),
    ];
    let job = EndOfJob {
        state: "succeeded".to_owned(),
        input: "in/1".to_owned(),
        output: "out/1".to_owned(),
        result: Some(("aa".to_owned(), 3)),
        ends: vec!["succeeded".to_owned()],
        succeeded_tokens: vec![9],
        tokens: vec![4, 9],
        ..EndOfJob::default()
    };
    let object = Object {
        sha256: "aa".to_owned(),
        bytes: 3,
        writer: Some(("j1".to_owned(), 9)),
    };
    let aftermath = Aftermath {
        jobs: BTreeMap::from([("j1".to_owned(), job)]),
        objects: BTreeMap::from([("out/1".to_owned(), object)]),
        ..Aftermath::default()
    };
    (History { calls }, aftermath)
}

/// The same, ended otherwise and without an object.
fn ended(state: &str) -> (History, Aftermath) {
    let (mut history, mut aftermath) = good();
    history.calls.truncate(5);
    aftermath.objects.clear();
    let job = aftermath.jobs.get_mut("j1").unwrap();
    (job.state, job.ends) = (state.to_owned(), vec![state.to_owned()]);
    (job.result, job.succeeded_tokens) = (None, vec![]);
    job.is_poison = true;
    (history, aftermath)
}

/// The one thing that is found.
fn found(history: &History, aftermath: &Aftermath) -> (Kind, String) {
    let findings = check(history, aftermath);
    assert_eq!(findings.len(), 1, "{findings:?}");
    (findings[0].kind, findings[0].what.clone())
}

fn job(aftermath: &mut Aftermath) -> &mut EndOfJob {
    aftermath.jobs.get_mut("j1").unwrap()
}

#[test]
fn a_run_without_fault_passes() {
    for (history, aftermath) in [
        good(),
        ended("failed"),
        ended("cancelled"),
        ended("expired"),
    ] {
        assert_eq!(check(&history, &aftermath), vec![]);
    }
}

#[test]
fn a_lost_job_is_found() {
    let (history, mut aftermath) = ended("failed");
    aftermath.jobs.clear();
    assert_eq!(found(&history, &aftermath).0, Kind::Lost);

    let (history, mut aftermath) = ended("queued");
    job(&mut aftermath).ends.clear();
    assert_eq!(
        found(&history, &aftermath),
        (Kind::Lost, "j1 is still queued".to_owned())
    );

    let (history, mut aftermath) = good();
    aftermath.objects.clear();
    assert_eq!(found(&history, &aftermath).0, Kind::Lost);

    let (mut history, aftermath) = good();
    history.calls.push(seen(0, "running", 2));
    assert_eq!(found(&history, &aftermath).0, Kind::Lost);
}

#[test]
fn an_innocent_job_that_fails_is_found() {
    let (history, mut aftermath) = ended("failed");
    job(&mut aftermath).is_poison = false;
    job(&mut aftermath).error = Some("lease/lost".to_owned());
    let (kind, what) = found(&history, &aftermath);
    assert!(kind == Kind::Lost && what.contains("lease/lost"), "{what}");
}

#[test]
fn a_record_that_is_missing_or_left_over_is_found() {
    let (history, mut aftermath) = good();
    job(&mut aftermath).has_record = true;
    let what = "j1 succeeded without out/1.upres.json".to_owned();
    assert_eq!(found(&history, &aftermath), (Kind::Lost, what));
    let record = ("out/1.upres.json".to_owned(), Object::default());
    aftermath.objects.extend([record.clone()]);
    assert_eq!(check(&history, &aftermath), vec![]);
    let (history, mut aftermath) = ended("failed");
    aftermath.objects.extend([record]);
    assert_eq!(found(&history, &aftermath).0, Kind::Zombie);
}

#[test]
fn a_double_end_is_found() {
    let (history, mut aftermath) = good();
    job(&mut aftermath).ends.push("succeeded".to_owned());
    assert_eq!(found(&history, &aftermath).0, Kind::Duplicated);

    let (mut history, aftermath) = good();
    history.calls.push(seen(1, "expired", 4));
    let what = "j1 was expired and then succeeded".to_owned();
    assert_eq!(found(&history, &aftermath), (Kind::Duplicated, what));

    let (history, mut aftermath) = good();
    job(&mut aftermath).succeeded_tokens.insert(0, 4);
    assert_eq!(found(&history, &aftermath).0, Kind::Duplicated);

    let (history, mut aftermath) = good();
    job(&mut aftermath).tokens = vec![9, 9];
    assert_eq!(found(&history, &aftermath).0, Kind::Duplicated);
}

#[test]
fn a_failed_job_may_go_on_only_when_its_owner_asked_for_it() {
    let (mut history, mut aftermath) = good();
    job(&mut aftermath).ends.insert(0, "failed".to_owned());
    history.calls.push(seen(1, "failed", 3));
    let kinds = |findings: Vec<Finding>| -> Vec<_> { findings.iter().map(|f| f.kind).collect() };
    let twice = [Kind::Duplicated, Kind::Duplicated];
    assert_eq!(kinds(check(&history, &aftermath)), twice);
    history.calls.push(Call::Retried {
        job: "j1".to_owned(),
    });
    assert_eq!(check(&history, &aftermath), vec![]);
}

#[test]
fn a_key_that_became_two_jobs_is_found() {
    let (mut history, mut aftermath) = good();
    let (_, other) = ended("failed");
    let mut twin = other.jobs["j1"].clone();
    twin.output = "out/2".to_owned();
    aftermath.jobs.insert("j2".to_owned(), twin);
    history.calls.push(submitted("k1", Some("j2")));
    let (kind, what) = found(&history, &aftermath);
    assert!(kind == Kind::Duplicated && what.contains("k1"), "{what}");
}

#[test]
fn wrong_bytes_and_a_strange_writer_are_found() {
    for (sha256, bytes) in [("bb", 3), ("aa", 4)] {
        let (history, mut aftermath) = good();
        job(&mut aftermath).result = Some((sha256.to_owned(), bytes));
        let what = "out/1 is not what j1 recorded".to_owned();
        assert_eq!(found(&history, &aftermath), (Kind::Zombie, what));
    }
    for writer in [("j1", 5), ("j1", 12), ("j2", 9)] {
        let (history, mut aftermath) = good();
        let (job, token) = writer;
        super::tests::job(&mut aftermath).tokens.push(12);
        aftermath.objects.get_mut("out/1").unwrap().writer = Some((job.to_owned(), token));
        assert_eq!(found(&history, &aftermath).0, Kind::Zombie);
    }
    let (history, mut aftermath) = good();
    aftermath.objects.get_mut("out/1").unwrap().writer = Some(("j1".to_owned(), 4));
    assert_eq!(check(&history, &aftermath), vec![], "work that went on");
}

#[test]
fn bytes_that_an_interruption_changed_are_found() {
    let (history, mut aftermath) = good();
    let expected = |sha256: &str| BTreeMap::from([("in/1".to_owned(), sha256.to_owned())]);
    aftermath.expected = expected("aa");
    assert_eq!(check(&history, &aftermath), vec![]);
    aftermath.expected = expected("bb");
    let what = "out/1 is not what in/1 becomes undisturbed".to_owned();
    assert_eq!(found(&history, &aftermath), (Kind::Zombie, what));
}

#[test]
fn a_visible_object_of_a_job_that_did_not_succeed_is_found() {
    for state in ["cancelled", "failed", "expired"] {
        let (history, mut aftermath) = ended(state);
        aftermath.objects = good().1.objects;
        let what = format!("out/1 is visible and j1 is {state}");
        assert_eq!(found(&history, &aftermath), (Kind::Zombie, what));
    }
}

#[test]
fn a_cancelled_job_that_succeeds_is_found() {
    let (mut history, aftermath) = good();
    let cancel = |done| Call::Cancelled {
        job: "j1".to_owned(),
        done,
    };
    history.calls.push(cancel(false));
    assert_eq!(check(&history, &aftermath), vec![]);
    history.calls.push(cancel(true));
    assert_eq!(found(&history, &aftermath).0, Kind::Zombie);
}

#[test]
fn remains_are_found() {
    let (history, aftermath) = good();
    let mut left = aftermath.clone();
    left.uploads.push("out/1".to_owned());
    let what = "an upload to out/1 is left over".to_owned();
    assert_eq!(found(&history, &left), (Kind::Orphan, what));
    let mut left = aftermath.clone();
    left.outbox.push("j1".to_owned());
    assert_eq!(found(&history, &left).0, Kind::Orphan);
    let mut left = aftermath.clone();
    left.objects.insert("out/2".to_owned(), Object::default());
    assert_eq!(found(&history, &left).0, Kind::Orphan);
    let mut left = aftermath.clone();
    job(&mut left).running_attempts = 1;
    assert_eq!(found(&history, &left).0, Kind::Orphan);
}
