//! An identity that a directory verified, and the groups that the directory says it is in.

use std::fmt;

/// Where a directory entry stands, independent of its name.
///
/// Active Directory: `objectGUID`; OpenLDAP and others: `entryUUID` (RFC 4530); the local file:
/// the account's own identifier.
/// Two people who had the same name at different times have different identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(String);

impl EntryId {
    /// An identifier in its canonical text form: the kind, a colon, and the value, for example
    /// `guid:0f8fad5b-d9cb-469f-a165-70867728950e`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The canonical text form, as it is stored in `postern.managed_role`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A person as the directory knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The entry's identifier, which survives a rename.
    pub id: EntryId,
    /// The entry's distinguished name, or `local:NAME` for an account of the local file.
    pub dn: String,
    /// The canonical login name: the directory's own spelling, not the client's.
    /// It becomes the role name, after the choice of lower-casing.
    pub name: String,
    /// The groups, direct and (where configured) nested, the primary group included.
    pub groups: Vec<Group>,
    /// Tells one state of the account from the next, for as far as the password goes: it is
    /// another one after the password was changed. None where the directory does not say.
    pub version: Option<String>,
}

/// A group that a principal is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The group's canonical name (`cn` by default).
    pub name: String,
    /// The group's distinguished name, or `local:NAME`.
    pub dn: String,
    /// The groups between the person and this one, nearest first; empty for a direct membership.
    /// When the directory resolves nesting by itself, the path may be unknown: then it is empty
    /// and `direct` is false.
    pub path: Vec<String>,
    /// True when the entry itself is a member; false when it came by nesting.
    pub direct: bool,
}
