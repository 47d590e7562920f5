//! How long each phase of a login takes: for its line in the log, and for the metrics.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::durations::Durations;

/// A phase of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first packets, and the handshake of TLS with the client.
    Tls,
    /// The client's answer to the question for its password, or its part of SCRAM: people type.
    Ask,
    /// Whose password it is.
    Authenticate,
    /// What they may do.
    Authorize,
    /// The role made to match.
    Sync,
    /// The connection to the backend, and its TLS.
    Dial,
    /// The login to the backend.
    BackendLogin,
}

impl Phase {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Tls,
        Self::Ask,
        Self::Authenticate,
        Self::Authorize,
        Self::Sync,
        Self::Dial,
        Self::BackendLogin,
    ];

    /// Its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Ask => "ask",
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Sync => "sync",
            Self::Dial => "dial",
            Self::BackendLogin => "backend_login",
        }
    }
}

/// The times of one login.
#[derive(Debug)]
pub(crate) struct Phases {
    last: Cell<Instant>,
    took: [Cell<Duration>; Phase::ALL.len()],
}

impl Phases {
    /// The first phase begins.
    pub(crate) fn begin() -> Self {
        Self {
            last: Cell::new(Instant::now()),
            took: Default::default(),
        }
    }

    /// A phase ends, and the next one begins. What is done twice in a login is counted together.
    pub(crate) fn end(&self, phase: Phase) {
        let now = Instant::now();
        let took = now.duration_since(self.last.replace(now));
        self.add(phase, took);
    }

    /// As [`Phases::end`], where the first part of the time belonged to another phase.
    pub(crate) fn end_after(&self, (first, part): (Phase, Duration), phase: Phase) {
        let now = Instant::now();
        let took = now.duration_since(self.last.replace(now));
        let part = part.min(took);
        self.add(first, part);
        self.add(phase, took - part);
    }

    /// In milliseconds, for the log.
    pub(crate) fn ms(&self, phase: Phase) -> f64 {
        // Microseconds are as fine as makes sense.
        let us = self.of(phase).as_micros();
        f64::from(u32::try_from(us).unwrap_or(u32::MAX)) / 1_000.0
    }

    fn of(&self, phase: Phase) -> Duration {
        self.took
            .get(phase as usize)
            .map_or(Duration::ZERO, Cell::get)
    }

    fn add(&self, phase: Phase, took: Duration) {
        if let Some(of_phase) = self.took.get(phase as usize) {
            of_phase.set(of_phase.get() + took);
        }
    }
}

/// The times of all logins that have come through.
#[derive(Debug)]
pub(crate) struct PhaseDurations([Durations; Phase::ALL.len()]);

impl PhaseDurations {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Durations::new()))
    }

    /// A login has come through.
    pub(crate) fn took(&self, phases: &Phases) {
        for (durations, phase) in self.0.iter().zip(Phase::ALL) {
            durations.took(phases.of(phase));
        }
    }

    /// Each phase and its times.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Phase, &Durations)> {
        Phase::ALL.into_iter().zip(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_had_a_part_of_the_time_of_another_is_counted_by_itself() {
        let phases = Phases::begin();
        phases.last.set(Instant::now() - Duration::from_secs(5));
        phases.end_after((Phase::Dial, Duration::from_secs(2)), Phase::BackendLogin);
        assert_eq!(phases.of(Phase::Dial), Duration::from_secs(2));
        assert!(phases.of(Phase::BackendLogin) >= Duration::from_secs(3));
        assert_eq!(phases.of(Phase::Tls), Duration::ZERO);
    }
}
