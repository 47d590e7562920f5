//! Cancel requests: passed to the session's backend, with the key that the backend knows.
//!
//! Source: PostgreSQL, "Canceling Requests in Progress",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use postern_core::wire::backend;
use postern_core::wire::startup::CancelRequest;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::backend::{BackendError, Target};
use crate::gate::Gate;
use crate::limits::CANCEL_TIMEOUT;
use crate::session::{CancelKey, LiveSession};

/// Passes a cancel request on. The client gets no answer, as with PostgreSQL, so that nobody can
/// find keys out by trying.
pub(crate) async fn cancel(gate: &Gate, request: CancelRequest) {
    let asked = CancelKey {
        pid: request.pid,
        key: request.key,
    };
    if cancel_here(gate, &asked).await == Found::Yes {
        return;
    }
    let Some(peers) = &gate.peers else {
        tracing::debug!(pid = asked.pid, "a cancel request for no live session");
        return;
    };
    if let Some(_permit) = permit(gate, &asked) {
        peers.cancel(&asked).await;
    }
}

/// Whether the key of a cancel request is that of a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is, and what can be done has been done.
    Yes,
    /// Not of this process.
    No,
}

/// Passes a cancel request on to the backend of a session of this process.
pub(crate) async fn cancel_here(gate: &Gate, asked: &CancelKey) -> Found {
    let Some((backend, key)) = gate.sessions.to_cancel(asked) else {
        return Found::No;
    };
    if let Some(target) = gate.targets.get(backend.index)
        && let Some(_permit) = permit(gate, &key)
    {
        reach(target, backend.address, &key).await;
    }
    Found::Yes
}

/// A place for a cancel request, of which there are so many.
fn permit<'a>(gate: &'a Gate, key: &CancelKey) -> Option<SemaphorePermit<'a>> {
    let permit = gate.permits.cancels.try_acquire().ok();
    if permit.is_none() {
        let pid = key.pid;
        tracing::warn!(pid, "a cancel request was dropped: too many are under way");
    }
    permit
}

async fn reach(target: &Target, address: SocketAddr, key: &CancelKey) {
    let outcome = timeout(CANCEL_TIMEOUT, pass_on(target, address, key));
    let why = match outcome.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("{} took too long", target.host()),
    };
    tracing::warn!(
        pid = key.pid,
        why,
        "a cancel request could not be passed on"
    );
}

/// Has the queries cancelled of sessions that are being ended: a database that is computing does
/// not see that a connection is gone until it writes.
///
/// It works on a thread of its own, because whoever ends sessions has no ring and must not wait;
/// the sessions themselves are ended whatever comes of it.
pub(crate) fn cancel_ended(gate: &Arc<Gate>, ended: Vec<LiveSession>) {
    let gate = gate.clone();
    let work = move || {
        tokio_uring::start(async move {
            for session in ended {
                let Some(target) = gate.targets.get(session.backend.index) else {
                    continue;
                };
                let Some(keys) = session.cancel else { continue };
                let key = keys.backend;
                let address = session.backend.address;
                let outcome = timeout(CANCEL_TIMEOUT, pass_on(target, address, &key)).await;
                if !matches!(outcome, Ok(Ok(()))) {
                    tracing::warn!(pid = key.pid, "the query of an ended session may go on");
                }
            }
        });
    };
    let thread = thread::Builder::new().name("cancel".to_owned());
    if let Err(error) = thread.spawn(work) {
        tracing::warn!(%error, "the queries of ended sessions may go on");
    }
}

async fn pass_on(
    target: &Target,
    address: SocketAddr,
    key: &CancelKey,
) -> Result<(), BackendError> {
    let mut dialled = target.dial_again(address).await?;
    let request = backend::cancel_request(key.pid, &key.key);
    let sent = dialled.stream.send(&request).await;
    sent.map_err(|error| BackendError::Lost {
        host: target.host(),
        error,
    })?;
    // The server closes the connection when it has acted; waiting for that keeps the order that
    // libpq's PQcancel promises. Nothing else comes on it, and how it ends says nothing.
    drop(dialled.stream.receive().await);
    Ok(())
}
