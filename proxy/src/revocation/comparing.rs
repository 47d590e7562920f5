//! When everybody is compared with the directory, and how often at most.

use std::time::Instant;

use super::cause::{Cause, Heard};
use super::{Done, Watch, known, operator};
use crate::limits::{COMPARE_INTERVAL, COMPARE_PAUSE, COMPARE_REST_MAX};

impl Watch {
    /// Compares everybody, but not at once for each of many changes. Whoever loses a group that
    /// they were in is not waiting for it.
    pub(super) fn compare_soon(&mut self) {
        let (last, rest) = self.compared;
        let at = (Instant::now() + COMPARE_PAUSE).max(last + rest);
        self.compare_at = self.compare_at.min(at);
    }

    pub(super) fn compare_all(&mut self) {
        let now = Instant::now();
        self.comparing_since.get_or_insert(now);
        self.compared = (now, COMPARE_REST_MAX);
        self.compare_at = now + COMPARE_INTERVAL;
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

    /// Everybody has been compared. Thousands of changes in a row must not keep the directory busy
    /// with our questions: they get a fifth of the time.
    pub(super) fn end_comparison(&mut self) {
        if !self.due.is_empty() || !self.later.is_empty() || !self.running.is_empty() {
            return;
        }
        if let Some(since) = self.comparing_since.take() {
            let rest = since.elapsed() * 4;
            let rest = rest.clamp(COMPARE_PAUSE, COMPARE_REST_MAX);
            self.compared = (Instant::now(), rest);
        }
    }
}
