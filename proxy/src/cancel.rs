//! Cancel requests: passed to the backend that gave the key out.
//!
//! Source: PostgreSQL, "Canceling Requests in Progress",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>.

use postern_core::wire::backend;
use postern_core::wire::startup::CancelRequest;

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
    let passed = async {
        let mut dialled = target.dial_again(backend.address).await.ok()?;
        dialled
            .stream
            .send(&backend::cancel_request(key.pid, &key.key))
            .await
            .ok()?;
        // The server closes the connection when it has acted; waiting for that keeps the order
        // that libpq's PQcancel promises. Nothing else comes on it.
        dialled.stream.receive().await.err()
    };
    if tokio::time::timeout(CANCEL_TIMEOUT, passed).await.is_err() {
        tracing::warn!(
            pid = key.pid,
            host = target.host(),
            "a cancel request timed out"
        );
    }
}
