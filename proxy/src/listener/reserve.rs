//! What is left when the process has no file descriptor for another connection: one that is kept
//! back, with which clients are told so, one after the other.
//!
//! A connection that nobody accepts would wait in the kernel until its client gives up; and an
//! accept that fails for want of a descriptor leaves the listener ready, so that trying again at
//! once would be a busy loop.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::task::Poll;

use nix::errno::Errno;
use tokio::net::TcpListener;

use crate::error::{Full, LoginError};
use crate::gate::Gate;
use crate::limits::LAST_WORD_READ_BYTES;
use crate::report::report;

/// The descriptor that is kept back; none while others have it.
pub(super) struct Reserve(Option<File>);

impl Reserve {
    /// Takes one.
    pub(super) fn take() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Tells the client that has waited longest that there are too many, and closes.
    ///
    /// False when the descriptor was taken by something else meanwhile: then accepting has to wait.
    pub(super) async fn turn_away(&mut self, gate: &Gate, listener: &TcpListener) -> bool {
        self.0 = None;
        // With a descriptor this either has a connection, or finds that there is none, and then
        // the listener is not ready any more.
        let accepted = poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await;
        if let Poll::Ready(Ok((socket, _))) = accepted {
            match socket.into_std() {
                Ok(socket) => last_word(gate, &socket),
                Err(error) => tracing::debug!(%error, "a client could not be turned away"),
            }
            *self = Self::take();
            return self.0.is_some();
        }
        *self = Self::take();
        self.0.is_some() && accepted.is_pending()
    }
}

/// Whether something failed because there are no file descriptors left, in the process or in the
/// system.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Tells a client in the clear that there are too many, without waiting for it.
///
/// There is no record of it: it has said nothing, and nothing of it is kept.
pub(super) fn last_word(gate: &Gate, mut socket: &TcpStream) {
    let told = report(&LoginError::Full(Full::Descriptors), None);
    gate.counts.refused.count(told.reason);
    tracing::warn!(reason = told.detail, "a connection was refused");
    let Some(message) = told.message else { return };
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    // A new socket has room for it. What the client has said by now is read, because closing with
    // unread input is a reset, which may overtake the message. If any of this fails, the client
    // has gone.
    drop(socket.write_all(&message));
    drop(socket.shutdown(Shutdown::Write));
    drop(socket.read(&mut [0; LAST_WORD_READ_BYTES]));
}
