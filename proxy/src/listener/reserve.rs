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
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use nix::errno::Errno;
use tokio::net::TcpListener;

use crate::error::{Full, LoginError};
use crate::gate::Gate;
use crate::limits::LAST_WORD_READ_BYTES;
use crate::report::report;

/// What the descriptor that is kept back is of.
const ANY_FILE: &str = "/dev/null";

/// The descriptor that is kept back; none while it is lent, or others have it.
///
/// There is one for the process: two that were lent at the same time would be room for a
/// connection, which keeps them, and nobody could be told anything any more.
static RESERVE: Mutex<Option<File>> = Mutex::new(None);

/// Keeps one back, if there is none; false when there is no descriptor left to be kept.
pub(super) fn keep() -> bool {
    let mut reserve = reserve();
    if reserve.is_some() {
        return true;
    }
    match File::open(ANY_FILE) {
        Ok(file) => {
            *reserve = Some(file);
            true
        }
        // Whatever else is wrong with that file must keep nobody out.
        Err(error) => !is_exhaustion(&error),
    }
}

/// Tells the client that has waited longest that there are too many, and closes.
///
/// False when the descriptor was taken by something else meanwhile: then accepting has to wait.
pub(super) async fn turn_away(gate: &Gate, listener: &TcpListener) -> bool {
    poll_fn(|context| Poll::Ready(turn_one_away(gate, listener, context))).await
}

fn turn_one_away(gate: &Gate, listener: &TcpListener, context: &mut Context<'_>) -> bool {
    let mut reserve = reserve();
    *reserve = None;
    // With a descriptor this either has a connection, or finds that there is none, and then the
    // listener is not ready any more.
    let accepted = listener.poll_accept(context);
    let is_none = accepted.is_pending();
    let is_told = match accepted {
        Poll::Ready(Ok((socket, _))) => {
            match socket.into_std() {
                Ok(socket) => last_word(gate, &socket),
                Err(error) => tracing::debug!(%error, "a client could not be turned away"),
            }
            true
        }
        Poll::Ready(Err(_)) | Poll::Pending => false,
    };
    *reserve = File::open(ANY_FILE).ok();
    reserve.is_some() && (is_told || is_none)
}

/// It is a descriptor or none, so a panic elsewhere does not spoil it.
fn reserve() -> MutexGuard<'static, Option<File>> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
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
