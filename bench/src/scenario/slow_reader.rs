//! A client that asks for much and reads little of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::direct_rate::{DirectRate, LIMIT, read_of_one_row};
use super::{Extent, Point, Recorder, Scenario, names};
use crate::limits::{ANSWER_TIMEOUT, SETTLED_BYTES, SETTLED_FOR};
use crate::load::client::Client;
use crate::load::clients::Clients;
use crate::load::door::{Door, Tickets};
use crate::load::latency::Latencies;
use crate::load::open_loop::Plan;
use crate::load::{float, run, wait_until};
use crate::meter::{Socket, sockets, user_bytes};
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many other clients there are.
const OTHERS: u32 = 16;
/// Their rate, as a share of what they do directly in a closed loop. The backend of the slow
/// reader waits, so that what is left to see is the proxy's effort for it.
const SHARE_OF_DIRECT: f64 = 0.3;

/// One slow reader, and others who must not notice.
#[derive(Debug, Default)]
pub(super) struct SlowReader {
    direct: DirectRate,
}

impl Scenario for SlowReader {
    fn name(&self) -> &'static str {
        "slow-reader"
    }

    fn shows(&self) -> &'static str {
        "what is kept for a client that asks for much and does not read, and what others notice"
    }

    fn points(&self, _extent: Extent) -> Vec<Point> {
        let of = |encryption| Point {
            name: names::ONE_SLOW_READER.to_owned(),
            encryption,
            amount: 1,
        };
        vec![of(Encryption::Plain), of(Encryption::Tls)]
    }

    fn measures(&self, route: &Route) -> bool {
        !route.pids.is_empty()
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let (bytes, duration, pairs) = match stage.extent() {
            Extent::Quick => (200_000_000, Duration::from_millis(700), 2),
            Extent::Full => (1_000_000_000, Duration::from_secs(5), 4),
        };
        let direct = self.direct.get(stage, point, OTHERS, recorder)?;
        let plan = Plan {
            rate_per_s: direct * SHARE_OF_DIRECT,
            duration,
            seed: u64::try_from(recorder.round)?,
        };
        let sql = format!(
            "select repeat('x', 1000) from generate_series(1, {})",
            bytes / 1_000
        );
        let watched = Watched {
            door: Door::new(route, point.encryption, Tickets::Forgotten)?,
            route,
            backend_port: stage.postgres().port(),
            sql,
        };
        let found = run(LIMIT + duration * 2 * pairs, watched.in_turn(plan, pairs))?;
        recorder.figure(Metric::HeldBytes, float(found.held.in_process));
        recorder.figure(Metric::HeldMemoryBytes, float(found.held.memory));
        recorder.figure(Metric::HeldKernelBytes, float(found.held.in_kernel));
        for (point, latencies) in [
            (names::OTHERS_ALONE, found.alone),
            (names::OTHERS_BESIDE, found.beside),
        ] {
            let mut recorder = recorder.at(point);
            recorder.figure_if_any(Metric::P50Us, latencies.at_us(0.5));
            recorder.figure_if_any(Metric::P99Us, latencies.at_us(0.99));
        }
        Ok(())
    }
}

/// A route with a slow reader.
struct Watched<'a> {
    door: Door,
    route: &'a Route,
    backend_port: u16,
    sql: String,
}

/// What was found.
struct Found {
    held: Held,
    alone: Latencies,
    beside: Latencies,
}

/// What is kept for the slow reader, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// What the proxy has read from the backend, less what it has written to the client. With TLS
    /// the client's leg carries a thousandth more than the backend's, which is not subtracted.
    in_process: u64,
    /// How much more memory the proxy has than before.
    memory: u64,
    /// What waits in the proxy's two sockets.
    in_kernel: u64,
}

impl Watched<'_> {
    /// The others' load with and without a slow reader in turn, so that what else the machine does
    /// falls on both.
    async fn in_turn(&self, plan: Plan, pairs: u32) -> Result<Found> {
        let mut others = Clients::connect(&self.door, OTHERS, &read_of_one_row()).await?;
        // Memory that a proxy takes at its first bulk transfer, and keeps, is for nobody's sake.
        Client::log_in(&self.door).await?.query(&self.sql).await?;
        let mut found = Found {
            held: Held::default(),
            alone: Latencies::new()?,
            beside: Latencies::new()?,
        };
        for pair in 0..pairs {
            let plan = Plan {
                seed: plan.seed + u64::from(pair) * 1_000,
                ..plan
            };
            let outcome = others.open_loop(plan).await?;
            found.alone.add(&outcome.latencies)?;
            let (reader, held) = self.fall_asleep().await?;
            found.held = found.held.largest(held);
            let outcome = others.open_loop(plan).await?;
            found.beside.add(&outcome.latencies)?;
            drop(reader);
        }
        Ok(found)
    }

    /// A reader that has asked for everything, and what is kept for it once nothing moves.
    async fn fall_asleep(&self) -> Result<(Client, Held)> {
        let mut reader = Client::log_in(&self.door).await?;
        reader.query("select 1").await?;
        let port = reader.wire().local_port()?;
        let before = sockets()?;
        let memory = user_bytes(&self.route.pids)?;
        reader.ask(&self.sql).await?;
        let mut last = Held::default();
        let mut since = Instant::now();
        wait_until(
            "the slow reader's bytes come to rest",
            ANSWER_TIMEOUT,
            || {
                let mut held = self.held(port, &before)?;
                held.memory = user_bytes(&self.route.pids)?.saturating_sub(memory);
                if held.differs(last) {
                    (last, since) = (held, Instant::now());
                }
                Ok(since.elapsed() > SETTLED_FOR)
            },
        )
        .await?;
        Ok((reader, last))
    }

    /// What is kept for the client with this port, by what has gone through the proxy's two
    /// sockets since `before`.
    fn held(&self, port: u16, before: &[Socket]) -> Result<Held> {
        let now = sockets()?;
        let of_route = |it: &&Socket| it.local_port == self.route.port && it.peer_port == port;
        let client = now.iter().find(of_route).context("the client's leg")?;
        // No other backend waits to be read.
        let to_backend = now.iter().filter(|it| it.peer_port == self.backend_port);
        let backend = to_backend.max_by_key(|it| it.unread_bytes);
        let backend = backend.context("the backend's leg")?;
        let same =
            |it: &&Socket| (it.local_port, it.peer_port) == (backend.local_port, backend.peer_port);
        let backend_before = before.iter().find(same).copied().unwrap_or_default();
        let client_before = before.iter().find(of_route).copied().unwrap_or_default();
        let read = backend.read_bytes() - backend_before.read_bytes();
        let written = client.written_bytes() - client_before.written_bytes();
        Ok(Held {
            in_process: read.saturating_sub(written),
            memory: 0,
            in_kernel: backend.unread_bytes + client.unacked_bytes,
        })
    }
}

impl Held {
    fn differs(self, other: Self) -> bool {
        let moved = |now: u64, before: u64| now.abs_diff(before) > SETTLED_BYTES;
        moved(self.in_process, other.in_process)
            || moved(self.memory, other.memory)
            || moved(self.in_kernel, other.in_kernel)
    }

    fn largest(self, other: Self) -> Self {
        Self {
            in_process: self.in_process.max(other.in_process),
            memory: self.memory.max(other.memory),
            in_kernel: self.in_kernel.max(other.in_kernel),
        }
    }
}
