//! The people whom an operator keeps out, whatever the directory says.

use std::time::{Duration, SystemTime};

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use tokio_postgres::types::{ToSql, Type};

use super::error::RoleStoreError;
use super::{RoleStore, column, no_row, value};

/// Who is meant. Either half finds the other if Postern manages a role of this person; a name that
/// nobody has yet stands for whoever would get it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Whom<'a> {
    /// The directory entry, where the directory could be asked.
    pub(crate) entry: Option<&'a EntryId>,
    /// The role.
    pub(crate) role: Option<&'a RoleName>,
}

/// Whom a hold hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The directory entry; none for the name of a role that nobody has.
    pub(crate) entry: Option<EntryId>,
    /// The role; none for an entry that has none yet.
    pub(crate) role: Option<String>,
    /// When it ends, by the database's clock; none when it lasts until it is released.
    pub(crate) until: Option<SystemTime>,
}

/// A hold that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// On whom, and until when.
    pub(crate) held: Held,
    /// The operator's words.
    pub(crate) reason: String,
    /// The operator.
    pub(crate) placed_by: String,
    /// Since when, by the database's clock.
    pub(crate) placed_at: SystemTime,
}

const HOLD: &str = "SELECT h.held_entry, h.held_role, h.held_until \
    FROM postern.hold_login($1, $2, $3, $4, $5) h";
const RELEASE: &str = "SELECT postern.release_login($1, $2, $3)";
const HOLDS: &str = "SELECT h.directory_id, h.role, h.until, h.reason, h.placed_by, h.placed_at \
    FROM postern.list_holds() h";

impl RoleStore {
    /// Keeps a person out from now on, for as long as `lasts`, or until somebody releases them.
    /// No login is let through that begins after this, on any proxy, and the role loses LOGIN;
    /// what the person has open is ended by [`RoleStore::deprovision`]. A hold from before is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`RoleStoreError::Refused`] when entry and role are of two people, and what any call may
    /// fail with.
    pub(crate) async fn hold(
        &self,
        whom: Whom<'_>,
        lasts: Option<Duration>,
        reason: &str,
        operator: &str,
    ) -> Result<Held, RoleStoreError> {
        let (role, entry) = whom.texts();
        // What is shorter than a second must not round to nothing.
        let lasts_s = lasts.map(|it| i64::try_from(it.as_secs().max(1)).unwrap_or(i64::MAX));
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&role, Type::TEXT),
            (&entry, Type::TEXT),
            (&lasts_s, Type::INT8),
            (&reason, Type::TEXT),
            (&operator, Type::TEXT),
        ];
        let rows = self.call(HOLD, &parameters).await?;
        Held::read(rows.first().ok_or_else(no_row)?)
    }

    /// Ends a hold, and says whether there was one. Nothing is given back: that is for the
    /// person's next login.
    ///
    /// # Errors
    ///
    /// As those of [`RoleStore::hold`].
    pub(crate) async fn release(
        &self,
        whom: Whom<'_>,
        operator: &str,
    ) -> Result<bool, RoleStoreError> {
        let (role, entry) = whom.texts();
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&role, Type::TEXT),
            (&entry, Type::TEXT),
            (&operator, Type::TEXT),
        ];
        value(&self.call(RELEASE, &parameters).await?)
    }

    /// Every hold that counts now, the oldest first.
    ///
    /// # Errors
    ///
    /// What any call may fail with.
    pub(crate) async fn holds(&self) -> Result<Vec<Hold>, RoleStoreError> {
        let rows = self.call(HOLDS, &[]).await?;
        let holds = rows.iter().map(|row| {
            Ok(Hold {
                held: Held::read(row)?,
                reason: column(row, 3)?,
                placed_by: column(row, 4)?,
                placed_at: column(row, 5)?,
            })
        });
        holds.collect()
    }
}

impl<'a> Whom<'a> {
    /// The role and the entry, in the order of the routines.
    fn texts(self) -> (Option<&'a str>, Option<&'a str>) {
        (
            self.role.map(RoleName::as_str),
            self.entry.map(EntryId::as_str),
        )
    }
}

impl Held {
    fn read(row: &tokio_postgres::Row) -> Result<Self, RoleStoreError> {
        Ok(Self {
            entry: column::<Option<String>>(row, 0)?.map(EntryId::new),
            role: column(row, 1)?,
            until: column(row, 2)?,
        })
    }
}
