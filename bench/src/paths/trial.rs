//! One measurement: one load, one way, one network.

use std::sync::mpsc::channel;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::clock::Parties;
use super::load::{self, Load, Pattern};
use super::network::{Circuit, Network};
use super::relay::{self, Work};
use super::ring;
use super::way::Way;

/// Where the relay runs: the ring pins its first worker to the first CPU.
const RELAY_CPU: usize = 0;

/// Where both ends run. Left to the system, a wake-up costs twice as much in one measurement as in
/// the next, by whether it crosses from one CPU to another.
const ENDS_CPU: usize = 1;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial<'a> {
    pub(super) parties: &'a Parties,
    pub(super) rings: &'a ring::Relays,
    pub(super) network: &'a Network,
    pub(super) way: Way,
    pub(super) load: Load,
    /// What is asked for as the size of the relay's socket buffers; nothing leaves them to the
    /// system.
    pub(super) socket_bytes: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// CPU time of all three parties, in nanoseconds, without the work before the writes.
    pub(super) cpu_ns: u64,
    /// What the relay did, where there is one.
    pub(super) relay: Option<Work>,
    /// How long each burst took, from its first write to the last byte at the client.
    pub(super) bursts: Vec<Duration>,
}

/// Measures once.
///
/// # Errors
/// If a connection cannot be made or breaks, or a byte does not arrive as it was written.
pub(super) fn run(trial: Trial<'_>) -> Result<Outcome> {
    let Trial { way, load, .. } = trial;
    let relayed = way != Way::Direct;
    let circuit = trial.network.circuit(relayed, trial.socket_bytes)?;
    let Circuit {
        backend,
        relay,
        client,
    } = circuit;
    let pattern = Pattern::new(load.write_bytes);
    let (arrive, arrived) = channel();
    let before = trial.parties.cpu_ns()?;
    let (written, read, passed) = thread::scope(|scope| {
        let pattern = &pattern;
        let writer = scope.spawn(move || {
            pin(ENDS_CPU)?;
            load::write(backend, load, pattern, &arrived)
        });
        let reader = scope.spawn(move || {
            pin(if relayed { ENDS_CPU } else { RELAY_CPU })?;
            load::read(client, load, pattern, &arrive)
        });
        let relay = relay.map(|legs| {
            let ring = trial.rings.get(way);
            scope.spawn(move || pass(way, ring, legs))
        });
        let passed = relay.map(join).transpose();
        (join(writer), join(reader), passed)
    });
    let cpu_ns = trial.parties.cpu_ns()? - before;
    // What the client found wrong says more than the errors that follow from it.
    read?;
    let relay = passed?;
    let written = written?;
    Ok(Outcome {
        cpu_ns: cpu_ns.saturating_sub(written.work_cpu_ns),
        relay,
        bursts: written.bursts,
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let outcome = thread.join();
    outcome.map_err(|_| anyhow!("a party of the measurement panicked"))?
}

fn pass(
    way: Way,
    ring: Option<&ring::Relay>,
    legs: (std::net::TcpStream, std::net::TcpStream),
) -> Result<Work> {
    match way {
        Way::Direct => Ok(Work::default()),
        Way::Copy {
            buffer_bytes,
            low_mark_bytes,
        } => {
            pin(RELAY_CPU)?;
            relay::copy(legs, buffer_bytes, low_mark_bytes)
        }
        Way::Splice {
            pipe_bytes,
            low_mark_bytes,
        } => {
            pin(RELAY_CPU)?;
            relay::splice_all(legs, pipe_bytes, low_mark_bytes)
        }
        Way::Ring { .. } => ring.context("the ring was not started")?.pass(legs),
    }
}

/// Pins the calling thread to one of the CPUs that we may use, counted from 0.
fn pin(index: usize) -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let allowed = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let allowed: Vec<usize> = allowed.collect();
    let cpu = allowed
        .get(index % allowed.len().max(1))
        .context("we may use no CPU")?;
    let mut set = CpuSet::new();
    set.set(*cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::way;

    #[test]
    fn every_way_passes_every_byte_of_every_burst() -> Result<()> {
        let ways = way::all();
        let (parties, rings) = (Parties::new()?, ring::Relays::start(&ways)?);
        let network = Network::loopback();
        for way in ways {
            // Longer than what makes a relay set its low mark, and with an end below it.
            let load = Load {
                burst_bytes: 700_001,
                bursts: 3,
                write_bytes: 8 * 1024,
                work_steps: 0,
                pause: Duration::ZERO,
            };
            let trial = Trial {
                parties: &parties,
                rings: &rings,
                network: &network,
                way,
                load,
                socket_bytes: None,
            };
            let outcome = run(trial).with_context(|| way.to_string())?;
            assert_eq!(outcome.bursts.len(), 3, "{way}");
            assert_eq!(outcome.relay.is_some(), way != Way::Direct, "{way}");
        }
        Ok(())
    }
}
