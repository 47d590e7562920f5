//! What every load costs in instructions, counted by an emulator: for machines without hardware
//! counters, and free of what else happens on them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Result, bail};
use postern_tests::wait;

use super::names::{self, COPY_IN, COPY_OUT};
use super::{Extent, Point, Recorder, Scenario};
use crate::emulator::{self, Counts, Load, Plan};
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many clients there are at each point. One alone leaves the guest idle in between.
const CLIENTS: [u64; 3] = [16, 64, 256];
/// The routes of the guest; those that end TLS.
const ROUTES: [&str; 5] = ["direct", "postern", "pgbouncer", "haproxy", "nginx"];
const ROUTES_TLS: [&str; 3] = ["direct", "postern", "pgbouncer"];

/// All loads, in a guest that is started once a round.
#[derive(Debug, Default)]
pub(super) struct Instructions {
    /// What was counted in each round, or why nothing was.
    rounds: RefCell<BTreeMap<usize, Result<Counts, String>>>,
}

impl Scenario for Instructions {
    fn name(&self) -> &'static str {
        names::INSTRUCTIONS
    }

    fn shows(&self) -> &'static str {
        "instructions of all programs and the kernel, counted by an emulator with one processor: \
         pgbench -S -M prepared, and \\copy"
    }

    /// The guest takes longer than a quick run.
    fn points(&self, extent: Extent) -> Vec<Point> {
        if extent == Extent::Quick {
            return Vec::new();
        }
        let of = |encryption| {
            let copy = |name: &str| Point {
                name: name.to_owned(),
                encryption,
                amount: 1,
            };
            let clients = CLIENTS.map(|it| Point::clients(it, encryption));
            clients.into_iter().chain([COPY_OUT, COPY_IN].map(copy))
        };
        of(Encryption::Plain).chain(of(Encryption::Tls)).collect()
    }

    /// A round takes a third of an hour, and another one differs by a hundredth.
    fn rounds(&self, _extent: Extent) -> usize {
        1
    }

    fn measures(&self, route: &Route) -> bool {
        ROUTES.contains(&route.name.as_str())
    }

    fn facts(&self) -> Vec<(String, String)> {
        let rounds = self.rounds.borrow();
        if !rounds.values().any(Result::is_ok) {
            return Vec::new();
        }
        let facts = [
            ("emulator", emulator::version()),
            ("in the emulator", emulator::packages()),
        ];
        let known = facts
            .into_iter()
            .filter_map(|(name, fact)| Some((name, fact?)));
        known.map(|(name, fact)| (name.to_owned(), fact)).collect()
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let mut rounds = self.rounds.borrow_mut();
        let round = rounds
            .entry(recorder.round)
            .or_insert_with_key(|round| count(stage, *round));
        if wait::is_interrupted() {
            bail!("interrupted");
        }
        let counts = match round {
            Ok(counts) => counts,
            Err(why) => {
                recorder.gap(&format!("no emulator counts instructions: {why}"));
                return Ok(());
            }
        };
        for gap in &counts.gaps {
            recorder.gap(gap);
        }
        let (load, metric) = match point.name.as_str() {
            COPY_OUT => (Load::CopyOut, Metric::InstructionsPerByte),
            COPY_IN => (Load::CopyIn, Metric::InstructionsPerByte),
            _ => {
                let load = Load::Transactions(point.amount);
                (load, Metric::InstructionsPerTransaction)
            }
        };
        let mut all = counts.counts.iter();
        let count = all.find(|it| {
            it.route == route.name && it.encryption == point.encryption && it.load == load
        });
        recorder.figure_if_any(metric, count.map(|it| it.instructions));
        Ok(())
    }
}

fn count(stage: &Stage, round: usize) -> Result<Counts, String> {
    if let Some(why) = emulator::missing() {
        return Err(why);
    }
    let plan = Plan {
        routes: &ROUTES,
        routes_tls: &ROUTES_TLS,
        clients: &CLIENTS,
        seed: round + 1,
    };
    emulator::count(stage, &plan).map_err(|it| format!("{it:#}"))
}
