//! A job's life: the states, the events, and the one function that leads from one to the next.
//!
//! ```text
//!               Released              Claimed                 PublicationBegun    Completed
//!   scheduled ──────────▶ queued ───────────────▶ running ─────────────────▶ running ─────▶ succeeded
//!       │                 │   ▲   Retried, HandedBack │ │ GivenUp            (publishing)
//!       │ Cancelled       │   └───────────────────────┘ └──────────────▶ failed    │
//!       │ Expired         │ Cancelled, Expired          │ Cancelled                │ PublicationEnded
//!       └───────▶ cancelled | expired ◀─────────────────┘                          ▼ back to running
//! ```
//! A job that waits is `Refused` to failed when it is seen beforehand that it cannot succeed: its output
//! exists. A failed job goes back to queued when its owner asks for it (`Revived`); the other ends are final.
//!
//! `apply` is pure: times and tokens are arguments. Every event of an attempt carries its lease
//! token, so that a superseded attempt changes nothing.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Grows with every claim; whoever presents an older one no longer owns the job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct LeaseToken(pub i64);

/// Where a job is in its life. Data sits in the state that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Accepted, to be queued at a later time.
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// A worker holds the lease.
    Running {
        /// Proof of ownership.
        token: LeaseToken,
        /// When the lease lapses, by the database's clock.
        lease_until: DateTime<Utc>,
        /// The result is being made visible: from here on nobody but the publisher may end the job.
        publishing: bool,
    },
    /// The result is published.
    Succeeded,
    /// Given up.
    Failed,
    /// Cancelled by its owner.
    Cancelled,
    /// Not started before its deadline.
    Expired,
}

/// What happens to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// Its time has come.
    Released,
    /// A worker took it.
    Claimed {
        /// The new lease's token.
        token: LeaseToken,
        /// When the new lease lapses.
        lease_until: DateTime<Utc>,
    },
    /// Its worker is still there.
    Renewed {
        /// The lease's token.
        token: LeaseToken,
        /// When the lease now lapses.
        lease_until: DateTime<Utc>,
    },
    /// The coordinator starts to make the result visible.
    PublicationBegun {
        /// The lease's token.
        token: LeaseToken,
        /// When somebody else may look at what became of the publication.
        lease_until: DateTime<Utc>,
    },
    /// The result did not become visible, and certainly will not by this publication.
    PublicationEnded {
        /// The lease's token.
        token: LeaseToken,
    },
    /// The result is visible.
    Completed {
        /// The lease's token.
        token: LeaseToken,
    },
    /// The attempt failed and another may follow.
    Retried {
        /// The lease's token.
        token: LeaseToken,
    },
    /// The attempt failed and no other follows.
    GivenUp {
        /// The lease's token.
        token: LeaseToken,
    },
    /// The worker returned the job unfinished; no attempt is spent.
    HandedBack {
        /// The lease's token.
        token: LeaseToken,
    },
    /// The owner wants it no more.
    Cancelled,
    /// Its deadline passed before it started.
    Expired,
    /// The owner wants a failed job tried anew.
    Revived,
    /// It was seen before any worker took it that it cannot succeed.
    Refused,
}

/// An event that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from} cannot be {event}")]
pub struct InvalidTransition {
    /// The state's name.
    pub from: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl JobState {
    /// Returns the state that follows `event`. Anything not written here is refused.
    ///
    /// # Errors
    /// [`InvalidTransition`], for one when a completion carries a lease token that is no longer held.
    pub fn apply(&self, event: &JobEvent) -> Result<Self, InvalidTransition> {
        use {JobEvent as E, JobState as S};
        let next = match (self, event) {
            (S::Scheduled, E::Released) => Some(S::Queued),
            (S::Queued, E::Claimed { token, lease_until }) => Some(S::Running {
                token: *token,
                lease_until: *lease_until,
                publishing: false,
            }),
            (S::Scheduled | S::Queued, E::Cancelled) => Some(S::Cancelled),
            (S::Scheduled | S::Queued, E::Expired) => Some(S::Expired),
            (S::Scheduled | S::Queued, E::Refused) => Some(S::Failed),
            (S::Failed, E::Revived) => Some(S::Queued),
            (
                S::Running {
                    token,
                    lease_until,
                    publishing,
                },
                event,
            ) => Self::apply_while_running(*token, *lease_until, *publishing, event),
            _ => None,
        };
        next.ok_or_else(|| InvalidTransition {
            from: self.name(),
            event: event.name(),
        })
    }

    /// Of a running job all but a cancellation is for the holder of the lease; while its result is
    /// being published it can only end by that publication.
    fn apply_while_running(
        held: LeaseToken,
        lease_until: DateTime<Utc>,
        publishing: bool,
        event: &JobEvent,
    ) -> Option<Self> {
        use JobEvent as E;
        let running = |lease_until, publishing| Self::Running {
            token: held,
            lease_until,
            publishing,
        };
        match (publishing, event) {
            (false, E::Cancelled) => Some(Self::Cancelled),
            (_, event) if event.token() != Some(held) => None,
            // A heartbeat does not shorten the time that the publisher was given.
            (
                true,
                E::Renewed {
                    lease_until: new, ..
                },
            ) => Some(running(lease_until.max(*new), true)),
            (
                false,
                E::Renewed {
                    lease_until: new, ..
                },
            ) => Some(running(*new, false)),
            (false, E::PublicationBegun { lease_until, .. }) => Some(running(*lease_until, true)),
            (true, E::PublicationEnded { .. }) => Some(running(lease_until, false)),
            (true, E::Completed { .. }) => Some(Self::Succeeded),
            (false, E::Retried { .. } | E::HandedBack { .. }) => Some(Self::Queued),
            (false, E::GivenUp { .. }) => Some(Self::Failed),
            _ => None,
        }
    }

    /// The token of the lease that is held, if one is.
    #[must_use]
    pub const fn token(&self) -> Option<LeaseToken> {
        match self {
            Self::Running { token, .. } => Some(*token),
            _ => None,
        }
    }

    /// The state's name, as in JSON and in the database.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether the job's life is over.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired
        )
    }
}

/// The names of all states, for filters.
pub const STATE_NAMES: [&str; 7] = [
    "scheduled",
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
];

impl JobEvent {
    /// Of which lease it speaks.
    const fn token(&self) -> Option<LeaseToken> {
        match self {
            Self::Claimed { token, .. }
            | Self::Renewed { token, .. }
            | Self::PublicationBegun { token, .. }
            | Self::PublicationEnded { token }
            | Self::Completed { token }
            | Self::Retried { token }
            | Self::GivenUp { token }
            | Self::HandedBack { token } => Some(*token),
            Self::Released | Self::Cancelled | Self::Expired | Self::Revived | Self::Refused => {
                None
            }
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Claimed { .. } => "claimed",
            Self::Renewed { .. } => "renewed",
            Self::PublicationBegun { .. } => "published",
            Self::PublicationEnded { .. } => "unpublished",
            Self::Completed { .. } => "completed",
            Self::Retried { .. } => "queued again",
            Self::GivenUp { .. } => "given up",
            Self::HandedBack { .. } => "handed back",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Revived => "retried",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: LeaseToken = LeaseToken(7);
    const STALE: LeaseToken = LeaseToken(6);

    fn running(publishing: bool) -> JobState {
        JobState::Running {
            token: HELD,
            lease_until: DateTime::UNIX_EPOCH,
            publishing,
        }
    }

    fn states() -> Vec<JobState> {
        use JobState as S;
        vec![
            S::Scheduled,
            S::Queued,
            running(false),
            running(true),
            S::Succeeded,
            S::Failed,
            S::Cancelled,
            S::Expired,
        ]
    }

    fn events(token: LeaseToken) -> Vec<JobEvent> {
        use JobEvent as E;
        let lease_until = DateTime::UNIX_EPOCH;
        vec![
            E::Released,
            E::Claimed { token, lease_until },
            E::Renewed { token, lease_until },
            E::PublicationBegun { token, lease_until },
            E::PublicationEnded { token },
            E::Completed { token },
            E::Retried { token },
            E::GivenUp { token },
            E::HandedBack { token },
            E::Cancelled,
            E::Expired,
            E::Revived,
            E::Refused,
        ]
    }

    /// The whole table, written a second time as words: `-` is a refusal.
    #[test]
    fn every_pair_of_state_and_event_does_what_the_table_says() {
        let table = [
            // released claimed renewed begun ended completed retried givenup handedback cancelled expired revived refused
            (
                "scheduled",
                "queued - - - - - - - - cancelled expired - failed",
            ),
            (
                "queued",
                "- running - - - - - - - cancelled expired - failed",
            ),
            (
                "running",
                "- - running running - - queued failed queued cancelled - - -",
            ),
            ("running", "- - running - running succeeded - - - - - - -"),
            ("succeeded", "- - - - - - - - - - - - -"),
            ("failed", "- - - - - - - - - - - queued -"),
            ("cancelled", "- - - - - - - - - - - - -"),
            ("expired", "- - - - - - - - - - - - -"),
        ];
        for (state, (name, row)) in states().into_iter().zip(table) {
            assert_eq!(state.name(), name);
            let expected: Vec<_> = row.split(' ').collect();
            assert_eq!(expected.len(), events(HELD).len());
            for (event, expected) in events(HELD).iter().zip(expected) {
                let next = state.apply(event);
                let seen = next.as_ref().map_or("-", JobState::name);
                assert_eq!(seen, expected, "{state:?} × {event:?}");
            }
        }
    }

    #[test]
    fn a_stale_token_changes_nothing() {
        for publishing in [false, true] {
            for event in events(STALE) {
                if matches!(event, JobEvent::Cancelled) {
                    continue;
                }
                assert!(running(publishing).apply(&event).is_err(), "{event:?}");
            }
        }
    }

    #[test]
    fn a_heartbeat_does_not_shorten_a_publication() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let publishing = |lease_until| JobState::Running {
            token: HELD,
            lease_until,
            publishing: true,
        };
        for (renewed_to, expected) in [(60, 300), (400, 400)] {
            let renewed = JobEvent::Renewed {
                token: HELD,
                lease_until: at(renewed_to),
            };
            let next = publishing(at(300)).apply(&renewed);
            assert_eq!(next, Ok(publishing(at(expected))));
        }
    }

    #[test]
    fn a_terminal_state_is_final_but_for_the_owners_retry() {
        for state in states().into_iter().filter(JobState::is_terminal) {
            for event in events(HELD) {
                if (&state, &event) == (&JobState::Failed, &JobEvent::Revived) {
                    continue;
                }
                assert!(state.apply(&event).is_err(), "{state:?} × {event:?}");
            }
        }
    }
}
