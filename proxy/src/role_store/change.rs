//! Memberships that change between two logins.

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use tokio_postgres::types::{ToSql, Type};

use super::error::RoleStoreError;
use super::step::{Action, Step, steps};
use super::wish::missing_policy;
use super::{RoleStore, Row};
use crate::config::MissingGroup;

/// What the directory says of somebody who has a role.
#[derive(Debug, Clone)]
pub(crate) struct MembershipWish<'a> {
    /// The directory entry.
    pub(crate) entry: &'a EntryId,
    /// The roles of the groups that count; without one, the login is to be revoked instead.
    pub(crate) groups: &'a [RoleName],
    /// Whether the groups open replication connections.
    pub(crate) replication: bool,
    /// What happens to a group whose role does not exist.
    pub(crate) missing: MissingGroup,
    /// Who asks, for the change log.
    pub(crate) session: &'a str,
}

/// What became of somebody's memberships.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MembershipChange {
    /// Everything that was done, and the groups that were left out.
    pub(crate) steps: Vec<Step>,
}

const CHANGE: &str = "SELECT c.action, c.target, c.note \
    FROM postern.change_memberships($1, $2, $3, $4) c ORDER BY c.step";

impl RoleStore {
    /// Makes the memberships of a person match without a login: no role is made, none gets LOGIN
    /// back and no secret is touched. Nothing is done where Postern manages no role of the entry,
    /// or has taken LOGIN away from it.
    ///
    /// # Errors
    ///
    /// [`RoleStoreError::Refused`] when a rule forbids it, `NoGroup` first of all, and what any
    /// call may fail with.
    pub(crate) async fn change_memberships(
        &self,
        wish: &MembershipWish<'_>,
    ) -> Result<MembershipChange, RoleStoreError> {
        let entry = wish.entry.as_str();
        let groups: Vec<&str> = wish.groups.iter().map(RoleName::as_str).collect();
        let missing = missing_policy(wish.missing);
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&entry, Type::TEXT),
            (&groups, Type::TEXT_ARRAY),
            (&missing, Type::TEXT),
            (&wish.session, Type::TEXT),
        ];
        let rows: Vec<Row> = self.call(CHANGE, &parameters).await?;
        let mut steps = steps(&rows)?;
        steps.extend(
            self.change_replication(wish.entry, wish.replication, wish.session)
                .await?,
        );
        Ok(MembershipChange { steps })
    }
}

impl MembershipChange {
    /// What was changed, one step a text; what was left out is none.
    pub(crate) fn changes(&self) -> Vec<String> {
        let steps = self.steps.iter();
        let changes = steps
            .filter(|step| !matches!(step.action, Action::SkipGroup | Action::SkipReplication));
        changes.map(Step::describe).collect()
    }

    /// Whether anything was changed.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changes().is_empty()
    }
}
