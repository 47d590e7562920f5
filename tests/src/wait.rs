//! Waiting for conditions instead of sleeping, and ports that nobody uses.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two looks at a condition: short against what a server needs to start, long against
/// what a look costs.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Set when nothing is worth waiting for any more.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every [`wait_until`] of this process with an error, those under way included.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Looks at a condition until it holds.
///
/// # Errors
/// When it does not hold within `limit`, or [`interrupt`] is called; the message names `what`. An
/// error of the condition itself ends the wait at once.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    wait_regardless(what, limit, || {
        if is_interrupted() {
            bail!("interrupted");
        }
        condition()
    })
}

/// As [`wait_until`], but not ended by [`interrupt`]: for cleaning up.
///
/// # Errors
/// As [`wait_until`].
pub(crate) fn wait_regardless(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        if condition().with_context(|| format!("while waiting until {what}"))? {
            return Ok(());
        }
        if start.elapsed() > limit {
            bail!("not within {} ms: {what}", limit.as_millis());
        }
        // The only place in the tests that sleeps; everything else waits for a condition here.
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Ports are handed out from below the range from which Linux takes those of outgoing
/// connections (`ip_local_port_range` starts at 32,768), so none is taken in between.
const PORT_FIRST: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A TCP port that is free on 127.0.0.1 and that this process has not handed out before.
///
/// # Errors
/// When every port of the range is taken.
pub fn free_port() -> Result<u16> {
    static HANDED_OUT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at once start at different places.
    let spread = u16::try_from(std::process::id().wrapping_mul(251) % u32::from(PORTS))?;
    for _ in 0..PORTS {
        let count = HANDED_OUT.fetch_add(1, Ordering::Relaxed);
        let port = PORT_FIRST + (spread.wrapping_add(count) % PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!(
        "no free port between {PORT_FIRST} and {}",
        PORT_FIRST + PORTS
    )
}

/// Whether something accepts connections on a port of an address.
#[must_use]
pub fn accepts(host: &str, port: u16) -> bool {
    TcpStream::connect((host, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_named_in_the_error() -> Result<()> {
        let waited = wait_until("pigs fly", Duration::ZERO, || Ok(false));
        let error = waited.err().context("it held")?;
        assert!(error.to_string().contains("pigs fly"), "{error}");
        Ok(())
    }

    #[test]
    fn two_ports_are_never_the_same() -> Result<()> {
        assert_ne!(free_port()?, free_port()?);
        Ok(())
    }
}
