//! Taking access away: all of it, or some sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_core::audit::{LostReason, Record, rfc3339};
use postern_core::principal::EntryId;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::cause::{Cause, Heard, Loss};
use crate::audit::OF_THE_PROCESS;
use crate::cancel::cancel_ended;
use crate::clock::unix_ms;
use crate::error::LoginError;
use crate::gate::{Gate, Plane};
use crate::limits::{OBEYED_WAIT, REVOKE_ROUNDS_MAX};
use crate::role_store::{Deprovision, Deprovisioned, RoleStoreError};
use crate::service::{outlives_directory, role_of};
use crate::session::{Ending, LiveSession, SessionId};

/// Somebody who loses all access.
pub(crate) struct Leaver<'a> {
    /// The person.
    pub(crate) entry: &'a EntryId,
    /// What the person is called, as far as it is known.
    pub(crate) name: &'a str,
    /// Why.
    pub(crate) loss: Loss,
    /// Where it was heard.
    pub(crate) cause: Cause,
    /// The login that showed it, if one did.
    pub(crate) session: Option<SessionId>,
}

impl Leaver<'_> {
    /// Whether whoever took it away in the database sees to it there: ending the backends of
    /// sessions of others before these have said why would only hide the reason.
    fn is_done_elsewhere(&self) -> bool {
        let reason = self.loss.reason;
        let by_others = matches!(reason, LostReason::Held | LostReason::OtherProxy);
        by_others && self.cause.heard != Heard::Operator
    }
}

/// Takes everything away from a person: what is remembered, the live sessions, the role's LOGIN
/// and memberships, and the backends, until none is left.
///
/// # Errors
///
/// The role store could not be reached, or could not do it; the sessions of this process are
/// ended all the same, and the person is not let in.
pub(crate) async fn end_access(plane: &Plane, leaver: Leaver<'_>) -> Result<(), RoleStoreError> {
    let gate = &plane.gate;
    gate.sessions.fence(leaver.entry, Instant::now(), [].into());
    gate.authenticator.forget_person(leaver.entry);
    let theirs = |_, it: &LiveSession| it.entry() == leaver.entry;
    // Marked before anything else: the database ends its backends before Postern hears of it, and
    // the record of such a session has to say why.
    let goodbye = goodbye(&leaver.loss);
    let ended = gate.sessions.end(Ending::Revoked, &goodbye, theirs);
    let is_on_record = leaver.cause.is_on_record;
    let is_news = !ended.is_empty() || (!is_on_record && may_log_in(plane, leaver.entry).await);
    if is_news {
        record_loss(gate, &leaver, ended.len()).await;
    }
    if role_of(leaver.entry).is_some() {
        // The role store ends the backends of people, and knows nothing of programs.
        let theirs = gate.sessions.of(leaver.entry).into_iter();
        let theirs = theirs.filter(|(id, _)| ended.contains(id));
        cancel_ended(gate, theirs.map(|(_, it)| it).collect());
    }
    send_away(gate, &ended, &goodbye);
    if !ended.is_empty() {
        are_away(gate).await;
    }
    let told = match leaver.is_done_elsewhere() {
        true => Ok(Deprovisioned::NotManaged),
        false => in_database(plane, &leaver).await,
    };
    let took = leaver.cause.at.elapsed();
    let (role, backends_left) = match &told {
        Ok(Deprovisioned::NotManaged) => (None, 0),
        Ok(Deprovisioned::Dropped { role }) => (Some(role.clone()), 0),
        Ok(Deprovisioned::Kept {
            role,
            backends_left,
            ..
        }) => (Some(role.clone()), u64::from(*backends_left)),
        Err(error) => {
            tracing::error!(entry = %leaver.entry, %error, "a role could not be revoked");
            (None, 0)
        }
    };
    if told.is_ok() && (is_news || is_on_record) {
        gate.lag.took(took);
        let record = Record::AccessEnded {
            principal: leaver.entry.to_string(),
            role,
            backends_left,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        put_on_record(gate, leaver.session, &record).await;
    }
    told.map(drop)
}

/// Whether the person has something to lose in the database; what cannot be said, they may have.
async fn may_log_in(plane: &Plane, entry: &EntryId) -> bool {
    let managed = plane.role_store.managed_login(entry).await;
    managed.map_or(true, |it| it.is_some_and(|it| it.can_login))
}

/// Ends some sessions of a person who keeps the others, or may come back at once.
pub(crate) async fn end_sessions(gate: &Gate, leaver: &Leaver<'_>, ids: &[SessionId]) {
    record_loss(gate, leaver, ids.len()).await;
    let goodbye = goodbye(&leaver.loss);
    let theirs = |id, _: &LiveSession| ids.contains(&id);
    let marked = gate.sessions.end(Ending::Revoked, &goodbye, theirs);
    send_away(gate, &marked, &goodbye);
}

/// Ends the sessions of somebody, of those that `ends` says yes to, to whom the configuration does
/// not open any more. The role store is told nothing: another proxy may let them in.
pub(super) async fn end_unconfigured(
    gate: &Arc<Gate>,
    entry: &EntryId,
    (why, cause): (&str, Cause),
    ends: impl Fn(&LiveSession) -> bool,
) {
    let theirs = gate.sessions.of(entry).into_iter();
    let theirs = theirs.filter(|(_, it)| it.ending.is_none() && ends(it));
    let (ids, sessions): (Vec<SessionId>, Vec<LiveSession>) = theirs.unzip();
    let Some(name) = sessions.first().map(|it| it.principal.name.clone()) else {
        return;
    };
    let leaver = Leaver {
        entry,
        name: &name,
        loss: Loss {
            reason: LostReason::Unconfigured,
            detail: why.to_owned(),
        },
        cause,
        session: None,
    };
    end_sessions(gate, &leaver, &ids).await;
    cancel_ended(gate, sessions);
}

/// The directory has just said, at a login, that no group of the person counts.
///
/// # Errors
///
/// Never for want of the role store: then the person has been kept out, and the next login tries
/// again.
pub(crate) async fn end_at_login(
    plane: &Plane,
    entry: &EntryId,
    login: &str,
    session: SessionId,
) -> Result<(), LoginError> {
    let leaver = Leaver {
        entry,
        name: login,
        loss: Loss {
            reason: LostReason::NoGroup,
            detail: "no group of the directory counts any more".to_owned(),
        },
        cause: Cause::now(Heard::Login),
        session: Some(session),
    };
    if end_access(plane, leaver).await.is_err() {
        plane.gate.authenticator.forget(login);
    }
    Ok(())
}

/// Asks until no backend of the person is left, for a while.
async fn in_database(plane: &Plane, leaver: &Leaver<'_>) -> Result<Deprovisioned, RoleStoreError> {
    let synchronizer = &plane.gate.synchronizer;
    let session = leaver.session.map(|id| id.to_string()).unwrap_or_default();
    let what = if leaver.loss.reason == LostReason::EntryGone {
        plane.gate.config.revocation.deprovision
    } else {
        Deprovision::Keep
    };
    let ask = || {
        let store = &plane.role_store;
        synchronizer.deprovision(store, leaver.entry, what, (&session, &leaver.loss.detail))
    };
    let mut done = ask().await?;
    for _ in 1..REVOKE_ROUNDS_MAX {
        match done {
            Deprovisioned::Kept { backends_left, .. } if backends_left > 0 => {
                done = ask().await?;
            }
            Deprovisioned::Kept { .. }
            | Deprovisioned::Dropped { .. }
            | Deprovisioned::NotManaged => break,
        }
    }
    Ok(done)
}

/// Tells the clients why, and closes both sockets of each.
fn send_away(gate: &Gate, ids: &[SessionId], goodbye: &[u8]) {
    for id in ids {
        // One that no worker has yet is ended when it is handed over.
        gate.ring.end(id.number(), goodbye.to_vec());
    }
}

/// Waits until no backend's word can reach the clients any more: what the database says of its own
/// end is not the reason. An end must not wait for long, and is one without it.
async fn are_away(gate: &Gate) {
    let (told, mut tellings) = mpsc::unbounded_channel();
    let asked = gate.ring.ask_obeyed(move || {
        // Nobody listens any more when the time is over.
        let _ = told.send(());
    });
    let all = async {
        for _ in 0..asked {
            tellings.recv().await;
        }
    };
    if timeout(OBEYED_WAIT, all).await.is_err() {
        tracing::warn!("a splice thread is late");
    }
}

/// The last message to a client.
fn goodbye(loss: &Loss) -> Arc<[u8]> {
    let message = error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::ADMIN_SHUTDOWN,
        message: "terminating connection because access was revoked",
        detail: Some(loss.told()),
        hint: None,
    });
    message.into()
}

/// Ends the sessions of everybody in the directory, or of one person, of whom nothing has been
/// known for longer than sessions may last without it.
pub(super) async fn end_unknown(gate: &Gate, away: Duration, only: Option<&EntryId>) {
    let is_meant = |it: &LiveSession| match only {
        Some(only) => it.entry() == only,
        None => !outlives_directory(it.entry()),
    };
    let mut people: BTreeMap<EntryId, (String, Vec<SessionId>)> = BTreeMap::new();
    for (id, session) in gate.sessions.list() {
        if is_meant(&session) {
            let name = session.principal.name.clone();
            let person = people.entry(session.entry().clone());
            person.or_insert((name, Vec::new())).1.push(id);
        }
    }
    let detail = format!(
        "the directory has been out of reach for {} s",
        away.as_secs()
    );
    for (entry, (name, ids)) in people {
        let leaver = Leaver {
            entry: &entry,
            name: &name,
            loss: Loss {
                reason: LostReason::DirectoryAway,
                detail: detail.clone(),
            },
            cause: Cause::now(Heard::Comparison),
            session: None,
        };
        end_sessions(gate, &leaver, &ids).await;
    }
}

async fn record_loss(gate: &Gate, leaver: &Leaver<'_>, sessions: usize) {
    let detected_ms = unix_ms(leaver.cause.time);
    tracing::info!(entry = %leaver.entry, name = leaver.name, sessions,
        reason = leaver.loss.reason.label(), detail = leaver.loss.detail,
        heard = %leaver.cause.heard, "access is lost");
    let record = Record::AccessLost {
        principal: leaver.entry.to_string(),
        name: leaver.name.to_owned(),
        reason: leaver.loss.reason,
        detail: leaver.loss.detail.clone(),
        heard: leaver.cause.heard.to_string(),
        detected_at: rfc3339(detected_ms),
        sessions: u64::try_from(sessions).unwrap_or(u64::MAX),
    };
    put_on_record(gate, leaver.session, &record).await;
}

/// Access that cannot be put on record ends all the same: keeping it would be worse.
pub(super) async fn put_on_record(gate: &Gate, session: Option<SessionId>, record: &Record) {
    let session = session.map(|it| it.to_string());
    let of = session.as_deref().unwrap_or(OF_THE_PROCESS);
    if gate.record_for(of, record).await.is_err() {
        tracing::error!(
            event = record.event(),
            "the end of an access is not on record"
        );
    }
}
