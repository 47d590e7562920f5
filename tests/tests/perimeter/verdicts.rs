//! A frame is sent without a policy, with it, and without it: what becomes of it.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postern_ebpf::Reason;
use postern_tests::network::tap::contains;
use postern_tests::network::{Namespace, Tap};
use postern_tests::policy::Policy;
use postern_tests::wait_until;

use crate::stage::{Stage, marker};

/// How long a frame may take from end to end on a busy machine.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(2);
/// How long a dropped frame is looked for, once its drop was counted: it would have arrived
/// before that.
const AFTERMATH_LIMIT: Duration = Duration::from_millis(20);

/// A frame, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Case {
    what: &'static str,
    frame: Vec<u8>,
    /// What is looked for at the other end.
    text: String,
    /// Whether it arrives where no policy is.
    arrives: bool,
    verdict: Reason,
}

/// A frame that the network delivers unless the policy drops it; it is made around a text.
pub(crate) fn delivered(
    what: &'static str,
    verdict: Reason,
    frame: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Case {
    let text = marker();
    Case {
        what,
        frame: frame(text.as_bytes()),
        text,
        arrives: true,
        verdict,
    }
}

/// A frame that this network delivers in no case: only its verdict is looked at.
pub(crate) fn judged(
    what: &'static str,
    verdict: Reason,
    frame: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Case {
    Case {
        arrives: false,
        ..delivered(what, verdict, frame)
    }
}

/// From where to where frames go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'a> {
    pub(crate) from: &'a Namespace,
    pub(crate) to: &'a Namespace,
}

impl<'a> Path<'a> {
    /// From the application to the database.
    pub(crate) fn in_question(stage: &'a Stage) -> Self {
        Self {
            from: &stage.network.application,
            to: &stage.network.database,
        }
    }

    /// Sends every frame without the policy, with it, and without it.
    pub(crate) fn check(&self, policy: &Policy, cases: &[Case]) -> Result<()> {
        let taps = Taps {
            from: Tap::open(self.from, "router")?,
            to: Tap::open(self.to, "router")?,
        };
        taps.check_open(cases).context("before the load")?;
        policy.load()?;
        let mut counts = policy.counts()?;
        for case in cases {
            let outcome = taps.check_verdict(policy, case, &mut counts);
            outcome.with_context(|| case.what.to_owned())?;
        }
        policy.unload()?;
        taps.check_open(cases).context("after unload")
    }
}

/// Where frames are sent, and where they would arrive.
struct Taps {
    from: Tap,
    to: Tap,
}

impl Taps {
    fn check_open(&self, cases: &[Case]) -> Result<()> {
        for case in cases.iter().filter(|it| it.arrives) {
            self.from.send(&case.frame)?;
            let arrives = self.sees(case, ARRIVAL_LIMIT)?;
            ensure!(arrives, "{} does not arrive", case.what);
        }
        Ok(())
    }

    /// Sends a frame, which must be counted beyond `counts` for its reason; they are brought up
    /// to date.
    fn check_verdict(
        &self,
        policy: &Policy,
        case: &Case,
        counts: &mut BTreeMap<String, u64>,
    ) -> Result<()> {
        let reason = case.verdict.name();
        let before = mem::take(counts);
        // Its text was seen before the load: what comes of that is behind us.
        self.to.drain()?;
        self.from.send(&case.frame)?;
        let counted = wait_until("it is counted", ARRIVAL_LIMIT, || {
            *counts = policy.counts()?;
            Ok(counts.get(reason) > before.get(reason))
        });
        counted.with_context(|| format!("{reason}: {before:?}, then {counts:?}"))?;
        let passes = case.verdict.passes() && case.arrives;
        let limit = if passes {
            ARRIVAL_LIMIT
        } else {
            AFTERMATH_LIMIT
        };
        let seen = self.sees(case, limit)?;
        let said = if seen { "arrives" } else { "does not arrive" };
        ensure!(seen == passes, "it is counted as {reason}, and {said}");
        Ok(())
    }

    fn sees(&self, case: &Case, limit: Duration) -> Result<bool> {
        let text = case.text.as_bytes();
        self.to.sees(limit, |frame| contains(frame, text))
    }
}
