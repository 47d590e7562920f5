//! The roles that Postern manages, as they are.

use std::time::SystemTime;

use postern_core::principal::EntryId;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::RoleStoreError;
use super::{RoleStore, column, value};
use crate::limits::MANAGED_LOGINS_PAGE;

/// The role of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManagedLogin {
    /// Its present name.
    pub(crate) role: String,
    /// The directory entry that it belongs to.
    pub(crate) entry: EntryId,
    /// What the person is called in the directory, as of the last login that changed anything.
    pub(crate) login: String,
    /// The entry's name, as of then; empty for an adopted role before its first login.
    pub(crate) dn: String,
    /// Whether it has LOGIN.
    pub(crate) can_login: bool,
    /// Whether it has REPLICATION.
    pub(crate) can_replicate: bool,
    /// Whether an operator holds the person.
    pub(crate) held: bool,
    /// The memberships that Postern granted and that are there, by name.
    pub(crate) groups: Vec<String>,
    /// When anything was last changed for the person, by the database's clock.
    pub(crate) applied_at: SystemTime,
    /// Since when and why Postern has taken LOGIN away; a role without LOGIN and without this was
    /// disabled by an administrator.
    pub(crate) disabled: Option<(SystemTime, String)>,
}

const MANAGED: &str = "SELECT m.role, m.directory_id, m.login, m.dn, m.can_login, m.held, \
    m.groups, m.synced_at, m.disabled_at, COALESCE(m.disabled_why, ''), r.rolreplication \
    FROM postern.managed_logins($1, $2, $3) m \
    JOIN pg_catalog.pg_roles r ON r.rolname = m.role ORDER BY m.directory_id";

/// Whose a backend is may be seen by everybody
/// (<https://www.postgresql.org/docs/current/monitoring-stats.html>).
const IN_USE: &str =
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.usename = $1)";

impl RoleStore {
    /// The managed roles in the order of their entries, those after `after`, at most
    /// [`MANAGED_LOGINS_PAGE`]. Ask with the last entry until none is left.
    ///
    /// # Errors
    ///
    /// What any call may fail with.
    pub(crate) async fn managed_logins(
        &self,
        after: Option<&EntryId>,
    ) -> Result<Vec<ManagedLogin>, RoleStoreError> {
        self.managed(None, after.map_or("", EntryId::as_str)).await
    }

    /// The managed role of one entry, if it has one.
    ///
    /// # Errors
    ///
    /// What any call may fail with.
    pub(crate) async fn managed_login(
        &self,
        entry: &EntryId,
    ) -> Result<Option<ManagedLogin>, RoleStoreError> {
        Ok(self.managed(Some(entry.as_str()), "").await?.pop())
    }

    /// Whether a role has a backend on this server.
    ///
    /// # Errors
    ///
    /// What any call may fail with.
    pub(crate) async fn is_in_use(&self, role: &str) -> Result<bool, RoleStoreError> {
        value(&self.call(IN_USE, &[(&role, Type::TEXT)]).await?)
    }

    async fn managed(
        &self,
        entry: Option<&str>,
        after: &str,
    ) -> Result<Vec<ManagedLogin>, RoleStoreError> {
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&entry, Type::TEXT),
            (&after, Type::TEXT),
            (&MANAGED_LOGINS_PAGE, Type::INT4),
        ];
        let rows = self.call(MANAGED, &parameters).await?;
        rows.iter().map(ManagedLogin::read).collect()
    }
}

impl ManagedLogin {
    fn read(row: &Row) -> Result<Self, RoleStoreError> {
        let since: Option<SystemTime> = column(row, 8)?;
        let why: String = column(row, 9)?;
        Ok(Self {
            role: column(row, 0)?,
            entry: EntryId::new(column::<String>(row, 1)?),
            login: column(row, 2)?,
            dn: column(row, 3)?,
            can_login: column(row, 4)?,
            can_replicate: column(row, 10)?,
            held: column(row, 5)?,
            groups: column(row, 6)?,
            applied_at: column(row, 7)?,
            disabled: since.map(|since| (since, why)),
        })
    }
}
