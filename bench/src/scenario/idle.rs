//! Thousands of sessions that do nothing.

use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit};
use tokio::task::JoinSet;

use super::direct_rate::LIMIT;
use super::{Extent, Point, Recorder, Scenario};
use crate::limits::{
    ANSWER_TIMEOUT, DESCRIPTORS_BESIDE_SESSIONS, IDLE_LOGINS_AT_ONCE, IDLE_SESSIONS_BEFORE,
    SETTLED_BYTES, SETTLED_FOR,
};
use crate::load::client::Client;
use crate::load::door::{Door, Tickets, Wire};
use crate::load::stub::Stub;
use crate::load::{float, run, wait_until};
use crate::meter::{kernel_bytes, user_bytes};
use crate::route::{Encryption, Kind, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// What a session costs at rest, before a stand-in for PostgreSQL that can hold so many.
///
/// The kernel's part is what a session takes on the whole machine, less what it takes when the
/// same client is connected to the stand-in directly.
#[derive(Debug)]
pub(super) struct Idle;

impl Scenario for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn shows(&self) -> &'static str {
        "memory of a session that does nothing, in the proxy and in the kernel"
    }

    fn points(&self, extent: Extent) -> Vec<Point> {
        let amount = match extent {
            Extent::Quick => 1_000,
            Extent::Full => 10_000,
        };
        [Encryption::Plain, Encryption::Tls]
            .map(|encryption| Point {
                name: format!("{amount} sessions"),
                encryption,
                amount,
            })
            .to_vec()
    }

    fn rounds(&self, extent: Extent) -> usize {
        match extent {
            Extent::Quick => 1,
            Extent::Full => 3,
        }
    }

    fn measures(&self, route: &Route) -> bool {
        route.kind != Kind::Direct && !route.pids.is_empty()
    }

    fn run(
        &self,
        stage: &Stage,
        route: &Route,
        point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        let sessions = sessions_possible(point.amount, recorder)?;
        let stub = Stub::start(stage.scratch().path())?;
        let direct = stage.start_before(stage.route("direct")?, stub.port())?;
        let running = stage.start_before(route, stub.port())?;
        let direct = Door::new(direct.route(), Encryption::Plain, Tickets::Forgotten)?;
        let door = Door::new(running.route(), point.encryption, Tickets::Forgotten)?;

        let without = run(LIMIT, collect(&direct, sessions, &[]))?;
        let with = run(LIMIT * 3, collect(&door, sessions, &running.route().pids))?;
        running.check()?;
        let each = |bytes: f64| bytes / f64::from(sessions);
        recorder.figure(Metric::UserBytesPerSession, each(with.user));
        let total = with.user + with.kernel - without.kernel;
        recorder.figure(Metric::TotalBytesPerSession, each(total));
        Ok(())
    }
}

/// How many sessions of those wanted a proxy can hold here: each takes two descriptors.
fn sessions_possible(wanted: u64, recorder: &mut Recorder<'_>) -> Result<u32> {
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let possible = descriptors.saturating_sub(DESCRIPTORS_BESIDE_SESSIONS) / 2;
    if possible < wanted {
        recorder.gap(&format!(
            "idle: {possible} sessions and not {wanted}: a process may have {descriptors} file \
             descriptors here"
        ));
    }
    Ok(u32::try_from(possible.min(wanted))?)
}

/// How much memory there is, or how much more, in bytes.
struct Memory {
    user: f64,
    kernel: f64,
}

/// How much memory so many more sessions take, once they rest.
async fn collect(door: &Door, sessions: u32, pids: &[u32]) -> Result<Memory> {
    let mut held = log_in(door, IDLE_SESSIONS_BEFORE).await?;
    let before = at_rest(pids).await?;
    held.extend(log_in(door, sessions).await?);
    let after = at_rest(pids).await?;
    drop(held);
    Ok(Memory {
        user: after.user - before.user,
        kernel: after.kernel - before.kernel,
    })
}

/// Logs in so often, some at once. What is left is the bare connections.
async fn log_in(door: &Door, sessions: u32) -> Result<Vec<Wire>> {
    let mut tasks = JoinSet::new();
    for part in 0..IDLE_LOGINS_AT_ONCE {
        let door = door.clone();
        let mine = (part..sessions).step_by(usize::try_from(IDLE_LOGINS_AT_ONCE)?);
        tasks.spawn_local(async move {
            let mut wires = Vec::new();
            for _ in mine {
                let mut client = Client::log_in(&door).await?;
                // A pooler connects to the server only now.
                client.query("select 1").await?;
                wires.push(client.into_wire());
            }
            anyhow::Ok(wires)
        });
    }
    let mut all = Vec::new();
    while let Some(wires) = tasks.join_next().await {
        all.extend(wires.context("a login")??);
    }
    Ok(all)
}

/// The memory, once that of the processes does not change any more.
async fn at_rest(pids: &[u32]) -> Result<Memory> {
    let mut last = (0, Instant::now());
    wait_until("the memory comes to rest", ANSWER_TIMEOUT, || {
        let now = user_bytes(pids)?;
        if now.abs_diff(last.0) > SETTLED_BYTES {
            last = (now, Instant::now());
        }
        Ok(last.1.elapsed() > SETTLED_FOR)
    })
    .await?;
    Ok(Memory {
        user: float(user_bytes(pids)?),
        kernel: float(kernel_bytes(pids)?),
    })
}
