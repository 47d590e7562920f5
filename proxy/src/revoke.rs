//! Taking everything away from a person whose groups are gone.

use postern_core::audit::Record;
use postern_core::principal::EntryId;
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{ErrorFields, Severity, error_response};

use crate::error::LoginError;
use crate::gate::Plane;
use crate::limits::REVOKE_ROUNDS_MAX;
use crate::role_store::{Revoked, RoleStoreError};
use crate::session::SessionId;

/// The directory has just said that no group of this person counts. Whatever the person still has
/// in the database from better days ends now, live sessions included, on every backend.
///
/// `login` is the name that was typed; it is forgotten when the role store cannot be reached, so
/// that the next login asks the directory and tries again.
///
/// # Errors
///
/// The revocation is not on record.
pub(crate) async fn revoke(
    plane: &Plane,
    entry: &EntryId,
    login: &str,
    session: SessionId,
) -> Result<(), LoginError> {
    // Marked first: the database ends its backends before Postern hears of it, and the record of
    // such a session has to say why.
    plane.gate.sessions.revoke(entry);
    let revoked = in_database(plane, entry, session).await;
    end_sessions(plane, entry);
    match revoked {
        Ok(Revoked::NotManaged) => Ok(()),
        Ok(Revoked::Stripped {
            role,
            backends_left,
        }) => {
            let steps = vec![format!(
                "revoke_login {entry} ({backends_left} backends left)"
            )];
            plane
                .gate
                .record(session, &Record::RolesChanged { role, steps })
                .await
        }
        Err(error) => {
            tracing::error!(%session, %entry, %error, "a role could not be revoked");
            plane.gate.authenticator.forget(login);
            Ok(())
        }
    }
}

/// Asks until no backend of the person is left, for a while.
async fn in_database(
    plane: &Plane,
    entry: &EntryId,
    session: SessionId,
) -> Result<Revoked, RoleStoreError> {
    let synchronizer = &plane.gate.synchronizer;
    let mut revoked = synchronizer
        .revoke(&plane.role_store, entry, session)
        .await?;
    for _ in 1..REVOKE_ROUNDS_MAX {
        match revoked {
            Revoked::Stripped { backends_left, .. } if backends_left > 0 => {
                revoked = synchronizer
                    .revoke(&plane.role_store, entry, session)
                    .await?;
            }
            Revoked::Stripped { .. } | Revoked::NotManaged => break,
        }
    }
    Ok(revoked)
}

/// The role store's server has ended its own backends; sessions with other servers end here.
fn end_sessions(plane: &Plane, entry: &EntryId) {
    let goodbye = error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::ADMIN_SHUTDOWN,
        message: "terminating connection because access was revoked",
        detail: None,
        hint: None,
    });
    for id in plane.gate.sessions.revoke(entry) {
        plane.gate.ring.end(id.number(), goodbye.clone());
    }
}
