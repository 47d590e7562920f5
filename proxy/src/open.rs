//! The last step before the splice: the session is on record before the client learns that it is
//! in.

use postern_core::audit::Record;

use crate::backend::BackendReady;
use crate::error::LoginError;
use crate::gate::Gate;
use crate::login::Visit;
use crate::session::Place;
use crate::sync::Synced;

/// A login that has come through, and is not on record as opened yet.
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
    synced: Synced,
    ready: BackendReady,
    place: Place,
}

impl Opened {
    /// The parts, for the splice.
    pub(crate) fn into_parts(self) -> (Synced, BackendReady, Place) {
        (self.synced, self.ready, self.place)
    }
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
    gate.record(visit.id, &record).await?;
    Ok(Opened {
        synced,
        ready,
        place,
    })
}
