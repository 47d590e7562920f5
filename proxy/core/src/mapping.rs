//! Which groups count, and which roles they become.

mod rules;

use std::fmt;

pub use rules::{
    Dropped, DroppedWhy, Grant, Grants, GroupRule, GroupRuleError, GroupRules, Matcher,
};

use crate::limits::ROLE_NAME_BYTES_MAX;
use crate::login_name::is_hidden;

/// A name that may be given to a role of a person or of a group.
///
/// PostgreSQL compares role names byte by byte, so names that differ only by case are different.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(String);

/// The rule that a role name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RoleNameError {
    /// There is no text.
    #[error("the role name is empty")]
    Empty,
    /// PostgreSQL would truncate it, and two names could become one role.
    #[error("the role name is longer than {ROLE_NAME_BYTES_MAX} bytes")]
    TooLong,
    /// NUL, another control character or an invisible one: it could not be told from another
    /// role in a list, and would forge lines of the server's log.
    #[error("the role name has a control character or an invisible one")]
    HiddenCharacter,
    /// `pg_` is PostgreSQL's own prefix; `public` and `none` are words of `GRANT` and `SET ROLE`.
    #[error("the role name is reserved by PostgreSQL")]
    Reserved,
}

impl RoleName {
    /// Takes a name as it is; nothing is truncated, folded or repaired.
    ///
    /// The reserved names are compared with case, as PostgreSQL does (`IsReservedName`, `gram.y`):
    /// `PG_readers` is an ordinary role.
    ///
    /// # Errors
    ///
    /// The first rule that the name breaks.
    pub fn new(name: &str) -> Result<Self, RoleNameError> {
        if name.is_empty() {
            return Err(RoleNameError::Empty);
        }
        if name.len() > ROLE_NAME_BYTES_MAX {
            return Err(RoleNameError::TooLong);
        }
        if name.chars().any(is_hidden) {
            return Err(RoleNameError::HiddenCharacter);
        }
        if name.starts_with("pg_") || name == "public" || name == "none" {
            return Err(RoleNameError::Reserved);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for RoleName {
    type Error = RoleNameError;

    fn try_from(name: &str) -> Result<Self, RoleNameError> {
        Self::new(name)
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person's role name, made from the directory's canonical login name.
///
/// `lowercase` folds by Unicode's rules before the length is checked.
/// Two canonical names that fold to one role are told apart by the role store, which knows the
/// directory entry that a role belongs to.
///
/// # Errors
///
/// As [`RoleName::new`].
pub fn person_role(name: &str, lowercase: bool) -> Result<RoleName, RoleNameError> {
    if lowercase {
        RoleName::new(&name.to_lowercase())
    } else {
        RoleName::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_63_bytes_is_a_role_and_one_of_64_is_refused() {
        let whole = "é".repeat(31) + "x";
        assert_eq!(
            RoleName::new(&whole).as_ref().map(RoleName::as_str),
            Ok(whole.as_str())
        );
        assert_eq!(RoleName::new(&"é".repeat(32)), Err(RoleNameError::TooLong));
    }

    #[test]
    fn names_that_postgresql_keeps_for_itself_are_refused() {
        for name in ["pg_monitor", "pg_", "public", "none"] {
            assert_eq!(RoleName::new(name), Err(RoleNameError::Reserved), "{name}");
        }
        for name in [
            "pgadmin",
            "PG_readers",
            "Public",
            "postgres",
            "current_user",
        ] {
            assert!(RoleName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_that_cannot_be_read_aloud_are_refused() {
        assert_eq!(RoleName::new(""), Err(RoleNameError::Empty));
        for name in ["a\0b", "a\nb", "a\u{1b}[2Jb", "a\u{200b}b", "a\u{202e}b"] {
            assert_eq!(
                RoleName::new(name),
                Err(RoleNameError::HiddenCharacter),
                "{name:?}"
            );
        }
    }

    #[test]
    fn lower_casing_is_a_choice_and_happens_before_the_rules() {
        let role = |name, lowercase| person_role(name, lowercase).map(|role| role.to_string());
        assert_eq!(role("Ärzte.X", true), Ok("ärzte.x".to_owned()));
        assert_eq!(role("Ärzte.X", false), Ok("Ärzte.X".to_owned()));
        assert_eq!(role("PG_Monitor", true), Err(RoleNameError::Reserved));
        // One more byte than before: U+0130 folds to two characters.
        let long = "\u{130}".repeat(30);
        assert_eq!(role(&long, true), Err(RoleNameError::TooLong));
    }
}
