//! The last step before the splice: the session is on record before the client learns that it is
//! in.

use std::time::Instant;

use postern_core::audit::Record;

use crate::backend::BackendReady;
use crate::error::LoginError;
use crate::gate::Gate;
use crate::login::Visit;
use crate::session::{LiveSession, Place};
use crate::sync::Synced;

/// A login that has come through: among the live sessions, and not on record as opened yet.
pub(crate) struct Arrived {
    /// The role.
    pub(crate) synced: Synced,
    /// The backend.
    pub(crate) ready: BackendReady,
    /// The session's place among `limits.sessions_max`.
    pub(crate) place: Place,
}

/// Evidence that a session is on record as opened: all that the splice needs.
#[must_use = "a session that is on record as opened has to be spliced, or closed on record"]
pub(crate) struct Opened {
    ready: BackendReady,
    place: Place,
}

impl Opened {
    /// The parts, for the splice.
    pub(crate) fn into_parts(self) -> (BackendReady, Place) {
        (self.ready, self.place)
    }
}

/// Enters a login among the live sessions; false if the person has lost something since the
/// directory was asked. From now on whoever ends the person's sessions ends this one.
#[must_use]
pub(crate) fn enter(gate: &Gate, visit: &Visit, synced: &Synced, ready: &BackendReady) -> bool {
    let authorized = synced.authorized();
    let authenticated = authorized.authenticated();
    let live = LiveSession {
        role: authorized.role().clone(),
        principal: authenticated.principal().clone(),
        granted: authorized.granted(),
        client: visit.client,
        database: authorized.database().to_owned(),
        backend: ready.address(),
        cancel: ready.cancel().cloned(),
        opened: Instant::now(),
        ending: None,
    };
    let is_in = gate.sessions.open(visit.id, live, authenticated.asked_at());
    // Nobody knew the person while the directory was asked, so that what it told meanwhile was
    // not heard; and when the account ends is not known.
    if is_in && gate.config.directory.is_followed() && !authenticated.is_from_memory() {
        gate.orders.look_at(&authenticated.principal().id);
    }
    is_in
}

/// Writes the record.
///
/// # Errors
///
/// The audit file cannot be written: the session is not opened.
pub(crate) async fn open(
    gate: &Gate,
    arrived: Arrived,
    visit: &Visit,
) -> Result<Opened, LoginError> {
    let Arrived {
        synced,
        ready,
        place,
    } = arrived;
    let record = Record::Opened {
        role: synced.authorized().role().to_string(),
        database: synced.authorized().database().to_owned(),
        backend: ready.address().address.to_string(),
        backend_pid: ready.cancel().map(|cancel| cancel.pid),
        application_name: visit.application_name.clone(),
    };
    if let Err(error) = gate.record(visit.id, &record).await {
        gate.sessions.close(visit.id);
        return Err(error);
    }
    Ok(Opened { ready, place })
}
