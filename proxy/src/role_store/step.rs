//! The steps of a plan, as the schema's routines return them.

use tokio_postgres::Row;

use super::column;
use super::error::RoleStoreError;

/// One row of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) action: Action,
    /// To which role.
    pub(crate) target: String,
    /// Why, or what an administrator should know. A refusal begins with its code.
    pub(crate) note: String,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Make the person's role.
    CreateRole,
    /// Give LOGIN back to a role that Postern had disabled.
    EnableRole,
    /// Remember a changed login, DN or name.
    RecordEntry,
    /// Write the role's secret.
    SetSecret,
    /// Make the role of a group.
    CreateGroup,
    /// Make the person a member.
    Grant,
    /// Take back a membership that Postern granted.
    Revoke,
    /// Leave a group out. Changes nothing.
    SkipGroup,
    /// Give the role REPLICATION.
    AllowReplication,
    /// Take REPLICATION away.
    DenyReplication,
    /// Leave REPLICATION as it is, because PostgreSQL does not let Postern change it.
    SkipReplication,
    /// Refuse the login. Only in plans: [`RoleStore::apply`] returns an error instead.
    Refuse,
}

impl Step {
    /// The step in one line, as the audit file has it: `grant hr_data`.
    pub(crate) fn describe(&self) -> String {
        match self.note.as_str() {
            "" => format!("{} {}", self.action.as_str(), self.target),
            note => format!("{} {} ({note})", self.action.as_str(), self.target),
        }
    }
}

impl Action {
    /// The action as the schema and the audit file write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CreateRole => "create_role",
            Self::EnableRole => "enable_role",
            Self::RecordEntry => "record_entry",
            Self::SetSecret => "set_secret",
            Self::CreateGroup => "create_group",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::SkipGroup => "skip_group",
            Self::AllowReplication => "allow_replication",
            Self::DenyReplication => "deny_replication",
            Self::SkipReplication => "skip_replication",
            Self::Refuse => "refuse",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::CreateRole,
            Self::EnableRole,
            Self::RecordEntry,
            Self::SetSecret,
            Self::CreateGroup,
            Self::Grant,
            Self::Revoke,
            Self::SkipGroup,
            Self::AllowReplication,
            Self::DenyReplication,
            Self::SkipReplication,
            Self::Refuse,
        ]
        .into_iter()
        .find(|action| action.as_str() == text)
    }
}

/// The rows of a plan, or of what was done.
pub(super) fn steps(rows: &[Row]) -> Result<Vec<Step>, RoleStoreError> {
    rows.iter()
        .map(|row| {
            let action: &str = column(row, 0)?;
            Ok(Step {
                action: Action::parse(action)
                    .ok_or_else(|| RoleStoreError::UnknownAction(action.to_owned()))?,
                target: column(row, 1)?,
                note: column(row, 2)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_read_as_it_is_written() {
        for text in [
            "create_role",
            "enable_role",
            "record_entry",
            "set_secret",
            "create_group",
            "grant",
            "revoke",
            "skip_group",
            "allow_replication",
            "deny_replication",
            "skip_replication",
            "refuse",
        ] {
            assert_eq!(Action::parse(text).map(Action::as_str), Some(text));
        }
        assert_eq!(Action::parse("drop_role"), None);
    }
}
