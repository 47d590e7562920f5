//! Postern's own ring as the relay.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;

use anyhow::{Context, Result, anyhow, bail};
use postern_ring::{CloseReason, Leg, Ring, RingConfig, Session};

use super::clock::thread_cpu_ns;
use super::network::STALL_LIMIT;
use super::relay::Work;
use super::way::Way;

/// The rings of all ways that use one. They live as long as the bench, because the first bytes in
/// a buffer cost a page fault each 4 KiB, which a program that runs for days does not notice.
#[derive(Debug)]
pub(super) struct Relays(Vec<(Way, Relay)>);

impl Relays {
    /// Starts the rings of those ways that use one.
    ///
    /// # Errors
    /// If io_uring cannot be used here.
    pub(super) fn start(ways: &[Way]) -> Result<Self> {
        let mut relays = Vec::new();
        for &way in ways {
            if let Way::Ring {
                buffer_bytes,
                buffers,
            } = way
            {
                relays.push((way, Relay::start(buffer_bytes, buffers)?));
            }
        }
        Ok(Self(relays))
    }

    /// The ring of a way.
    pub(super) fn get(&self, way: Way) -> Option<&Relay> {
        self.0.iter().find(|it| it.0 == way).map(|it| &it.1)
    }
}

/// A ring of one pinned worker.
#[derive(Debug)]
pub(super) struct Relay {
    ring: Ring,
}

impl Relay {
    /// Starts it with that many receive buffers of that size.
    ///
    /// # Errors
    /// If io_uring cannot be used here.
    pub(super) fn start(buffer_bytes: u32, buffers: u16) -> Result<Self> {
        let ring = Ring::start(RingConfig {
            buffer_bytes,
            buffers,
            ..RingConfig::new(1)
        })?;
        Ok(Self { ring })
    }

    /// Passes all bytes on, until both ends have closed.
    ///
    /// # Errors
    /// If the session does not end in order.
    pub(super) fn pass(&self, (backend, client): (TcpStream, TcpStream)) -> Result<Work> {
        // A session that ends at once says how much the worker has used so far.
        let begun_ns = self.session(closed_pair()?)?;
        let before = self.ring.handle().stats();
        let ended_ns = self.session((backend.into(), client.into()))?;
        let after = self.ring.handle().stats();
        Ok(Work {
            cpu_ns: ended_ns - begun_ns,
            calls: after.batches - before.batches,
            receives: after.receives - before.receives,
        })
    }

    /// Has a session run to its end; returns the CPU time of the worker so far, in nanoseconds.
    fn session(&self, (backend, client): (OwnedFd, OwnedFd)) -> Result<u64> {
        let (report, ended) = channel();
        let session = Session {
            id: 0,
            client: Leg::Plain(client),
            backend: Leg::Plain(backend),
            to_client: Vec::new(),
            to_backend: Vec::new(),
            on_close: Box::new(move |closed| {
                // Nobody listens any more when the measurement has failed.
                let _ = report.send((closed.reason, thread_cpu_ns()));
            }),
        };
        let spliced = self.ring.handle().splice(session);
        spliced.map_err(|_| anyhow!("the ring refused a session"))?;
        let (reason, cpu_ns) = ended.recv_timeout(STALL_LIMIT).context("a session hangs")?;
        if !matches!(
            reason,
            CloseReason::BackendClosed | CloseReason::ClientClosed
        ) {
            bail!("a session ended by {reason:?}");
        }
        cpu_ns
    }
}

/// Two sockets whose other ends are closed.
fn closed_pair() -> Result<(OwnedFd, OwnedFd)> {
    let (one, _) = UnixStream::pair()?;
    let (other, _) = UnixStream::pair()?;
    Ok((one.into(), other.into()))
}
