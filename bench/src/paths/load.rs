//! The two ends: a backend that writes as fast as it can, and a client that checks every byte.

use std::hint::black_box;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::clock::thread_cpu_ns;
use super::network::STALL_LIMIT;

/// What the backend writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Bytes in one go.
    pub(super) burst_bytes: u64,
    /// How often; a burst begins when the client has all of the one before.
    pub(super) bursts: u32,
    /// Bytes a write; PostgreSQL writes 8 KiB.
    pub(super) write_bytes: usize,
    /// Steps of work before each write; PostgreSQL makes rows, which costs more than to send them.
    pub(super) work_steps: u64,
    /// Silence between two bursts.
    pub(super) pause: Duration,
}

/// libpq reads that much at a time.
const READ_BYTES: usize = 16 * 1024;

/// The bytes repeat after a prime number of them: whatever is lost, doubled or out of order
/// leaves the rest out of step, unless it is a multiple of this.
const PERIOD_BYTES: usize = 65_521;

/// The bytes of every stream, with as many again after them as one write or read may have.
#[derive(Debug)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    /// One for writes of at most that many bytes.
    pub(super) fn new(write_bytes: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let period: Vec<u8> = (0..PERIOD_BYTES)
            .map(|_| {
                // Nothing depends on how random it is.
                state = xorshift(state);
                state.to_le_bytes()[0]
            })
            .collect();
        let more = write_bytes.max(READ_BYTES);
        let bytes = period.iter().cycle().take(PERIOD_BYTES + more);
        Self(bytes.copied().collect())
    }

    /// The bytes that come at that place of the stream; `None` when `len` is beyond the limit.
    fn at(&self, place: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(place % PERIOD_BYTES as u64).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }
}

/// How many steps of work take a microsecond of CPU time here.
///
/// # Errors
/// If the system does not say how much was used.
pub(super) fn steps_per_us() -> Result<u64> {
    const STEPS: u64 = 50_000_000;
    let before = thread_cpu_ns()?;
    work(STEPS);
    Ok(STEPS * 1_000 / (thread_cpu_ns()? - before).max(1))
}

/// Counted in steps and not in time, so that it is the same in every measurement.
fn work(steps: u64) {
    let mut state = steps | 1;
    for _ in 0..steps {
        state = black_box(xorshift(state));
    }
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

/// What the backend found.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// How long each burst took, from its first write to the last byte at the client.
    pub(super) bursts: Vec<Duration>,
    /// CPU time of the work before the writes, in nanoseconds.
    pub(super) work_cpu_ns: u64,
}

/// Writes all bursts and ends the stream; `arrived` has the time at which the client had each.
///
/// # Errors
/// If the connection breaks or the client does not get on.
pub(super) fn write(
    mut socket: TcpStream,
    load: Load,
    pattern: &Pattern,
    arrived: &Receiver<Instant>,
) -> Result<Written> {
    let mut written = Written::default();
    let mut place = 0;
    for burst in 1..=u64::from(load.bursts) {
        if burst > 1 {
            thread::sleep(load.pause);
        }
        let start = Instant::now();
        let end = burst * load.burst_bytes;
        while place < end {
            let rest = usize::try_from(end - place).unwrap_or(usize::MAX);
            let len = load.write_bytes.min(rest);
            if load.work_steps > 0 {
                let before = thread_cpu_ns()?;
                work(load.work_steps);
                written.work_cpu_ns += thread_cpu_ns()? - before;
            }
            let bytes = pattern.at(place, len).context("a write is too long")?;
            socket.write_all(bytes).context("the backend's write")?;
            place += len as u64;
        }
        if burst == u64::from(load.bursts) {
            socket.shutdown(Shutdown::Write)?;
        }
        let end = arrived
            .recv_timeout(STALL_LIMIT)
            .context("a burst was lost")?;
        written.bursts.push(end - start);
    }
    Ok(written)
}

/// Reads and checks all bursts up to the end of the stream, and says when each was complete.
///
/// # Errors
/// If a byte is wrong, missing or too many.
pub(super) fn read(
    mut socket: TcpStream,
    load: Load,
    pattern: &Pattern,
    arrived: &Sender<Instant>,
) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let total = load.burst_bytes * u64::from(load.bursts);
    let mut place = 0;
    loop {
        let len = match socket.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("the client's read"),
        };
        if buffer.get(..len) != pattern.at(place, len) {
            bail!("the bytes after byte {place} are not those that were written");
        }
        place += len as u64;
        if place % load.burst_bytes == 0 {
            arrived
                .send(Instant::now())
                .context("the backend has gone")?;
        }
    }
    if place != total {
        bail!("{place} bytes arrived of {total}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_one_stream_wherever_it_is_cut() {
        let pattern = Pattern::new(8);
        let at = |place| pattern.at(place, READ_BYTES).map(<[u8]>::to_vec);
        let (first, later) = (at(0), at(PERIOD_BYTES as u64));
        assert!(first.is_some());
        assert_eq!(first, later);
        assert_ne!(first, at(1));
        let (end, begin) = (pattern.0[PERIOD_BYTES - 1], pattern.0[0]);
        let across = pattern.at(PERIOD_BYTES as u64 - 1, 2);
        assert_eq!(across, Some([end, begin].as_slice()));
        assert_eq!(pattern.at(0, usize::MAX), None);
    }
}
