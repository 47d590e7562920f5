//! The worker against a simulated ring: short reads and writes, completions in any order, empty
//! pools, slow, dying and resetting peers, half close, ordered ends, a stop at any moment.
//!
//! A run is a seed. One that fails prints its seed; `POSTERN_SIM_SEED=n` repeats it, and
//! `POSTERN_SIM_RUNS=n` makes that many.
#![expect(clippy::expect_used, reason = "a test that cannot go on panics")]

mod driver;
mod peer;
mod random;
mod script;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::driver::World;
use self::random::Random;
use self::script::{Script, Scripted};
use self::wire::Wire;
use crate::counters::{Counters, Stats};
use crate::driver::Closing;
use crate::worker::Worker;
use crate::{CloseReason, Closed};

/// Runs of the normal test: some seconds unoptimised.
const RUNS: u64 = 300;

/// What a run has shown, to see that the runs together show everything.
#[derive(Debug, Default)]
struct Seen {
    stats: Stats,
    reasons: std::collections::HashSet<&'static str>,
    whole: usize,
}

/// One run: a worker, its sessions and the checks after the last of them.
fn run(seed: u64, seen: &mut Seen) {
    let mut random = Random::new(seed);
    let script = Script::new(&mut random);
    let mailbox = Arc::clone(&script.mailbox);
    let counters = Arc::new(Counters::default());
    let world = World::new(random, script);
    let world = Worker::new(world, mailbox, Arc::clone(&counters), 8).run();
    world.check_nothing_is_left();
    let closed = world.script.closed.lock().expect("nobody panicked with it");
    assert_eq!(
        closed.len(),
        world.script.sessions.len(),
        "each session is closed once"
    );
    for session in &world.script.sessions {
        let mut ends = closed.iter().filter(|end| end.id == session.id);
        let end = ends.next().expect("each session is closed");
        assert_eq!(ends.next(), None, "a session is closed once");
        let (Some(client), Some(backend)) = (
            world.wires.get(session.client),
            world.wires.get(session.backend),
        ) else {
            unreachable!("each session has its sockets")
        };
        let to_client = [&session.to_client[..], &backend.peer.plan.outgoing].concat();
        let to_backend = [&session.to_backend[..], &client.peer.plan.outgoing].concat();
        check_bytes(session, (client, &to_client), (backend, &to_backend));
        assert!(end.bytes_to_client <= to_client.len() as u64);
        assert!(end.bytes_to_backend <= to_backend.len() as u64);
        let undisturbed = !session.end_ordered && !world.script.stopped_early();
        if undisturbed {
            let whole = client.peer.plan.is_whole() && backend.peer.plan.is_whole();
            seen.whole += usize::from(whole);
            check_undisturbed(
                end,
                (session, whole),
                (client, &to_client),
                (backend, &to_backend),
            );
        }
        if session.end_ordered && end.reason == CloseReason::Ended {
            let heard = client.peer.got.ends_with(&session.goodbye());
            let listens = client.peer.plan.is_whole() && 1_000 < client.peer.plan.pace;
            assert!(heard || !listens, "the goodbye is missing");
            assert!(!listens || client.closed == Some(Closing::Graceful));
        }
        seen.reasons.insert(match end.reason {
            CloseReason::ClientClosed => "client closed",
            CloseReason::BackendClosed => "backend closed",
            CloseReason::ClientReset => "client reset",
            CloseReason::BackendReset => "backend reset",
            CloseReason::Ended => "ended",
            CloseReason::TimedOut(_) => "timed out",
            CloseReason::TlsError(..) => "TLS",
            CloseReason::Failed(..) => "failed",
        });
    }
    seen.stats.add(&counters);
}

/// What holds for a session that nobody but its peers has ended: where both stay to the end,
/// everything arrives.
fn check_undisturbed(
    end: &Closed,
    (session, whole): (&Scripted, bool),
    (client, to_client): (&Wire, &[u8]),
    (backend, to_backend): (&Wire, &[u8]),
) {
    if whole {
        let got = (&client.peer.got[..], &backend.peer.got[..]);
        assert!(got == (to_client, to_backend), "bytes are missing");
        let counted = (end.bytes_to_client, end.bytes_to_backend);
        assert_eq!(counted, (to_client.len() as u64, to_backend.len() as u64));
        let reason = &end.reason;
        assert!(matches!(
            reason,
            CloseReason::ClientClosed | CloseReason::BackendClosed
        ));
        let graceful = Some(Closing::Graceful);
        assert_eq!((client.closed, backend.closed), (graceful, graceful));
    }
    if client.peer.is_tls() || backend.peer.is_tls() {
        return;
    }
    // Also what a peer sent before it broke off goes on, unless the other one broke too.
    let ahead = (session.to_client.len(), session.to_backend.len());
    for (from, to, ahead) in [(backend, client, ahead.0), (client, backend, ahead.1)] {
        let alive = to.peer.plan.is_whole();
        assert!(
            !alive || to.sent == from.received + ahead,
            "bytes were thrown away"
        );
    }
}

/// Whatever a peer has got is a beginning of what the other one sent; a client whose session was
/// ended may have got the goodbye after it.
fn check_bytes(
    session: &Scripted,
    (client, to_client): (&Wire, &[u8]),
    (backend, to_backend): (&Wire, &[u8]),
) {
    assert!(
        to_backend.starts_with(&backend.peer.got),
        "the backend got other bytes"
    );
    let got = &client.peer.got[..];
    if to_client.starts_with(got) {
        return;
    }
    let same = got
        .iter()
        .zip(to_client)
        .take_while(|(one, other)| one == other)
        .count();
    let (_, rest) = got.split_at(same);
    if !rest.is_empty() {
        assert!(session.end_ordered, "the client got other bytes");
        // The goodbye may begin with bytes that the stream would have gone on with.
        let goodbye = session.goodbye();
        let found = (0..=goodbye.len()).any(|cut| {
            goodbye[..cut].ends_with(rest) || {
                got.ends_with(&goodbye[..cut]) && to_client.starts_with(&got[..got.len() - cut])
            }
        });
        assert!(found, "the client got something that is no goodbye");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn sessions_survive_every_ring_that_a_seed_can_make() {
    let mut seen = Seen::default();
    if let Some(seed) = number("POSTERN_SIM_SEED") {
        return run(seed, &mut seen);
    }
    for seed in 0..number("POSTERN_SIM_RUNS").unwrap_or(RUNS) {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, &mut seen)));
        assert!(
            outcome.is_ok(),
            "seed {seed} fails; repeat it with POSTERN_SIM_SEED={seed}"
        );
    }
    println!("{seen:?}");
    assert!(
        seen.reasons.len() >= 6 && seen.whole > 50,
        "the seeds are too tame: {seen:?}"
    );
    let stats = seen.stats;
    assert!(
        stats.pauses > 20 && stats.buffers_missed > 20 && stats.tls_cut > 5,
        "{stats:?}"
    );
}
