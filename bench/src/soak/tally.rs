//! What the load came to, and what was under way when something failed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::limits::SOAK_EXAMPLES_MAX;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// A login that memory answers, with a query.
    WarmLogin,
    /// A login of somebody whose last one is long ago, so that the directory is asked.
    ColdLogin,
    /// A session that is opened to stay.
    Session,
    /// A prepared query of a session that stays.
    Query,
    /// A COPY of some megabytes to the client.
    CopyOut,
    /// A COPY of some megabytes to the database.
    CopyIn,
    /// A long query that is cancelled.
    Cancel,
    /// A session that says nothing for a while, and then is asked something.
    Idle,
    /// A group that is taken away, which ends the session, and given back.
    Groups,
    /// A client that is gone in the midst of an answer or of a login.
    CutOff,
    /// The metrics, read.
    Metrics,
}

impl Work {
    /// What the page calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::WarmLogin => "logins that memory answers",
            Self::ColdLogin => "logins that ask the directory",
            Self::Session => "sessions opened to stay",
            Self::Query => "prepared queries",
            Self::CopyOut => "COPY of 2 MB to the client",
            Self::CopyIn => "COPY of 2 MB to the database",
            Self::Cancel => "long queries cancelled",
            Self::Idle => "sessions that say nothing for a minute, then asked",
            Self::Groups => "groups given, and taken away with the session",
            Self::CutOff => "clients gone in the midst of an answer",
            Self::Metrics => "metrics read",
        }
    }

    /// Whether its failure is a login that was refused.
    pub(super) const fn is_login(self) -> bool {
        matches!(self, Self::WarmLogin | Self::ColdLogin | Self::Session)
    }
}

/// How often a kind of load was done and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) done: u64,
    pub(super) failed_in_faults: u64,
    pub(super) failed_outside: u64,
}

/// A fault, and how long logins took to work again after what was taken away had come back.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fault {
    pub(super) what: &'static str,
    pub(super) recovery_s: f64,
}

/// Everything that was counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    works: RefCell<BTreeMap<Work, Counts>>,
    faults: RefCell<Vec<Fault>>,
    examples: RefCell<Vec<String>>,
    is_in_fault: Cell<bool>,
    /// When the last fault was over.
    over: Cell<Option<Instant>>,
}

impl Tally {
    /// Counts what was begun at a moment. What fails although no fault was under way at any time
    /// since then has failed outside of faults.
    pub(super) fn count(&self, work: Work, since: Instant, outcome: &Result<()>) {
        let mut works = self.works.borrow_mut();
        let counts = works.entry(work).or_default();
        let Err(error) = outcome else {
            counts.done += 1;
            return;
        };
        if self.is_in_fault.get() || self.over.get().is_some_and(|over| since <= over) {
            counts.failed_in_faults += 1;
            return;
        }
        counts.failed_outside += 1;
        let mut examples = self.examples.borrow_mut();
        if examples.len() < SOAK_EXAMPLES_MAX {
            examples.push(format!("{work:?}: {error:#}"));
        }
    }

    pub(super) fn begin_fault(&self) {
        self.is_in_fault.set(true);
    }

    pub(super) fn end_fault(&self, fault: Fault) {
        self.is_in_fault.set(false);
        self.over.set(Some(Instant::now()));
        self.faults.borrow_mut().push(fault);
    }

    /// Forgets what was counted in the warm-up.
    pub(super) fn forget(&self) {
        self.works.borrow_mut().clear();
        self.faults.borrow_mut().clear();
        self.examples.borrow_mut().clear();
    }

    pub(super) fn works(&self) -> BTreeMap<Work, Counts> {
        self.works.borrow().clone()
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        self.faults.borrow().clone()
    }

    pub(super) fn examples(&self) -> Vec<String> {
        self.examples.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_overlaps_a_fault_has_failed_in_it_and_nothing_else_has() {
        let tally = Tally::default();
        let failed = || Err(anyhow!("broken"));
        let fault = || Fault {
            what: "the database restarted",
            recovery_s: 0.5,
        };
        let before = Instant::now();
        tally.count(Work::Query, before, &failed());
        tally.begin_fault();
        tally.count(Work::Query, before, &failed());
        tally.end_fault(fault());
        // It began before the fault was over, and is noticed only now.
        tally.count(Work::Query, before, &failed());
        let after = tally
            .over
            .get()
            .map(|it| it + std::time::Duration::from_nanos(1));
        tally.count(Work::Query, after.unwrap_or(before), &failed());
        tally.count(Work::Query, before, &Ok(()));
        let expected = Counts {
            done: 1,
            failed_in_faults: 2,
            failed_outside: 2,
        };
        assert_eq!(tally.works().get(&Work::Query), Some(&expected));
        assert_eq!(tally.examples().len(), 2);
        tally.forget();
        assert!(tally.works().is_empty() && tally.faults().is_empty());
    }
}
