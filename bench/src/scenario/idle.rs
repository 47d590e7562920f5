//! Thousands of sessions that do nothing.

use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit};
use tokio::task::JoinSet;

use super::direct_rate::LIMIT;
use super::{Extent, Point, Recorder, Scenario};
use crate::limits::{
    ANSWER_TIMEOUT, DESCRIPTORS_BESIDE_SESSIONS, IDLE_LOGINS_AT_ONCE, IDLE_QUERIES_BEFORE,
    IDLE_SESSIONS_BEFORE, SETTLED_BYTES, SETTLED_FOR,
};
use crate::load::client::Client;
use crate::load::door::{Door, Tickets, Wire};
use crate::load::stub::Stub;
use crate::load::{float, run, wait_until};
use crate::meter::{kernel_bytes, user_bytes};
use crate::route::{Encryption, Kind, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// How many there are. With a tenth of them the figures would be those of the memory allocator,
/// which takes megabytes at a time, and of tables that double.
const SESSIONS: u64 = 10_000;

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

    fn points(&self, _extent: Extent) -> Vec<Point> {
        let of = |encryption| Point {
            name: format!("{SESSIONS} sessions"),
            encryption,
            amount: SESSIONS,
        };
        vec![of(Encryption::Plain), of(Encryption::Tls)]
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
        if stage.extent() == Extent::Quick && route.kind == Kind::Peer {
            // Logging in so often takes a pooler half a minute.
            return Ok(());
        }
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
        recorder.figure(Metric::BaseBytes, with.base);
        recorder.figure(Metric::UserBytesPerSession, each(with.user));
        match (with.kernel, without.kernel) {
            (Ok(with_kernel), Ok(without)) => {
                let total = with.user + with_kernel - without;
                recorder.figure(Metric::TotalBytesPerSession, each(total));
            }
            (Err(why), _) | (_, Err(why)) => {
                recorder.gap(&format!("idle, the kernel's memory: {why:#}"));
            }
        }
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

/// How much memory sessions take, in bytes.
struct Memory {
    /// What the processes have with hardly any session.
    base: f64,
    /// How much more the processes have.
    user: f64,
    /// How much more the kernel has, where it says so.
    kernel: Result<f64>,
}

/// How much memory so many more sessions take, once they rest.
async fn collect(door: &Door, sessions: u32, pids: &[u32]) -> Result<Memory> {
    let mut first = log_in(door, IDLE_SESSIONS_BEFORE).await?;
    for client in &mut first {
        // Memory that a proxy takes when it first works, and keeps, is not an idle session's.
        for _ in 0..IDLE_QUERIES_BEFORE {
            client.query("select 1").await?;
        }
    }
    let mut held: Vec<Wire> = first.into_iter().map(Client::into_wire).collect();
    let base = at_rest(pids).await?;
    let kernel = kernel_bytes(pids);
    let more = log_in(door, sessions).await?;
    held.extend(more.into_iter().map(Client::into_wire));
    let user = at_rest(pids).await?;
    let kernel = kernel.and_then(|before| Ok(float(kernel_bytes(pids)?) - float(before)));
    drop(held);
    Ok(Memory {
        base: float(base),
        user: float(user) - float(base),
        kernel,
    })
}

/// Logs in so often, some at once.
async fn log_in(door: &Door, sessions: u32) -> Result<Vec<Client>> {
    let mut tasks = JoinSet::new();
    for part in 0..IDLE_LOGINS_AT_ONCE {
        let door = door.clone();
        let mine = (part..sessions).step_by(usize::try_from(IDLE_LOGINS_AT_ONCE)?);
        tasks.spawn_local(async move {
            let mut clients = Vec::new();
            for _ in mine {
                let mut client = Client::log_in(&door).await?;
                // A pooler connects to the server only now.
                client.query("select 1").await?;
                clients.push(client);
            }
            anyhow::Ok(clients)
        });
    }
    let mut all = Vec::new();
    while let Some(clients) = tasks.join_next().await {
        all.extend(clients.context("a login")??);
    }
    Ok(all)
}

/// The memory of processes, in bytes, once it does not change any more.
async fn at_rest(pids: &[u32]) -> Result<u64> {
    let mut last = (0, Instant::now());
    wait_until("the memory comes to rest", ANSWER_TIMEOUT, || {
        let now = user_bytes(pids)?;
        if now.abs_diff(last.0) > SETTLED_BYTES {
            last = (now, Instant::now());
        }
        Ok(last.1.elapsed() > SETTLED_FOR)
    })
    .await?;
    user_bytes(pids)
}
