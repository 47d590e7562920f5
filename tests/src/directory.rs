//! What the tests ask of any directory server.

use anyhow::Result;

use crate::config_file::ConfigFile;

/// Who is a member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// A person, by login name.
    Person(&'a str),
    /// A group, by name.
    Group(&'a str),
}

/// A directory with people and groups that tests change.
pub trait DirectoryServer {
    /// What it is, for transcripts.
    fn name(&self) -> &'static str;

    /// Adds a person.
    ///
    /// # Errors
    /// If the server refuses.
    fn add_person(&self, login: &str, password: &str) -> Result<()>;

    /// Removes a person.
    ///
    /// # Errors
    /// If the server refuses.
    fn remove_person(&self, login: &str) -> Result<()>;

    /// Changes a password.
    ///
    /// # Errors
    /// If the server refuses.
    fn set_password(&self, login: &str, password: &str) -> Result<()>;

    /// Adds a group without members.
    ///
    /// # Errors
    /// If the server refuses.
    fn add_group(&self, group: &str) -> Result<()>;

    /// Puts somebody into a group.
    ///
    /// # Errors
    /// If the server refuses.
    fn add_member(&self, group: &str, member: Member<'_>) -> Result<()>;

    /// Takes somebody out of a group.
    ///
    /// # Errors
    /// If the server refuses.
    fn remove_member(&self, group: &str, member: Member<'_>) -> Result<()>;

    /// How many binds of people it has seen since its start, by its own log; `None` where nothing
    /// is asked over a network.
    ///
    /// The service principal's do not count: its connections come and go beside the logins.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn binds(&self) -> Result<Option<u64>>;

    /// Writes the tables of Postern's configuration that name this directory.
    fn configure(&self, config: &mut ConfigFile);
}
