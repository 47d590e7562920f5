//! The splice: bytes between a client and a backend, on one io_uring a core.
//!
//! A session is handed over when its login is done, by [`RingHandle::splice`]. From then on one
//! worker owns both sockets, passes bytes between them, and closes them. It knows no directory,
//! no PostgreSQL message and no other thread.
//!
//! - `ring` starts the workers, `mailbox` is the way into one, `worker` is its loop.
//! - `session` is the life of one session, `leg` one socket of it with its two directions,
//!   `tls` what rustls does between them.
//! - `driver` is what a worker needs from the world; `uring` is the kernel's ring, with `buffers`,
//!   `start`, `socket`, `event` and `affinity`. Only those have `unsafe`. `sends` keeps what is
//!   being sent.
//!
//! `names` is not of the splice: it is here because it needs `unsafe`, too.
//!
//! Kernel 6.1 is the floor (`IORING_SETUP_DEFER_TASKRUN`).

use std::os::fd::OwnedFd;

mod affinity;
mod buffers;
mod chunks;
mod counters;
mod driver;
mod event;
mod leg;
pub mod limits;
mod mailbox;
mod names;
mod ring;
mod sends;
mod session;
#[cfg(test)]
mod sim;
mod socket;
mod start;
mod tls;
mod token;
mod uring;
mod worker;

pub use crate::counters::Stats;
pub use crate::names::look_up_by_files_and_dns;
pub use crate::ring::{Ring, RingHandle};
pub use crate::start::StartError;
pub use crate::token::Side;

/// How many workers there are, and what each of them may use.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// Threads, each with a ring of its own.
    pub workers: usize,
    /// Whether each worker is pinned to a CPU.
    pub pin: bool,
    /// Sessions a worker may have at once.
    pub sessions_max: usize,
    /// Receive buffers a worker, a power of two.
    pub buffers: u16,
    /// The size of a receive buffer, in bytes.
    pub buffer_bytes: u32,
    /// `TCP_USER_TIMEOUT` of both legs, in milliseconds; 0 leaves it to the system.
    pub user_timeout_ms: u32,
}

impl RingConfig {
    /// That many pinned workers with the limits of [`limits`].
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            pin: true,
            sessions_max: limits::SESSIONS_DEFAULT,
            buffers: limits::BUFFERS_DEFAULT,
            buffer_bytes: limits::BUFFER_BYTES,
            user_timeout_ms: limits::USER_TIMEOUT_MS,
        }
    }
}

/// One leg of a session: a connected stream socket without any operation in flight on it.
#[derive(Debug)]
pub enum Leg {
    /// Bytes as they are.
    Plain(OwnedFd),
    /// Bytes inside TLS whose handshake is complete; what rustls has already read goes along.
    Tls(OwnedFd, Box<rustls::Connection>),
}

/// A session at the end of its login.
pub struct Session {
    /// Its name, unlike that of any other live session.
    pub id: u64,
    /// The leg to the person's program.
    pub client: Leg,
    /// The leg to PostgreSQL.
    pub backend: Leg,
    /// Application bytes for the client that come before all others.
    pub to_client: Vec<u8>,
    /// Application bytes for the backend that come before all others.
    pub to_backend: Vec<u8>,
    /// Called exactly once, on the worker's thread, after both sockets are closed.
    /// It must be quick, and a panic in it ends the process.
    pub on_close: Box<dyn FnOnce(Closed) + Send>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// The name that it was handed over with.
    pub id: u64,
    /// Why it ended.
    pub reason: CloseReason,
    /// Application bytes for the client that were received or handed over.
    /// When the session did not end in order, the last of them may not have arrived.
    pub bytes_to_client: u64,
    /// The same for the backend.
    pub bytes_to_backend: u64,
}

/// What has flowed through a live session so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The name that it was handed over with.
    pub id: u64,
    /// Application bytes for the client that were received or handed over.
    pub bytes_to_client: u64,
    /// The same for the backend.
    pub bytes_to_backend: u64,
}

/// Why a session ended: the first thing that happened counts.
#[derive(Clone, Debug, PartialEq)]
pub enum CloseReason {
    /// The client ended its stream in order.
    ClientClosed,
    /// The backend ended its stream in order.
    BackendClosed,
    /// The client's connection was reset.
    ClientReset,
    /// The backend's connection was reset.
    BackendReset,
    /// By our own order: [`RingHandle::end`] or the stop of the ring.
    Ended,
    /// The peer of this leg broke the TLS protocol, or its keys were used up.
    TlsError(Side, rustls::Error),
    /// The peer of this leg was dead: keepalive or `TCP_USER_TIMEOUT`.
    TimedOut(Side),
    /// An operation on this leg failed otherwise, with this error number.
    Failed(Side, i32),
}

impl CloseReason {
    /// Why a session ends when an operation on this leg fails so.
    pub(crate) fn of(side: Side, errno: driver::Errno) -> Self {
        match (errno.0, side) {
            (libc::ECONNRESET | libc::EPIPE, Side::Client) => Self::ClientReset,
            (libc::ECONNRESET | libc::EPIPE, Side::Backend) => Self::BackendReset,
            (libc::ETIMEDOUT, side) => Self::TimedOut(side),
            (errno, side) => Self::Failed(side, errno),
        }
    }
}
