//! Wrong passwords that the directory may be asked about, so that nobody can lock somebody else's
//! account through Postern.
//!
//! A directory locks an account after some wrong passwords within a window (Active Directory:
//! `lockoutThreshold`, `lockOutObservationWindow`; OpenLDAP: `pwdMaxFailure`,
//! `pwdFailureCountInterval`).
//! A [`Budget`] that is smaller, and has a window that is as long, is exhausted before.
//!
//! Every time is a `Duration` since one arbitrary start of the process, on a monotonic clock.

use std::collections::VecDeque;
use std::time::Duration;

/// How many wrong passwords are tried within which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many; 0 is as many as come.
    pub tries_max: u32,
    /// From this age on a wrong password counts no more.
    pub window: Duration,
}

/// The passwords that were tried in vain, and those that are just being tried, in a sliding window.
#[derive(Debug, Clone, Default)]
pub struct Budget(VecDeque<Duration>);

impl Budget {
    /// Counts a password that is about to be tried, if there is room for it. A refused one is not
    /// counted, so that whoever keeps trying does not keep the person out for longer.
    pub fn take(&mut self, limit: &Limit, now: Duration) -> bool {
        while let Some(oldest) = self.0.front()
            && now.saturating_sub(*oldest) >= limit.window
        {
            self.0.pop_front();
        }
        let has_room = self.has_room(limit, now);
        if has_room && limit.tries_max > 0 {
            self.0.push_back(now);
        }
        has_room
    }

    /// Whether there is room for another one.
    pub fn has_room(&self, limit: &Limit, now: Duration) -> bool {
        let tries_max = usize::try_from(limit.tries_max).unwrap_or(usize::MAX);
        tries_max == 0 || self.count(limit, now) < tries_max
    }

    /// A password that was tried was not wrong, or was not judged.
    pub fn give_back(&mut self) {
        self.0.pop_back();
    }

    /// The right password was tried: the directory counts from nothing, too.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many count.
    pub fn count(&self, limit: &Limit, now: Duration) -> usize {
        let counts = |it: &&Duration| now.saturating_sub(**it) < limit.window;
        self.0.iter().filter(counts).count()
    }

    /// True when nothing counts any more and the record can be forgotten.
    pub fn is_idle(&self, limit: &Limit, now: Duration) -> bool {
        let newest = self.0.back();
        newest.is_none_or(|it| now.saturating_sub(*it) >= limit.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        tries_max: 3,
        window: Duration::from_secs(900),
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn no_window_has_more_wrong_passwords_than_the_limit() {
        let mut budget = Budget::default();
        let tried: Vec<u64> = (0..4_000)
            .step_by(50)
            .filter(|at| budget.take(&LIMIT, s(*at)))
            .collect();
        for (place, first) in tried.iter().enumerate() {
            let within = tried.iter().skip(place);
            let within = within.filter(|at| **at - first < LIMIT.window.as_secs());
            assert!(within.count() <= 3, "{tried:?}");
        }
        assert!(tried.len() >= 12, "{tried:?}");
    }

    #[test]
    fn what_was_not_wrong_does_not_count_and_the_right_password_clears() {
        let mut budget = Budget::default();
        for _ in 0..10 {
            assert!(budget.take(&LIMIT, s(0)));
            budget.give_back();
        }
        for _ in 0..3 {
            assert!(budget.take(&LIMIT, s(1)));
        }
        assert_eq!([s(900), s(901)].map(|at| budget.count(&LIMIT, at)), [3, 0]);
        assert!(!budget.take(&LIMIT, s(2)) && !budget.is_idle(&LIMIT, s(2)));
        assert_eq!(
            [s(900), s(901)].map(|at| budget.has_room(&LIMIT, at)),
            [false, true]
        );
        budget.clear();
        assert!(budget.is_idle(&LIMIT, s(2)) && budget.take(&LIMIT, s(2)));
    }

    #[test]
    fn no_limit_counts_nothing() {
        let limit = Limit {
            tries_max: 0,
            ..LIMIT
        };
        let mut budget = Budget::default();
        for _ in 0..100 {
            assert!(budget.take(&limit, s(0)));
        }
        assert!(budget.is_idle(&limit, s(0)));
    }
}
