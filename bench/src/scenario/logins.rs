//! Logins that follow each other: connect, log in, ask once, leave.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::direct_rate::LIMIT;
use super::{Extent, Point, Recorder, Scenario};
use crate::load::client::Client;
use crate::load::door::{Door, Tickets};
use crate::load::latency::Latencies;
use crate::load::{float, run};
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many clients log in at a time.
const CLIENTS: [u64; 2] = [4, 16];
/// What is added to the name of a point whose clients keep TLS sessions.
const TICKETS_KEPT: &str = " that resume TLS";

/// The same person again and again, whom a proxy that remembers need not ask about.
///
/// Every client derives its SCRAM keys anew, as libpq does. A pooler may give a client the server
/// connection of the one before, where a proxy without a pool has the server start a process.
#[derive(Debug)]
pub(super) struct Logins;

impl Scenario for Logins {
    fn name(&self) -> &'static str {
        "logins"
    }

    fn shows(&self) -> &'static str {
        "logins of a person who has just been in: connect, log in, select 1, leave"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let mut points = Vec::new();
        for amount in CLIENTS {
            points.push(Point::clients(amount, Encryption::Plain));
            points.push(Point::clients(amount, Encryption::Tls));
            let mut resumed = Point::clients(amount, Encryption::Tls);
            resumed.name += TICKETS_KEPT;
            points.push(resumed);
        }
        if extent == Extent::Quick {
            points.truncate(3);
        }
        points
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let duration = match stage.extent() {
            Extent::Quick => Duration::from_millis(1_500),
            Extent::Full => Duration::from_secs(4),
        };
        let tickets = match point.name.ends_with(TICKETS_KEPT) {
            true => Tickets::Kept,
            false => Tickets::Forgotten,
        };
        let door = Door::new(route, point.encryption, tickets)?;
        let found = run(LIMIT + duration, async {
            for _ in 0..point.amount {
                // Now the person is known, and there is a ticket for every client.
                visit(&door).await?;
            }
            let end = Instant::now() + duration;
            let clients = (0..point.amount).map(|_| {
                let doors = std::iter::repeat(door.clone());
                doors.take_while(move |_| Instant::now() < end)
            });
            visits(clients).await
        })?;
        record(&found, recorder);
        if tickets == Tickets::Kept && found.resumed < found.latencies.count() / 2 {
            recorder.gap(&format!(
                "logins: {} resumed {} of {} TLS sessions",
                route.name,
                found.resumed,
                found.latencies.count()
            ));
        }
        Ok(())
    }
}

/// What logins came to.
#[derive(Debug)]
pub(super) struct Found {
    /// From the first one's start to the last one's end.
    pub(super) took: Duration,
    /// How long each took.
    pub(super) latencies: Latencies,
    /// How many resumed a TLS session.
    pub(super) resumed: u64,
}

/// The rate and the latencies of logins.
pub(super) fn record(found: &Found, recorder: &mut Recorder<'_>) {
    let count = float(found.latencies.count());
    recorder.figure(Metric::RatePerS, count / found.took.as_secs_f64());
    recorder.figure_if_any(Metric::P50Us, found.latencies.at_us(0.5));
    recorder.figure_if_any(Metric::P99Us, found.latencies.at_us(0.99));
}

/// Every client goes through all its doors, one after the other.
pub(super) async fn visits<D>(clients: impl Iterator<Item = D>) -> Result<Found>
where
    D: Iterator<Item = Door> + 'static,
{
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for doors in clients {
        tasks.spawn_local(async move {
            let mut latencies = Latencies::new()?;
            let mut resumed = 0;
            for door in doors {
                let before = Instant::now();
                resumed += u64::from(visit(&door).await?);
                latencies.record(before.elapsed());
            }
            anyhow::Ok((latencies, resumed))
        });
    }
    let mut found = Found {
        took: Duration::ZERO,
        latencies: Latencies::new()?,
        resumed: 0,
    };
    while let Some(client) = tasks.join_next().await {
        let (latencies, resumed) = client.context("a client")??;
        found.latencies.add(&latencies)?;
        found.resumed += resumed;
    }
    found.took = start.elapsed();
    Ok(found)
}

/// One login and one query; whether a TLS session was resumed.
async fn visit(door: &Door) -> Result<bool> {
    let mut client = Client::log_in(door).await?;
    let resumed = client.wire().is_resumed();
    client.query("select 1").await?;
    client.leave().await?;
    Ok(resumed)
}
