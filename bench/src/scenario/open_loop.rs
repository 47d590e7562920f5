//! Latencies at a rate that does not depend on the answers.

use std::time::Duration;

use anyhow::Result;

use super::direct_rate::{DirectRate, LIMIT, read_of_one_row};
use super::{Extent, Point, Recorder, Scenario};
use crate::load::clients::Clients;
use crate::load::door::{Door, Tickets};
use crate::load::open_loop::{Outcome, Plan};
use crate::load::run;
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many clients there are at each point.
const CLIENTS: [u64; 2] = [16, 64];

/// The rate, as a share of what the direct route does in a closed loop: half, so that a proxy
/// that costs half as much as the database itself still has room.
const SHARE_OF_DIRECT: f64 = 0.5;

/// The same arrivals for every route of a round.
#[derive(Debug, Default)]
pub(super) struct OpenLoop {
    direct: DirectRate,
}

impl Scenario for OpenLoop {
    fn name(&self) -> &'static str {
        "open-loop"
    }

    fn shows(&self) -> &'static str {
        "how long people wait at half of the direct route's rate, counted from when they came"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let plain = CLIENTS.map(|it| Point::clients(it, Encryption::Plain));
        let tls = CLIENTS.map(|it| Point::clients(it, Encryption::Tls));
        match extent {
            Extent::Quick => plain.to_vec(),
            Extent::Full => [plain, tls].concat(),
        }
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let clients = u32::try_from(point.amount)?;
        let direct = self.direct.get(stage, point, clients, recorder)?;
        let plan = Plan {
            rate_per_s: direct * SHARE_OF_DIRECT,
            duration: match stage.extent() {
                Extent::Quick => Duration::from_millis(1_200),
                Extent::Full => Duration::from_secs(4),
            },
            seed: u64::try_from(recorder.round)?,
        };
        let door = Door::new(route, point.encryption, Tickets::Forgotten)?;
        let outcome = run(LIMIT + plan.duration, async {
            let mut clients = Clients::connect(&door, clients, &read_of_one_row()).await?;
            clients.open_loop(plan).await
        })?;
        record(&outcome, plan, recorder);
        Ok(())
    }
}

/// The latencies of an open loop; a rate that was not held is a gap.
pub(super) fn record(outcome: &Outcome, plan: Plan, recorder: &mut Recorder<'_>) {
    recorder.figure(Metric::RatePerS, plan.rate_per_s);
    for (metric, share) in [
        (Metric::P50Us, 0.5),
        (Metric::P99Us, 0.99),
        (Metric::P999Us, 0.999),
    ] {
        recorder.figure_if_any(metric, outcome.latencies.at_us(share));
    }
    if !outcome.is_held() {
        recorder.gap(&format!(
            "{}, {}, {}: a rate of {:.0} a second was not held: {} of {} requests were late, {} \
             were not served",
            recorder.scenario,
            recorder.route,
            recorder.point,
            plan.rate_per_s,
            outcome.late,
            outcome.latencies.count(),
            outcome.unserved
        ));
    }
}
