//! One bulk transfer beside many small requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::direct_rate::{DirectRate, LIMIT, read_of_one_row};
use super::open_loop::record;
use super::{Extent, Point, Recorder, Scenario};
use crate::limits::ANSWER_TIMEOUT;
use crate::load::client::Client;
use crate::load::clients::Clients;
use crate::load::door::{Door, Tickets};
use crate::load::open_loop::{Outcome, Plan};
use crate::load::{beside, float, wait_until};
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many clients ask for one row at a time.
const CLIENTS: u64 = 100;

/// Their rate, as a share of what they do directly in a closed loop: the COPY alone keeps a core
/// busy, and what is shown is how long a small request waits for it, not for a queue of its own.
const SHARE_OF_DIRECT: f64 = 0.1;

/// A COPY out that never ends, and an open loop.
#[derive(Debug, Default)]
pub(super) struct Fairness {
    direct: DirectRate,
}

impl Scenario for Fairness {
    fn name(&self) -> &'static str {
        "fairness"
    }

    fn shows(&self) -> &'static str {
        "100 clients with small requests beside one COPY out"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let plain = Point::clients(CLIENTS, Encryption::Plain);
        let tls = Point::clients(CLIENTS, Encryption::Tls);
        match extent {
            Extent::Quick => vec![plain],
            Extent::Full => vec![plain, tls],
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
        let copy = format!("copy {} to stdout", stage.bulk()?.table);
        let direct = self.direct.get(stage, point, clients, recorder)?;
        let plan = Plan {
            rate_per_s: direct * SHARE_OF_DIRECT,
            duration: match stage.extent() {
                Extent::Quick => Duration::from_millis(1_500),
                Extent::Full => Duration::from_secs(4),
            },
            seed: u64::try_from(recorder.round)?,
        };
        let door = Door::new(route, point.encryption, Tickets::Forgotten)?;
        let (outcome, bytes_per_s) = beside_copy(&door, clients, plan, &copy)?;
        record(&outcome, plan, recorder);
        recorder.figure(Metric::BytesPerS, bytes_per_s);
        Ok(())
    }
}

/// An open loop beside a COPY, and how many bytes a second of the COPY came meanwhile.
fn beside_copy(door: &Door, clients: u32, plan: Plan, copy: &str) -> Result<(Outcome, f64)> {
    let received = Arc::new(AtomicU64::new(0));
    let count = || received.load(Ordering::Relaxed);
    let copying = async || {
        let mut client = Client::log_in(door).await?;
        client.count_into(Arc::clone(&received));
        loop {
            client.query(copy).await?;
        }
    };
    beside(LIMIT + plan.duration, copying, async {
        let mut clients = Clients::connect(door, clients, &read_of_one_row()).await?;
        wait_until("the COPY begins", ANSWER_TIMEOUT, || Ok(count() > 0)).await?;
        let (before, start) = (count(), Instant::now());
        let outcome = clients.open_loop(plan).await?;
        let bytes = float(count() - before);
        Ok((outcome, bytes / start.elapsed().as_secs_f64()))
    })
}
