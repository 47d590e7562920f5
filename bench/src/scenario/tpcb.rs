//! pgbench's mix of reads and writes.

use anyhow::Result;

use super::{Extent, Point, Recorder, Scenario};
use crate::pgbench::{self, Load};
use crate::route::{Encryption, Route};
use crate::stage::Stage;

/// How many reads of one row take as long as one such transaction, roughly.
const READS: f64 = 12.0;

/// `pgbench`'s default.
#[derive(Debug)]
pub(super) struct Tpcb;

impl Scenario for Tpcb {
    fn name(&self) -> &'static str {
        "tpcb"
    }

    fn shows(&self) -> &'static str {
        "what a proxy adds to transactions of seven statements: pgbench -b tpcb-like"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let plain = Point::clients(16, Encryption::Plain);
        match extent {
            Extent::Quick => vec![plain],
            Extent::Full => vec![
                plain,
                Point::clients(64, Encryption::Plain),
                Point::clients(16, Encryption::Tls),
            ],
        }
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let load = Load::tpcb_like(point.amount);
        let seconds = match stage.extent() {
            Extent::Quick => 0.6,
            Extent::Full => 4.0,
        };
        let each = stage.pace().each(point.amount, seconds / READS);
        pgbench::measure(stage, route, point, (&load, each), recorder)
    }
}
