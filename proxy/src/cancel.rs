//! Cancel requests: passed to the backend that gave the key out.
//!
//! Source: PostgreSQL, "Canceling Requests in Progress",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>.

use std::net::SocketAddr;

use postern_core::wire::backend;
use postern_core::wire::startup::CancelRequest;

use crate::backend::{BackendError, Target};
use crate::gate::Gate;
use crate::limits::CANCEL_TIMEOUT;
use crate::session::CancelKey;

/// Passes a cancel request on. The client gets no answer, as with PostgreSQL, so that nobody can
/// find keys out by trying.
pub(crate) async fn cancel(gate: &Gate, request: CancelRequest) {
    let key = CancelKey {
        pid: request.pid,
        key: request.key,
    };
    let Some(backend) = gate.sessions.backend_of(&key) else {
        tracing::debug!(pid = key.pid, "a cancel request for no live session");
        return;
    };
    let Some(target) = gate.targets.get(backend.index) else {
        return;
    };
    let Ok(_permit) = gate.permits.cancels.try_acquire() else {
        tracing::warn!(
            pid = key.pid,
            "a cancel request was dropped: too many are under way"
        );
        return;
    };
    let outcome = tokio::time::timeout(CANCEL_TIMEOUT, pass_on(target, backend.address, &key));
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
