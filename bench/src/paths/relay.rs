//! A relay as small as one can be: one direction, one connection, one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::setsockopt;
use nix::sys::time::TimeSpec;
use nix::unistd::pipe2;
use nix::{setsockopt_impl, sockopt_impl};

use super::clock::thread_cpu_ns;
use super::network::STALL_LIMIT;

/// What a relay did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// CPU time of its thread, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// System calls.
    pub(super) calls: u64,
    /// Receives that brought bytes.
    pub(super) receives: u64,
}

/// Bytes that came without a pause after which a connection counts as one that streams.
const STREAM_BYTES: usize = 256 * 1024;

/// How long a stream may bring less than its low mark before what is there is passed on, in
/// nanoseconds.
const LOW_MARK_LIMIT_NS: i64 = 200_000;

sockopt_impl!(
    /// The bytes without which a socket does not count as readable (`SO_RCVLOWAT`).
    ReceiveLowMark,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32
);

/// Passes all bytes on by `recv` and `send`.
///
/// # Errors
/// If a connection breaks or stalls.
pub(super) fn copy(
    (from, to): (TcpStream, TcpStream),
    buffer_bytes: usize,
    low_mark_bytes: usize,
) -> Result<Work> {
    let mut buffer = vec![0; buffer_bytes];
    let mut waiter = Waiter::new(&from, &to, low_mark_bytes)?;
    loop {
        waiter.readable()?;
        waiter.calls += 1;
        let len = match (&from).read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                waiter.was_empty();
                continue;
            }
            Err(error) => return Err(error).context("the relay's recv"),
        };
        waiter.received(len, buffer_bytes)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        while !rest.is_empty() {
            waiter.calls += 1;
            match (&to).write(rest) {
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => waiter.writable()?,
                Err(error) => return Err(error).context("the relay's send"),
            }
        }
    }
    waiter.finish()
}

/// Passes all bytes on by `splice(2)`.
///
/// # Errors
/// If a connection breaks or stalls, or a pipe cannot be so large.
pub(super) fn splice_all(
    (from, to): (TcpStream, TcpStream),
    pipe_bytes: usize,
    low_mark_bytes: usize,
) -> Result<Work> {
    let pipe = pipe(pipe_bytes)?;
    let mut waiter = Waiter::new(&from, &to, low_mark_bytes)?;
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        waiter.readable()?;
        waiter.calls += 1;
        // The pipe is empty, so EAGAIN is the socket's.
        let len = match splice(&from, None, &pipe.1, None, pipe_bytes, flags) {
            Ok(0) => break,
            Ok(len) => len,
            Err(Errno::EAGAIN) => {
                waiter.was_empty();
                continue;
            }
            Err(error) => return Err(error).context("splice from the backend"),
        };
        waiter.received(len, pipe_bytes)?;
        let mut rest = len;
        while rest > 0 {
            waiter.calls += 1;
            match splice(&pipe.0, None, &to, None, rest, flags) {
                Ok(0) => bail!("the pipe has lost {rest} bytes"),
                Ok(taken) => rest = rest.saturating_sub(taken),
                Err(Errno::EAGAIN) => waiter.writable()?,
                Err(error) => return Err(error).context("splice to the client"),
            }
        }
    }
    waiter.finish()
}

fn pipe(bytes: usize) -> Result<(OwnedFd, OwnedFd)> {
    let pipe = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    let granted = fcntl(&pipe.0, FcntlArg::F_SETPIPE_SZ(i32::try_from(bytes)?))
        .with_context(|| format!("a pipe of {bytes} bytes"))?;
    if usize::try_from(granted)? != bytes {
        bail!("asked for a pipe of {bytes} bytes, got one of {granted}");
    }
    Ok(pipe)
}

/// Waits for the two sockets, and knows whether bytes stream.
struct Waiter<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    low_mark_bytes: usize,
    /// Whether the low mark is set.
    streams: bool,
    /// Bytes since the last pause.
    streamed_bytes: usize,
    /// Whether the socket may have more than the last receive took.
    may_have_more: bool,
    begun_ns: u64,
    calls: u64,
    receives: u64,
}

impl<'a> Waiter<'a> {
    fn new(from: &'a TcpStream, to: &'a TcpStream, low_mark_bytes: usize) -> Result<Self> {
        from.set_nonblocking(true)?;
        to.set_nonblocking(true)?;
        Ok(Self {
            from,
            to,
            low_mark_bytes,
            streams: false,
            streamed_bytes: 0,
            may_have_more: true,
            begun_ns: thread_cpu_ns()?,
            calls: 0,
            receives: 0,
        })
    }

    /// Waits until there is something to receive, or may be.
    fn readable(&mut self) -> Result<()> {
        if self.may_have_more && !self.streams {
            return Ok(());
        }
        if self.streams {
            let limit = TimeSpec::new(0, LOW_MARK_LIMIT_NS);
            if self.wait(self.from.as_fd(), PollFlags::POLLIN, limit)? {
                return Ok(());
            }
            // The end of a burst, or a slow sender: whoever waits for the rest gets it now.
            self.set_low_mark(1)?;
            self.streams = false;
            self.streamed_bytes = 0;
            self.may_have_more = true;
            return Ok(());
        }
        self.wait_long(self.from.as_fd(), PollFlags::POLLIN)
    }

    fn writable(&mut self) -> Result<()> {
        self.wait_long(self.to.as_fd(), PollFlags::POLLOUT)
    }

    fn was_empty(&mut self) {
        self.may_have_more = false;
    }

    fn received(&mut self, len: usize, asked: usize) -> Result<()> {
        self.receives += 1;
        self.may_have_more = len == asked;
        self.streamed_bytes = self.streamed_bytes.saturating_add(len);
        if self.low_mark_bytes > 1 && !self.streams && self.streamed_bytes >= STREAM_BYTES {
            self.streams = true;
            self.set_low_mark(self.low_mark_bytes)?;
        }
        Ok(())
    }

    fn set_low_mark(&mut self, bytes: usize) -> Result<()> {
        self.calls += 1;
        setsockopt(self.from, ReceiveLowMark, &i32::try_from(bytes)?)?;
        Ok(())
    }

    fn wait_long(&mut self, socket: BorrowedFd<'_>, events: PollFlags) -> Result<()> {
        if !self.wait(socket, events, TimeSpec::from_duration(STALL_LIMIT))? {
            bail!("nothing moved for {} s", STALL_LIMIT.as_secs());
        }
        Ok(())
    }

    fn wait(&mut self, socket: BorrowedFd<'_>, events: PollFlags, limit: TimeSpec) -> Result<bool> {
        self.calls += 1;
        let mut sockets = [PollFd::new(socket, events)];
        Ok(ppoll(&mut sockets, Some(limit), None)? > 0)
    }

    fn finish(self) -> Result<Work> {
        self.to.shutdown(Shutdown::Write)?;
        Ok(Work {
            cpu_ns: thread_cpu_ns()? - self.begun_ns,
            calls: self.calls,
            receives: self.receives,
        })
    }
}
