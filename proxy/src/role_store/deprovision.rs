//! What becomes of the role of somebody who is gone for good.

use postern_core::principal::EntryId;
use tokio_postgres::types::{ToSql, Type};

use super::error::RoleStoreError;
use super::{RoleStore, column};
use crate::limits::REVOKE_WAIT_MS;

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deprovision {
    /// NOLOGIN and stripped, with everything that it owns.
    Keep,
    /// Dropped, unless anything in the cluster would be lost with it.
    DropIfUnused,
}

/// What was done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deprovisioned {
    /// Postern manages no such role.
    NotManaged,
    /// There is no such role any more.
    Dropped {
        /// The name that it had.
        role: String,
    },
    /// It is there, without LOGIN and stripped.
    Kept {
        /// Its name.
        role: String,
        /// Why, in words.
        why: String,
        /// Backends that were told to end and had not yet; ask again until there is none.
        backends_left: u32,
    },
}

const DEPROVISION: &str = "SELECT d.role, d.dropped, d.note, d.backends_left \
    FROM postern.deprovision_login($1, $2, $3, $4, $5) d";

impl RoleStore {
    /// Takes LOGIN, the memberships that Postern granted and the live backends away from the role
    /// of a directory entry, and then does with it what `what` says. LOGIN goes first, in a
    /// transaction of its own, so that no backend can appear behind the look at the running ones.
    ///
    /// # Errors
    ///
    /// What any call may fail with. LOGIN may be gone by then; calling again does the rest.
    pub(crate) async fn deprovision(
        &self,
        entry: &EntryId,
        what: Deprovision,
        session: &str,
        why: &str,
    ) -> Result<Deprovisioned, RoleStoreError> {
        if self.disable(entry, session, why).await?.is_none() {
            return Ok(Deprovisioned::NotManaged);
        }
        let (entry, mode) = (entry.as_str(), what.as_str());
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&entry, Type::TEXT),
            (&mode, Type::TEXT),
            (&session, Type::TEXT),
            (&why, Type::TEXT),
            (&REVOKE_WAIT_MS, Type::INT4),
        ];
        let rows = self.call(DEPROVISION, &parameters).await?;
        let Some(row) = rows.first() else {
            return Ok(Deprovisioned::NotManaged);
        };
        let role = column(row, 0)?;
        if column(row, 1)? {
            return Ok(Deprovisioned::Dropped { role });
        }
        Ok(Deprovisioned::Kept {
            role,
            why: column(row, 2)?,
            backends_left: u32::try_from(column::<i32>(row, 3)?).unwrap_or(0),
        })
    }
}

impl Deprovision {
    /// As the schema writes it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DropIfUnused => "drop-if-unused",
        }
    }
}
