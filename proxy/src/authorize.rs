//! What an authenticated person may do: which role, which memberships, which database.

use std::sync::Arc;

use postern_core::audit::Source;
use postern_core::mapping::{Grants, RoleName, person_role};
use postern_core::wire::startup::{Replication, Startup};

use crate::authenticate::Authenticated;
use crate::config::Groups;
use crate::error::{Denied, LoginError};
use crate::session::Sessions;

/// Evidence that the groups of an authenticated person open the database.
#[must_use = "a role may be synchronised only with this evidence"]
pub(crate) struct Authorized {
    authenticated: Authenticated,
    role: RoleName,
    grants: Grants,
    database: String,
    replication: Replication,
}

impl Authorized {
    /// Who it is.
    pub(crate) fn authenticated(&self) -> &Authenticated {
        &self.authenticated
    }

    /// Whether the person has lost something since the directory was asked: an older answer of it
    /// gives nothing back that was taken away.
    pub(crate) fn is_outdated(&self, sessions: &Sessions) -> bool {
        let (entry, asked_at) = (
            &self.authenticated.principal().id,
            self.authenticated.asked_at(),
        );
        sessions.is_fenced(entry, asked_at, &self.granted())
    }

    /// The evidence of who it is, when the authorization is outdated.
    pub(crate) fn into_authenticated(self) -> Authenticated {
        self.authenticated
    }

    /// The person's role.
    pub(crate) fn role(&self) -> &RoleName {
        &self.role
    }

    /// The memberships that the role is to have.
    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The names of these roles.
    pub(crate) fn granted(&self) -> Arc<[RoleName]> {
        let roles = self.grants.roles.iter();
        roles.map(|grant| grant.role.clone()).collect()
    }

    /// Whether the session is for replication.
    pub(crate) fn replication(&self) -> Replication {
        self.replication
    }

    /// The database that was asked for.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }
}

/// Decides. Pure: no packet is sent.
///
/// A client that names no database gets the one with the login's name, as libpq sends it; that is
/// the database of the role's name then.
///
/// # Errors
///
/// No group opens the database, or replication where that is wanted; or the directory's name for
/// the person is no role name.
pub(crate) fn authorize(
    authenticated: Authenticated,
    startup: &Startup,
    groups: &Groups,
) -> Result<Authorized, LoginError> {
    let (login, database) = (startup.user(), startup.database());
    let replication = startup.replication()?;
    let principal = authenticated.principal();
    let role =
        person_role(&principal.name, groups.lowercase_roles).map_err(LoginError::RoleName)?;
    let database = if database == login {
        role.as_str()
    } else {
        database
    }
    .to_owned();
    let grants = groups.rules.grants(&principal.groups, &database);
    if grants.roles.is_empty() {
        return Err(LoginError::Denied(Denied::NoGroup {
            groups: principal.groups.len(),
        }));
    }
    if grants.is_strict && authenticated.source() == Source::StaleMemory {
        return Err(LoginError::NotFromMemory);
    }
    if !grants.open(replication) {
        return Err(LoginError::Denied(match grants.may_replicate {
            false if replication != Replication::No => Denied::Replication,
            false | true => Denied::Database(database),
        }));
    }
    Ok(Authorized {
        authenticated,
        role,
        grants,
        database,
        replication,
    })
}
