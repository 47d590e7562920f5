//! When everybody is compared with the directory, and how often at most.

use std::time::{Duration, Instant};

use super::cause::{Cause, Heard};
use super::{Done, Watch, known, operator};
use crate::limits::{COMPARE_INTERVAL, COMPARE_PAUSE, COMPARE_REST_MAX};

/// When everybody is compared. Thousands of changes in a row must not keep the directory busy with
/// our questions: they get a fifth of the time.
pub(super) struct Pace {
    /// When the next comparison begins.
    pub(super) next: Instant,
    /// Since when one is under way.
    pub(super) since: Option<Instant>,
    /// When the last one ended, and how long everybody is left alone after it.
    last: (Instant, Duration),
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now + COMPARE_INTERVAL,
            since: None,
            last: (now, COMPARE_PAUSE),
        }
    }

    /// Something was heard.
    fn ask(&mut self, now: Instant) {
        // How long the rest after one that is under way is to be, its end says.
        let (from, rest) = match self.since {
            Some(since) => (since, COMPARE_REST_MAX),
            None => self.last,
        };
        self.next = self.next.min((now + COMPARE_PAUSE).max(from + rest));
    }

    fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.next = now + COMPARE_INTERVAL;
    }

    fn end(&mut self, now: Instant) {
        let Some(since) = self.since.take() else {
            return;
        };
        let rest = now.saturating_duration_since(since) * 4;
        let rest = rest.clamp(COMPARE_PAUSE, COMPARE_REST_MAX);
        self.last = (now, rest);
        let was_asked = self.next < since + COMPARE_INTERVAL;
        if was_asked {
            self.next = self.next.min(now + rest);
        }
    }
}

impl Watch {
    /// Compares everybody, but not at once for each of many changes. Whoever loses a group that
    /// they were in is not waiting for it.
    pub(super) fn compare_soon(&mut self) {
        self.pace.ask(Instant::now());
    }

    pub(super) fn compare_all(&mut self) {
        self.pace.begin(Instant::now());
        let cause = Cause::now(Heard::Comparison);
        for id in known::people(&self.plane.gate).into_keys() {
            self.look_at(id, cause);
        }
        self.list_managed();
    }

    /// Everybody who may log in, whether anybody here knows them or not.
    pub(super) fn list_managed(&mut self) {
        if self.plane.gate.has_handed_over() {
            // Whoever is not in here is the other process's business.
            return;
        }
        let plane = self.plane.clone();
        self.tasks
            .spawn_local(async move { Done::Managed(operator::may_log_in(&plane).await) });
    }

    /// Everybody has been compared when nobody is left.
    pub(super) fn end_comparison(&mut self) {
        if self.due.is_empty() && self.later.is_empty() && self.running.is_empty() {
            self.pace.end(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn many_changes_are_one_comparison_and_then_there_is_rest() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.next, start + COMPARE_INTERVAL);
        for after in [0, 50, 150] {
            pace.ask(start + ms(after));
            assert_eq!(pace.next, start + COMPARE_PAUSE);
        }
        let begun = pace.next;
        pace.begin(begun);
        let ended = begun + ms(500);
        pace.end(ended);
        assert_eq!(pace.next, begun + COMPARE_INTERVAL);
        pace.ask(ended + ms(1));
        assert_eq!(pace.next, ended + ms(2_000));
    }

    #[test]
    fn what_is_heard_meanwhile_is_compared_after_the_rest_and_not_later() {
        let start = Instant::now();
        for (took, rest) in [(ms(3), COMPARE_PAUSE), (ms(500), ms(2_000))] {
            let mut pace = Pace::new(start);
            pace.begin(start);
            pace.ask(start + ms(1));
            pace.end(start + took);
            assert_eq!(pace.next, start + took + rest);
        }
        // After one that takes for ever the next one begins at once.
        let mut pace = Pace::new(start);
        pace.begin(start);
        pace.ask(start + ms(1));
        pace.end(start + ms(60_000));
        assert_eq!(pace.next, start + COMPARE_REST_MAX);
    }
}
