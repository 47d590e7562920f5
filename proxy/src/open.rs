//! The last step before the splice: the session is on record before the client learns that it is
//! in.

use std::sync::Arc;
use std::time::Instant;

use postern_core::audit::Record;
use postern_core::mapping::RoleName;
use postern_core::principal::Principal;
use postern_core::wire::backend::authentication_sasl_final;
use postern_core::wire::startup::Replication;

use crate::backend::BackendReady;
use crate::error::LoginError;
use crate::gate::Gate;
use crate::login::Visit;
use crate::phases::Phase;
use crate::service::{Admitted, principal};
use crate::session::{KeptOut, LiveSession, Place};
use crate::sync::Synced;

/// A login that has come through: among the live sessions, and not on record as opened yet.
pub(crate) struct Arrived {
    /// Whose it is.
    pub(crate) entrant: Entrant,
    /// The backend.
    pub(crate) ready: BackendReady,
    /// The session's place among `limits.sessions_max`.
    pub(crate) place: Place,
    /// How the server proves itself to a client that did so by SCRAM. It waits until now, so that
    /// nobody learns that a password is right who may not log in.
    pub(crate) server_final: Option<Vec<u8>>,
}

/// Who comes in, and as what. It is made of the evidence that they may.
pub(crate) struct Entrant {
    role: RoleName,
    principal: Arc<Principal>,
    granted: Arc<[RoleName]>,
    database: String,
    replication: Replication,
    /// When the question began whose answer this rests on.
    asked_at: Instant,
    /// Whether the directory has just been asked.
    is_news: bool,
}

impl Entrant {
    /// A person whose role matches the directory.
    pub(crate) fn person(synced: &Synced) -> Self {
        let authorized = synced.authorized();
        let authenticated = authorized.authenticated();
        Self {
            role: authorized.role().clone(),
            principal: authenticated.principal().clone(),
            granted: authorized.granted(),
            database: authorized.database().to_owned(),
            replication: authorized.replication(),
            asked_at: authenticated.asked_at(),
            is_news: !authenticated.is_from_memory(),
        }
    }

    /// A service account, of which was asked at a moment whether somebody holds it. What it has,
    /// and may lose, is its own role.
    pub(crate) fn service(
        admitted: &Admitted,
        (database, replication): (String, Replication),
        asked_at: Instant,
    ) -> Self {
        let role = admitted.role();
        Self {
            role: role.clone(),
            principal: principal(role),
            granted: [role.clone()].into(),
            database,
            replication,
            asked_at,
            is_news: false,
        }
    }

    /// Who it is.
    pub(crate) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }
}

/// Evidence that a session is on record as opened: all that the splice needs.
#[must_use = "a session that is on record as opened has to be spliced, or closed on record"]
pub(crate) struct Opened {
    ready: BackendReady,
    place: Place,
    greeting: Vec<u8>,
}

impl Opened {
    /// The parts, for the splice, and what the client is to be told first.
    pub(crate) fn into_parts(self) -> (BackendReady, Place, Vec<u8>) {
        (self.ready, self.place, self.greeting)
    }
}

/// Enters a login among the live sessions. From now on whoever ends the person's sessions ends
/// this one.
///
/// # Errors
///
/// [`KeptOut`]: it is not entered.
pub(crate) fn enter(
    gate: &Gate,
    visit: &Visit,
    entrant: &Entrant,
    ready: &BackendReady,
) -> Result<(), KeptOut> {
    let live = LiveSession {
        role: entrant.role.clone(),
        principal: entrant.principal.clone(),
        granted: entrant.granted.clone(),
        client: visit.client,
        database: entrant.database.clone(),
        replication: entrant.replication,
        target: ready.target().clone(),
        backend: ready.address(),
        cancel: ready.cancel().cloned(),
        application_name: visit.application_name.clone(),
        client_tls: visit.tls.clone(),
        opened: Instant::now(),
        ending: None,
    };
    let entered = (visit.id, live);
    gate.sessions.open(entered, entrant.asked_at, &gate.door)?;
    // Nobody knew the person while the directory was asked, so that what it told meanwhile was
    // not heard; and when the account ends is not known.
    let is_unheard = gate.config.directory.is_followed() && entrant.is_news;
    // Who was looked at meanwhile may have lost what is no role: a database, replication.
    let is_outdated = gate
        .sessions
        .was_looked_at(&entrant.principal.id, entrant.asked_at);
    // A reload may have changed the rules by which they were let in.
    if is_unheard || is_outdated || gate.is_replaced() {
        gate.orders.look_at(&entrant.principal.id);
    }
    Ok(())
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
        entrant,
        ready,
        place,
        server_final,
    } = arrived;
    let record = Record::Opened {
        role: entrant.role.to_string(),
        database: entrant.database,
        backend: ready.address().to_string(),
        backend_pid: ready.cancel().map(|cancel| cancel.client.pid),
        application_name: visit.application_name.clone(),
    };
    if let Err(error) = gate.record(visit.id, &record).await {
        gate.sessions.close(visit.id);
        return Err(error);
    }
    say(visit, &record);
    let mut greeting = server_final.map_or_else(Vec::new, |it| authentication_sasl_final(&it));
    greeting.extend_from_slice(ready.greeting());
    Ok(Opened {
        ready,
        place,
        greeting,
    })
}

/// The one line of the log about a login that has come through.
fn say(visit: &Visit, record: &Record) {
    let Record::Opened { role, database, .. } = record else {
        return;
    };
    let ms = |phase| visit.phases.ms(phase);
    tracing::info!(session = %visit.id, client = %visit.client, role, database,
        tls_ms = ms(Phase::Tls), ask_ms = ms(Phase::Ask),
        authenticate_ms = ms(Phase::Authenticate), authorize_ms = ms(Phase::Authorize),
        sync_ms = ms(Phase::Sync), dial_ms = ms(Phase::Dial),
        backend_login_ms = ms(Phase::BackendLogin), "a session is open");
}
