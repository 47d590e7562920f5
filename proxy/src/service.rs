//! Service accounts: roles of programs that the database itself authenticates.
//!
//! Their names are in the configuration, so that whoever may come from their networks can learn
//! them; from elsewhere such a name is asked what every name is asked.

use std::net::IpAddr;
use std::sync::Arc;

use postern_core::mapping::RoleName;
use postern_core::principal::{EntryId, Principal};

use crate::config::{Config, ListenTls};
use crate::directory::is_local;
use crate::error::{ClientError, LoginError};

/// What the identifiers of service accounts begin with.
const SERVICE: &str = "service:";

/// Evidence that a service account comes from one of its networks, and is encrypted or allowed not
/// to be.
#[must_use = "a service account's exchange may be passed on only with this evidence"]
pub(crate) struct Admitted {
    role: RoleName,
    replicates: bool,
}

impl Admitted {
    /// The role.
    pub(crate) fn role(&self) -> &RoleName {
        &self.role
    }

    /// Whether its replication connections are passed on.
    pub(crate) fn replicates(&self) -> bool {
        self.replicates
    }
}

/// Decides by the configuration whether a name is a service account's that may come from there.
/// From elsewhere it is a name like any other: whoever asks learns nothing by it.
///
/// # Errors
///
/// The account has to come with TLS, and does not.
pub(crate) fn admit(
    config: &Config,
    user: &str,
    client: IpAddr,
    is_encrypted: bool,
) -> Result<Option<Admitted>, LoginError> {
    let mut accounts = config.service_accounts.iter();
    let found = accounts.find_map(|it| Some((it, it.role(user)?)));
    let Some((account, role)) = found else {
        return Ok(None);
    };
    if !account.may_come_from(client) {
        tracing::info!(%role, %client, "the name of a service account, from outside its networks");
        return Ok(None);
    }
    if !is_encrypted && account.tls == ListenTls::Require {
        return Err(ClientError::TlsRequired.into());
    }
    Ok(Some(Admitted {
        role: role.clone(),
        replicates: account.replication,
    }))
}

/// Whether a service account that is in would be let in as it came, but for TLS.
pub(crate) fn still_admits(config: &Config, role: &str, client: IpAddr, replicates: bool) -> bool {
    let mut accounts = config.service_accounts.iter();
    let account = accounts.find(|it| it.role(role).is_some());
    account.is_some_and(|it| it.may_come_from(client) && (it.replication || !replicates))
}

/// The role of a service account of this name, wherever it may come from.
pub(crate) fn role_named<'a>(config: &'a Config, name: &str) -> Option<&'a RoleName> {
    let mut accounts = config.service_accounts.iter();
    accounts.find_map(|it| it.role(name))
}

/// Its identifier, for the name that a change of the role store tells.
pub(crate) fn entry_named(config: &Config, role: Option<&str>) -> Option<EntryId> {
    role_named(config, role?).map(entry_of)
}

/// A service account as sessions and records have it.
pub(crate) fn principal(role: &RoleName) -> Arc<Principal> {
    Arc::new(Principal {
        id: entry_of(role),
        dn: format!("{SERVICE}{role}"),
        name: role.to_string(),
        groups: Vec::new(),
        version: None,
    })
}

/// The identifier that stands for a service account where people have that of their entry.
pub(crate) fn entry_of(role: &RoleName) -> EntryId {
    EntryId::new(format!("{SERVICE}{role}"))
}

/// The role, if an identifier is that of a service account: the directory is not asked about it.
pub(crate) fn role_of(id: &EntryId) -> Option<&str> {
    id.as_str().strip_prefix(SERVICE)
}

/// Whether of somebody something is known also when the directory is out of reach: an account of
/// the local file, or a service account.
pub(crate) fn outlives_directory(id: &EntryId) -> bool {
    is_local(id) || role_of(id).is_some()
}
