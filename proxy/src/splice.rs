//! Handing a login over to the splice, and what is left to do when the session ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postern_core::audit::{ClosedReason, Record};
use postern_ring::{CloseReason, Closed, Session};
use tokio::sync::watch;

use crate::audit::AuditLog;
use crate::gate::Gate;
use crate::login::Visit;
use crate::open::Opened;
use crate::session::{Ending, SessionId, Sessions};
use crate::sizes::SessionSizes;
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
        let books = Books::of(gate);
        Box::new(move |closed: Closed| {
            let bytes = (closed.bytes_to_client, closed.bytes_to_backend);
            let reason = books.reason_of(&closed.reason);
            books.record_end(id, reason, bytes);
            drop(place);
        })
    };
    let legs = (client.into_leg(), ready.into_stream().into_leg());
    let (Some((client, to_backend)), Some((backend, more))) = legs else {
        return Books::of(gate).record_end(id, ClosedReason::Internal, (0, 0));
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
        return Books::of(gate).record_end(id, ClosedReason::Internal, (0, 0));
    }
    // Whoever ended it before the worker had it was not heard there.
    if let Some(goodbye) = gate.sessions.goodbye_of(id) {
        gate.ring.end(id.number(), goodbye.to_vec());
    }
}

/// Where the end of a session is noted. A session may outlive the configuration that it was opened
/// under, and must not keep all of that.
struct Books {
    sessions: Arc<Sessions>,
    audit: Arc<AuditLog>,
    sizes: Arc<SessionSizes>,
    stopping: watch::Receiver<bool>,
}

impl Books {
    fn of(gate: &Gate) -> Self {
        Self {
            sessions: gate.sessions.clone(),
            audit: gate.audit.clone(),
            sizes: gate.session_sizes.clone(),
            stopping: gate.stopping.subscribe(),
        }
    }

    /// Takes the session out of the books and writes its one terminal record.
    fn record_end(&self, id: SessionId, reason: ClosedReason, bytes: (u64, u64)) {
        let Some(live) = self.sessions.close(id) else {
            return;
        };
        self.sizes.to_client.had(bytes.0);
        self.sizes.to_backend.had(bytes.1);
        // The database ends the backend, so the splice sees that go; it is not why the session
        // ended.
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
        if let Err(error) = self.audit.write_detached(&id.to_string(), record) {
            tracing::error!(session = %id, %error, "the end of a session is not on record");
        }
    }

    /// The splice's reason in the words of the audit file.
    fn reason_of(&self, reason: &CloseReason) -> ClosedReason {
        match reason {
            CloseReason::ClientClosed => ClosedReason::ClientClosed,
            CloseReason::BackendClosed => ClosedReason::BackendClosed,
            CloseReason::ClientReset => ClosedReason::ClientReset,
            CloseReason::BackendReset => ClosedReason::BackendReset,
            CloseReason::Ended if *self.stopping.borrow() => ClosedReason::ShuttingDown,
            CloseReason::Ended => ClosedReason::Ended,
            CloseReason::TlsError(..) => ClosedReason::TlsFailed,
            CloseReason::TimedOut(_) => ClosedReason::TimedOut,
            CloseReason::Failed(..) => ClosedReason::Internal,
        }
    }
}
