//! Reads of one row, by pgbench.

use anyhow::Result;

use super::{Extent, Point, Recorder, Scenario};
use crate::pgbench::{self, Load};
use crate::route::{Encryption, Route};
use crate::stage::Stage;

/// How many clients there are at each point.
const CLIENTS: [u64; 4] = [1, 16, 64, 256];
/// Those of a quick run with TLS.
const CLIENTS_QUICK_TLS: [u64; 2] = [16, 64];

/// `pgbench -S`.
#[derive(Debug)]
pub(super) struct Select {
    name: &'static str,
    shows: &'static str,
    protocol: &'static str,
    /// How often a quick run measures it.
    rounds_quick: usize,
}

impl Select {
    /// With statements that are parsed once a session.
    pub(super) fn prepared() -> Self {
        Self {
            name: "select-prepared",
            shows: "what a proxy adds to the cheapest queries: pgbench -S -M prepared",
            protocol: "prepared",
            rounds_quick: 3,
        }
    }

    /// With one message a statement.
    pub(super) fn simple() -> Self {
        Self {
            name: "select-simple",
            shows: "the same with one message a query: pgbench -S -M simple",
            protocol: "simple",
            // No bar is about it, and the time is better spent on the rounds of those.
            rounds_quick: 1,
        }
    }
}

impl Scenario for Select {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shows(&self) -> &'static str {
        self.shows
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let tls = match extent {
            Extent::Quick => CLIENTS_QUICK_TLS.as_slice(),
            Extent::Full => CLIENTS.as_slice(),
        };
        let plain = CLIENTS
            .iter()
            .map(|&it| Point::clients(it, Encryption::Plain));
        let tls = tls.iter().map(|&it| Point::clients(it, Encryption::Tls));
        plain.chain(tls).collect()
    }

    fn rounds(&self, extent: Extent) -> usize {
        match extent {
            Extent::Quick => self.rounds_quick,
            Extent::Full => 5,
        }
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let load = Load::select(self.protocol, point.amount);
        // What a run takes on the direct route, in seconds, without the logins.
        let seconds = match stage.extent() {
            Extent::Quick => 0.6,
            Extent::Full => 4.0,
        };
        let each = stage.pace().each(point.amount, seconds);
        pgbench::measure(stage, route, point, (&load, each), recorder)
    }
}
