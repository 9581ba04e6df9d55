//! What a run does, drawn from its seed alone: the same seed gives the same submissions and, lane by
//! lane, the same faults. How the programs' own timing falls between them is theirs.

use std::time::Duration;

use upres_common::job::Class;

use super::cast::{Role, Service};

/// SplitMix64: small, and the same on every machine and in every version.
#[derive(Debug, Clone)]
pub(super) struct Draw(u64);

impl Draw {
    /// Each purpose draws from a stream of its own, so that one more draw here moves nothing there.
    pub(super) fn new(seed: u64, purpose: u64) -> Self {
        let mut draw = Self(seed);
        let first = draw.next();
        Self(first ^ purpose.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.next() % (to - from).max(1))
    }
}

/// One job that a client is to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) index: usize,
    pub(super) class: Class,
    /// Which of the stored inputs.
    pub(super) input: usize,
    /// The input is no image: the job fails.
    pub(super) poison: bool,
    /// The result has several parts, and outlives workers.
    pub(super) large: bool,
    /// Sent once more after it was accepted.
    pub(super) repeated: bool,
    /// Cancelled so long after it was accepted.
    pub(super) cancel_after: Option<Duration>,
    /// Retried when it has failed.
    pub(super) retried: bool,
    /// Not to be started before, counted from its submission.
    pub(super) not_before: Option<Duration>,
    /// Not to be started after.
    pub(super) finish_by: Option<Duration>,
}

/// How many inputs of either kind are stored, beside the large ones.
pub(super) const INPUTS: usize = 8;
/// How many large ones.
pub(super) const LARGE_INPUTS: usize = 3;

pub(super) fn submissions(seed: u64, jobs: usize) -> Vec<Submission> {
    let mut draw = Draw::new(seed, 1);
    let mut sizes = Draw::new(seed, 5);
    let one = |index| {
        let (urgent, input, poison) = (draw.percent(40), draw.below(INPUTS), draw.percent(3));
        // Urgent, so that they are worked on while faults strike, and not when all is over.
        let large = sizes.percent(2) && !poison;
        let class = match urgent || large {
            true => Class::Interactive,
            false => Class::Bulk,
        };
        // Drawn whether used or not: what one job is does not depend on another.
        let (cancel, pause) = (draw.percent(4), draw.millis(0, 3000));
        let (late, wait) = (draw.percent(4), draw.millis(500, 5000));
        let (limited, limit) = (draw.percent(3), draw.millis(500, 8000));
        Submission {
            index,
            class,
            input,
            poison,
            large,
            repeated: draw.percent(6),
            cancel_after: cancel.then_some(pause),
            retried: draw.percent(50) && poison && !cancel && !limited,
            not_before: (late && !limited).then_some(wait),
            finish_by: limited.then_some(limit),
        }
    };
    (0..jobs).map(one).collect()
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strike {
    /// `kill -9`, and a new start after a while.
    Kill(Role, Duration),
    /// SIGTERM, and a new start when it has ended.
    Terminate(Role),
    /// SIGSTOP for twice the lease, then SIGCONT.
    Pause(Role),
    /// `kill -9` of every PostgreSQL process, and a new start.
    CrashPostgres,
    /// `kill -9` of the node, and a new start.
    CrashBroker,
    /// An orderly one.
    RestartBroker,
    /// All queues at once.
    DeleteQueues,
    /// The broker closes all connections itself.
    CloseBrokerConnections,
    /// Every connection to a service is reset.
    Reset(Service),
    /// The store answers 503.
    StoreUnavailable(Duration),
    /// Nothing passes to or from a service, for anybody.
    Hang(Service, Duration),
    /// Nothing passes on one program's link to a service.
    BlackHole(Role, Service, Duration),
    /// Slow and narrow.
    Slow(Role, Service, Duration),
    /// The open connections of a link fall silent for ever; new ones work.
    Forget(Role, Service),
}

impl Strike {
    /// The word that `--faults` knows it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill(..) => "kill",
            Self::Terminate(_) => "terminate",
            Self::Pause(_) => "pause",
            Self::CrashPostgres => "postgres",
            Self::CrashBroker => "broker-crash",
            Self::RestartBroker => "broker-restart",
            Self::DeleteQueues => "queues",
            Self::CloseBrokerConnections | Self::Reset(_) => "connections",
            Self::StoreUnavailable(_) => "store-503",
            Self::Hang(..) => "hang",
            Self::BlackHole(..) => "black-hole",
            Self::Slow(..) => "slow",
            Self::Forget(..) => "forget",
        }
    }
}

/// All names of faults.
pub const FAULTS: [&str; 13] = [
    "kill",
    "terminate",
    "pause",
    "postgres",
    "broker-crash",
    "broker-restart",
    "queues",
    "connections",
    "store-503",
    "hang",
    "black-hole",
    "slow",
    "forget",
];

/// Faults that come one after the other; the lanes run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Of our programs.
    Programs,
    /// Of PostgreSQL and RabbitMQ.
    Servers,
    /// Of the network and the object store.
    Links,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Programs, Self::Servers, Self::Links];
}

/// The endless sequence of a lane: pause, fault, pause, fault.
#[derive(Debug)]
pub(super) struct Strikes {
    lane: Lane,
    draw: Draw,
    members: Vec<Role>,
    allowed: Vec<String>,
}

impl Strikes {
    pub(super) fn new(seed: u64, lane: Lane, members: &[Role], allowed: &[String]) -> Self {
        let purpose = match lane {
            Lane::Programs => 2,
            Lane::Servers => 3,
            Lane::Links => 4,
        };
        Self {
            lane,
            draw: Draw::new(seed, purpose),
            members: members.to_vec(),
            allowed: allowed.to_vec(),
        }
    }

    /// The next fault that is allowed, after a pause; `None` when this lane has none.
    pub(super) fn next(&mut self) -> Option<(Duration, Strike)> {
        // Far more draws than there are kinds: whatever is allowed comes up.
        for _ in 0..500 {
            let (pause, strike) = match self.lane {
                Lane::Programs => (self.draw.millis(500, 4000), self.program()),
                Lane::Servers => (self.draw.millis(3000, 12_000), self.server()),
                Lane::Links => (self.draw.millis(500, 5000), self.link()),
            };
            if self.allowed.iter().any(|name| name == strike.name()) {
                return Some((pause, strike));
            }
        }
        None
    }

    fn member(&mut self) -> Role {
        self.members[self.draw.below(self.members.len())]
    }

    fn program(&mut self) -> Strike {
        let role = self.member();
        let down = self.draw.millis(0, 3000);
        match self.draw.below(100) {
            0..60 => Strike::Kill(role, down),
            60..75 => Strike::Terminate(role),
            _ => Strike::Pause(role),
        }
    }

    fn server(&mut self) -> Strike {
        match self.draw.below(100) {
            0..40 => Strike::CrashPostgres,
            40..60 => Strike::CrashBroker,
            60..70 => Strike::RestartBroker,
            _ => Strike::DeleteQueues,
        }
    }

    fn link(&mut self) -> Strike {
        let role = self.member();
        let services = role.services();
        let service = services[self.draw.below(services.len())];
        let all = Service::ALL[self.draw.below(Service::ALL.len())];
        let long = self.draw.millis(1000, 8000);
        match self.draw.below(100) {
            0..15 => Strike::StoreUnavailable(long),
            15..25 => Strike::Hang(Service::Store, long),
            25..35 => Strike::Hang(all, long),
            35..60 => Strike::BlackHole(role, service, long),
            60..70 => Strike::Slow(role, service, long),
            70..80 => Strike::Reset(all),
            80..90 => Strike::CloseBrokerConnections,
            _ => Strike::Forget(role, service),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(seed: u64, lane: Lane) -> Vec<(Duration, Strike)> {
        let members = [Role::Coordinator(0), Role::Worker(0), Role::Worker(1)];
        let allowed = FAULTS.map(str::to_owned);
        let mut strikes = Strikes::new(seed, lane, &members, &allowed);
        (0..200).filter_map(|_| strikes.next()).collect()
    }

    #[test]
    fn a_seed_replays_and_another_differs() {
        assert_eq!(submissions(7, 100), submissions(7, 100));
        assert_ne!(submissions(7, 100), submissions(8, 100));
        assert_eq!(submissions(7, 100)[..50], submissions(7, 50));
        for lane in Lane::ALL {
            assert_eq!(strikes(7, lane), strikes(7, lane));
            assert_ne!(strikes(7, lane), strikes(8, lane));
        }
    }

    #[test]
    fn every_fault_comes_up() {
        let mut names: Vec<_> = Lane::ALL
            .into_iter()
            .flat_map(|lane| strikes(1, lane))
            .map(|(_, strike)| strike.name())
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut all = FAULTS;
        all.sort_unstable();
        assert_eq!(names, all);
    }

    #[test]
    fn a_lane_with_nothing_allowed_is_empty() {
        let mut none = Strikes::new(1, Lane::Links, &[Role::Worker(0)], &["kill".to_owned()]);
        assert_eq!(none.next(), None);
    }

    #[test]
    fn there_is_some_of_everything_among_the_submissions() {
        let all = submissions(1, 2000);
        let count = |wanted: fn(&Submission) -> bool| all.iter().filter(|job| wanted(job)).count();
        for some in [
            count(|job| job.poison),
            count(|job| job.large),
            count(|job| job.repeated),
            count(|job| job.retried),
            count(|job| job.cancel_after.is_some()),
            count(|job| job.not_before.is_some()),
            count(|job| job.finish_by.is_some()),
        ] {
            assert!((10..300).contains(&some), "{some}");
        }
    }
}
