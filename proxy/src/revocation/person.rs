//! One person: what the directory says of them now, made true.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use postern_core::audit::{LostReason, Record};
use postern_core::mapping::{Grants, RoleName};
use postern_core::principal::{EntryId, Principal};
use postern_core::wire::startup::Replication;

use super::cause::{Cause, Heard, Loss};
use super::ending::{Leaver, end_access, end_sessions, end_unconfigured, put_on_record};
use crate::config::{LostGroup, MissingGroup};
use crate::gate::Plane;
use crate::role_store::{ManagedLogin, MembershipWish, RoleStoreError};
use crate::service;
use crate::session::{LiveSession, SessionId};

/// What came of looking at a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What they may do is what the directory says, and says until this moment.
    Settled(Option<SystemTime>),
    /// The directory cannot be asked; it has to be tried again.
    DirectoryAway,
    /// The role store cannot be changed; it has to be tried again.
    RoleStoreAway {
        /// Whether it is on record already what is lost.
        is_on_record: bool,
    },
}

/// Looks a person up, and takes away or gives what has changed.
pub(super) async fn settle(plane: &Plane, entry: &EntryId, cause: Cause) -> Outcome {
    let gate = &plane.gate;
    let asked_at = Instant::now();
    if let Some(role) = service::role_of(entry) {
        return settle_service(plane, (entry, role), cause).await;
    }
    if is_left_to_others(plane, entry, cause).await {
        return Outcome::Settled(None);
    }
    let is_ours = gate.sessions.has(entry) || gate.authenticator.remembers(entry);
    if is_ours && cause.in_store {
        // What an operator or another proxy has taken away is gone, whatever the directory says.
        match plane.role_store.managed_login(entry).await {
            Ok(managed) => {
                if let Some(loss) = taken_elsewhere(managed.as_ref()) {
                    return leave(plane, (entry, ""), loss, cause).await;
                }
            }
            Err(error) => return role_store_away(entry, &error),
        }
    }
    let found = plane.directories.look_up_entry(entry).await;
    if let Ok(person) = &found {
        note(plane, &person.principal, asked_at, cause);
    }
    if !is_ours && cause.heard != Heard::Operator {
        match is_elsewhere(plane, entry).await {
            Ok(false) => {}
            Ok(true) => return Outcome::Settled(found.ok().and_then(|it| it.refused_from)),
            Err(error) => return role_store_away(entry, &error),
        }
    }
    let (principal, refused_from) = match found {
        Ok(person) => (Arc::new(person.principal), person.refused_from),
        Err(error) => {
            return match Loss::of(&error) {
                Some(loss) => leave(plane, (entry, ""), loss, cause).await,
                None => Outcome::DirectoryAway,
            };
        }
    };
    let grants = gate.config.groups.rules.grants(&principal.groups, "");
    if grants.roles.is_empty() {
        let loss = Loss {
            reason: LostReason::NoGroup,
            detail: format!("none of {} groups counts", principal.groups.len()),
        };
        return leave(plane, (entry, &principal.name), loss, cause).await;
    }
    match adjust(plane, &principal, &grants, cause).await {
        Ok(()) => Outcome::Settled(refused_from),
        Err(error @ RoleStoreError::Refused { refusal, .. }) if refusal.is_loss() => {
            let loss = Loss {
                reason: LostReason::NoGroup,
                detail: error.to_string(),
            };
            leave(plane, (entry, &principal.name), loss, cause).await
        }
        // A group that cannot be given is nothing that anybody loses.
        Err(error @ RoleStoreError::Refused { .. }) => {
            tracing::error!(%entry, %error, "memberships do not follow the directory");
            Outcome::Settled(refused_from)
        }
        Err(error) => role_store_away(entry, &error),
    }
}

/// Whether a person is left to others: to proxies with their source, whose sessions here are
/// ended, or to the process that has taken over.
async fn is_left_to_others(plane: &Plane, entry: &EntryId, cause: Cause) -> bool {
    let gate = &plane.gate;
    if !plane.directories.is_asked_about(entry) {
        // Another proxy may have that source, so that the role stays as it is.
        let why = "the source of the account is not configured any more";
        end_unconfigured(gate, entry, (why, cause), |_| true).await;
        return true;
    }
    // The process that has taken over looks after everybody else, by its own rules.
    let is_begun_here = cause.is_on_record || cause.heard == Heard::Login;
    gate.has_handed_over() && !is_begun_here && !gate.sessions.has(entry)
}

/// A service account, about which nobody has a say but the configuration and an operator.
async fn settle_service(plane: &Plane, (entry, role): (&EntryId, &str), cause: Cause) -> Outcome {
    let gate = &plane.gate;
    let is_shut_out = |it: &LiveSession| {
        let replicates = it.replication != Replication::No;
        !service::still_admits(&gate.config, role, it.client.ip(), replicates)
    };
    let why = "no service account admits them as they came";
    end_unconfigured(gate, entry, (why, cause), is_shut_out).await;
    let holds = match plane.role_store.holds().await {
        Ok(holds) => holds,
        Err(error) => return role_store_away(entry, &error),
    };
    let mut holds = holds.into_iter();
    match holds.find(|it| it.held.role.as_deref() == Some(role)) {
        None => Outcome::Settled(None),
        Some(hold) => {
            let loss = Loss {
                reason: LostReason::Held,
                detail: format!("revoked by {}: {}", hold.placed_by, hold.reason),
            };
            leave(plane, (entry, role), loss, cause).await
        }
    }
}

/// Notes what the directory says now: for logins under way, and for what is remembered.
fn note(plane: &Plane, principal: &Principal, asked_at: Instant, cause: Cause) {
    let gate = &plane.gate;
    match cause.own_entry && principal.version.is_none() {
        // It may be another password.
        true => gate.authenticator.forget_person(&principal.id),
        false => gate.authenticator.forget_unless(principal),
    }
    let grants = gate.config.groups.rules.grants(&principal.groups, "");
    let granted = grants.roles.iter().map(|it| it.role.clone()).collect();
    gate.sessions.fence(&principal.id, asked_at, granted);
}

/// Whether somebody who is not in through this proxy is none of its business: they have no role
/// that may log in, or are in through another proxy. That one may have other rules, as while a new
/// configuration is rolled out.
async fn is_elsewhere(plane: &Plane, entry: &EntryId) -> Result<bool, RoleStoreError> {
    let managed = plane.role_store.managed_login(entry).await?;
    match managed.filter(|it| it.can_login) {
        Some(managed) => plane.role_store.is_in_use(&managed.role).await,
        None => Ok(true),
    }
}

/// What somebody else has taken away in the role store.
fn taken_elsewhere(managed: Option<&ManagedLogin>) -> Option<Loss> {
    let managed = managed.filter(|it| !it.can_login)?;
    let why = managed.disabled.as_ref().map(|(_, why)| why.clone());
    let reason = match managed.held {
        true => LostReason::Held,
        false => LostReason::OtherProxy,
    };
    Some(Loss {
        reason,
        detail: why.unwrap_or_else(|| "the role may not log in".to_owned()),
    })
}

/// The name is empty where the directory does not tell it any more.
async fn leave(
    plane: &Plane,
    (entry, name): (&EntryId, &str),
    loss: Loss,
    cause: Cause,
) -> Outcome {
    let sessions = plane.gate.sessions.of(entry);
    let known = sessions.first().map(|(_, it)| it.principal.name.as_str());
    let leaver = Leaver {
        entry,
        name: known.unwrap_or(name),
        loss,
        cause,
        session: None,
    };
    match end_access(plane, leaver).await {
        Ok(()) => Outcome::Settled(None),
        Err(error) => {
            role_store_away(entry, &error);
            Outcome::RoleStoreAway { is_on_record: true }
        }
    }
}

/// Sessions that rest on what was lost ended, and memberships as the directory says: in this order,
/// because the role store may be out of reach.
async fn adjust(
    plane: &Plane,
    principal: &Arc<Principal>,
    grants: &Grants,
    cause: Cause,
) -> Result<(), RoleStoreError> {
    let gate = &plane.gate;
    let entry = &principal.id;
    let granted: Arc<[RoleName]> = grants.roles.iter().map(|it| it.role.clone()).collect();
    let sessions = gate.sessions.of(entry);
    let role = sessions.first().map(|(_, it)| it.role.to_string());
    let (mut ending, mut lost) = (Vec::new(), BTreeSet::new());
    let mut reason = LostReason::LostDatabase;
    for (id, session) in sessions {
        let gone = lost_by(&session, &granted);
        let is_open = opens(plane, principal, &session);
        let ends = !gone.is_empty() && gate.config.revocation.lost_group == LostGroup::End;
        if ends {
            reason = LostReason::LostGroup;
            lost.extend(gone);
        }
        if ends || !is_open {
            ending.push(id);
        }
    }
    gate.sessions.regrant(principal, &granted);
    if !ending.is_empty() {
        end(plane, principal, (cause, reason, lost), &ending).await;
    }
    if cause.heard == Heard::RoleStore || !gate.has_say.load(Ordering::Acquire) {
        // Another proxy has just made them as it sees them, or the process that has taken over
        // does; two with other rules would chase each other for ever.
        return Ok(());
    }
    let wish = MembershipWish {
        entry,
        groups: &granted,
        replication: grants.may_replicate,
        missing: match gate.config.groups.missing {
            // Nobody logs in who could be refused.
            MissingGroup::Refuse => MissingGroup::Skip,
            missing @ (MissingGroup::Create | MissingGroup::Skip) => missing,
        },
        session: "",
    };
    let synchronizer = &gate.synchronizer;
    let change = synchronizer.change_memberships(&plane.role_store, &wish);
    let steps = change.await?.changes();
    if !steps.is_empty() {
        let role = role.unwrap_or_else(|| principal.name.clone());
        put_on_record(gate, None, &Record::RolesChanged { role, steps }).await;
    }
    Ok(())
}

async fn end(
    plane: &Plane,
    principal: &Principal,
    (cause, reason, lost): (Cause, LostReason, BTreeSet<String>),
    ids: &[SessionId],
) {
    let lost: Vec<String> = lost.into_iter().collect();
    let detail = if reason == LostReason::LostGroup {
        format!("no longer a member of {}", lost.join(", "))
    } else {
        "no group opens the database any more".to_owned()
    };
    let leaver = Leaver {
        entry: &principal.id,
        name: &principal.name,
        loss: Loss { reason, detail },
        cause,
        session: None,
    };
    end_sessions(&plane.gate, &leaver, ids).await;
}

/// The roles of a session that are not granted any more.
fn lost_by(session: &LiveSession, granted: &[RoleName]) -> Vec<String> {
    let gone = session.granted.iter().filter(|it| !granted.contains(it));
    gone.map(ToString::to_string).collect()
}

/// Whether the person's groups open the database of a session, and replication if it is for that.
fn opens(plane: &Plane, principal: &Principal, session: &LiveSession) -> bool {
    let rules = &plane.gate.config.groups.rules;
    rules
        .grants(&principal.groups, &session.database)
        .open(session.replication)
}

fn role_store_away(entry: &EntryId, error: &RoleStoreError) -> Outcome {
    tracing::error!(%entry, %error, "the role store does not have what the directory says");
    Outcome::RoleStoreAway {
        is_on_record: false,
    }
}
