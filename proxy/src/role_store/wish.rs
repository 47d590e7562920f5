//! What the role store is asked for, and its form in a call.

use postern_core::mapping::RoleName;
use postern_core::principal::EntryId;
use postern_core::scram::Verifier;
use postern_core::secret::Secret;
use tokio_postgres::types::{ToSql, Type};

use crate::config::MissingGroup;

/// What the directory says a person's role should be.
#[derive(Clone)]
pub(crate) struct Wish {
    /// The session that asks, for the change log.
    pub(crate) session: String,
    /// The role's name.
    pub(crate) role: RoleName,
    /// The directory entry that the role belongs to, now and for good.
    pub(crate) directory_id: EntryId,
    /// What was typed.
    pub(crate) login: String,
    /// The entry's present name.
    pub(crate) dn: String,
    /// The roles of the groups that count.
    pub(crate) groups: Vec<RoleName>,
    /// Whether the groups open replication connections.
    pub(crate) replication: bool,
    /// The role's secret, as PostgreSQL keeps it.
    pub(crate) verifier: Verifier,
    /// What happens to a group whose role does not exist.
    pub(crate) missing: MissingGroup,
    /// Write the secret even if it seems to be the same: somebody changed it behind our back.
    pub(crate) force_secret: bool,
}

/// A wish in the form in which it is bound to the parameters of a call.
pub(super) struct Bound<'a> {
    wish: &'a Wish,
    role: &'a str,
    directory_id: &'a str,
    groups: Vec<&'a str>,
    verifier: Secret<String>,
    missing: &'static str,
}

impl<'a> Bound<'a> {
    pub(super) fn new(wish: &'a Wish) -> Self {
        Self {
            wish,
            role: wish.role.as_str(),
            directory_id: wish.directory_id.as_str(),
            groups: wish.groups.iter().map(RoleName::as_str).collect(),
            verifier: Secret::new(wish.verifier.to_string()),
            missing: missing_policy(wish.missing),
        }
    }

    /// The parameters in the order of `apply_login`; `plan_login` has all but the last.
    pub(super) fn list(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![
            (&self.role, Type::TEXT),
            (&self.directory_id, Type::TEXT),
            (&self.wish.login, Type::TEXT),
            (&self.wish.dn, Type::TEXT),
            (&self.groups, Type::TEXT_ARRAY),
            (self.verifier.expose(), Type::TEXT),
            (&self.missing, Type::TEXT),
            (&self.wish.force_secret, Type::BOOL),
            (&self.wish.session, Type::TEXT),
        ]
    }
}

/// The policy for groups without a role as the schema writes it.
pub(super) const fn missing_policy(missing: MissingGroup) -> &'static str {
    match missing {
        MissingGroup::Create => "create",
        MissingGroup::Skip => "skip",
        MissingGroup::Refuse => "refuse",
    }
}
