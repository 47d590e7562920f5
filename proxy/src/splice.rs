//! Handing a login over to the splice, and what is left to do when the session ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postern_core::audit::{ClosedReason, Record};
use postern_ring::{CloseReason, Closed, Session};

use crate::gate::Gate;
use crate::login::Visit;
use crate::open::Opened;
use crate::session::{Ending, SessionId};
use crate::stream::Stream;

/// Gives both sockets to a splice worker.
///
/// What the backend said while it was logged in to goes to the client first, and what the client
/// sent before it was told that it is in goes to the backend first.
pub(crate) fn splice(gate: &Arc<Gate>, client: Stream, opened: Opened, visit: &Visit) {
    let (ready, place, mut to_client) = opened.into_parts();
    let id = visit.id;
    gate.counts.opened.fetch_add(1, Ordering::Relaxed);
    let on_close = {
        let gate = gate.clone();
        Box::new(move |closed: Closed| {
            let bytes = (closed.bytes_to_client, closed.bytes_to_backend);
            record_end(&gate, id, reason_of(&gate, &closed.reason), bytes);
            drop(place);
        })
    };
    let legs = (client.into_leg(), ready.into_stream().into_leg());
    let (Some((client, to_backend)), Some((backend, more))) = legs else {
        return record_end(gate, id, ClosedReason::Internal, (0, 0));
    };
    to_client.extend_from_slice(&more);
    let session = Session {
        id: id.number(),
        client,
        backend,
        to_client,
        to_backend,
        on_close,
    };
    if gate.ring.splice(session).is_err() {
        tracing::error!(session = %id, "no splice worker takes sessions: the session is closed");
        return record_end(gate, id, ClosedReason::Internal, (0, 0));
    }
    // Whoever ended it before the worker had it was not heard there.
    if let Some(goodbye) = gate.sessions.goodbye_of(id) {
        gate.ring.end(id.number(), goodbye.to_vec());
    }
}

/// Takes the session out of the books and writes its one terminal record.
fn record_end(gate: &Gate, id: SessionId, reason: ClosedReason, bytes: (u64, u64)) {
    let Some(live) = gate.sessions.close(id) else {
        return;
    };
    // The database ends the backend, so the splice sees that go; it is not why the session ended.
    let reason = match live.ending {
        Some((Ending::Revoked, _)) => ClosedReason::Revoked,
        Some((Ending::Ended, _)) => ClosedReason::Ended,
        None => reason,
    };
    let record = Record::Closed {
        reason,
        bytes_to_client: bytes.0,
        bytes_to_backend: bytes.1,
        duration_ms: u64::try_from(live.opened.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    if let Err(error) = gate.audit.write_detached(&id.to_string(), record) {
        tracing::error!(session = %id, %error, "the end of a session is not on record");
    }
}

/// The splice's reason in the words of the audit file.
fn reason_of(gate: &Gate, reason: &CloseReason) -> ClosedReason {
    match reason {
        CloseReason::ClientClosed => ClosedReason::ClientClosed,
        CloseReason::BackendClosed => ClosedReason::BackendClosed,
        CloseReason::ClientReset => ClosedReason::ClientReset,
        CloseReason::BackendReset => ClosedReason::BackendReset,
        CloseReason::Ended if gate.is_stopping() => ClosedReason::ShuttingDown,
        CloseReason::Ended => ClosedReason::Ended,
        CloseReason::TlsError(..) => ClosedReason::TlsFailed,
        CloseReason::TimedOut(_) => ClosedReason::TimedOut,
        CloseReason::Failed(..) => ClosedReason::Internal,
    }
}
