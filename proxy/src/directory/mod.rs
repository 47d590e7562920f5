//! Who knows the passwords and the groups: LDAP servers, the local file, or both in order.

mod breaker;
mod connection;
mod endpoint;
mod entry;
mod error;
pub(crate) mod feed;
mod groups;
mod guard;
mod ldap;
pub(crate) mod local;
mod probe;
mod replace;
mod servers;
mod starttls;

use std::time::SystemTime;

use postern_core::login_name::LoginName;
use postern_core::principal::{EntryId, Principal};
use postern_core::scram::{ClientVerified, Decoys};
use postern_core::secret::Secret;

pub(crate) use self::breaker::Breaker;
pub(crate) use self::error::{DirectoryError, LocalError};
use self::ldap::LdapDirectory;
pub(crate) use self::local::LocalChallenge;
use self::local::LocalFile;
pub(crate) use self::local::is_local;
use crate::config::{Config, Directory, Local, LocalOrder};

/// Evidence that a directory accepted this person's password.
///
/// Only [`Directories::authenticate`] and [`Directories::proven`] make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    principal: Principal,
}

impl Verified {
    /// Whose password it was, when the evidence has served.
    pub(crate) fn into_principal(self) -> Principal {
        self.principal
    }
}

/// What a directory says of a person when nobody logs in; it proves nothing about anybody who
/// asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    /// The entry and its groups.
    pub(crate) principal: Principal,
    /// When the account will be refused by the passing of time alone, which no feed tells: it
    /// expires, its password does, or its hours of work end.
    pub(crate) refused_from: Option<SystemTime>,
}

/// The sources that may be asked, in the configured order.
///
/// Each login thread has its own: the connections belong to the thread's runtime.
pub(crate) struct Directories {
    sources: Sources,
}

enum Sources {
    Ldap(LdapDirectory),
    Local(LocalFile),
    /// A name in the file is never asked of the directory.
    LocalFirst(LocalFile, LdapDirectory),
    /// The file is asked for names that the directory does not know, and when it is out of reach.
    LocalLast(LdapDirectory, LocalFile),
    /// The file is asked for names with its domain, and for no others.
    ByDomain(LdapDirectory, LocalFile, String),
}

impl Directories {
    /// The sources of `config`. No connection is made yet.
    ///
    /// # Errors
    ///
    /// When a file is missing or unusable, or a filter is malformed.
    pub(crate) fn new(config: &Config) -> Result<Self, DirectoryError> {
        Self::of(&config.directory, config.local.as_ref())
    }

    fn of(directory: &Directory, local: Option<&Local>) -> Result<Self, DirectoryError> {
        let file = local.map(|l| LocalFile::new(&l.file)).transpose()?;
        let order = local.map_or(LocalOrder::Last, |l| l.order);
        let domain = local.and_then(|l| l.domain.as_ref());
        let sources = match (directory, file) {
            (Directory::Local, Some(file)) => Sources::Local(file),
            (Directory::Local, None) => return Err(DirectoryError::NoSource),
            (Directory::Ldap(ldap), None) => Sources::Ldap(LdapDirectory::new(ldap)?),
            (Directory::Ldap(ldap), Some(file)) if domain.is_some() => {
                let domain = domain.cloned().unwrap_or_default();
                Sources::ByDomain(LdapDirectory::new(ldap)?, file, domain)
            }
            (Directory::Ldap(ldap), Some(file)) => match order {
                LocalOrder::First => Sources::LocalFirst(file, LdapDirectory::new(ldap)?),
                LocalOrder::Last => Sources::LocalLast(LdapDirectory::new(ldap)?, file),
            },
        };
        Ok(Self { sources })
    }

    /// Checks the password and reads the groups.
    ///
    /// The first source that knows the name decides: its wrong password is final.
    /// An empty password, or one with a NUL byte, is refused without asking anybody, because a
    /// server may take it for an unauthenticated bind and answer success (RFC 4513, 5.1.2).
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]; [`DirectoryError::is_outage`] tells whether the person was judged.
    pub(crate) async fn authenticate(
        &self,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
        breaker: &Breaker,
    ) -> Result<Verified, DirectoryError> {
        if password.expose().is_empty() || password.expose().contains(&0) {
            return Err(DirectoryError::WrongPassword);
        }
        let name = login.name();
        let ask =
            async |ldap: &LdapDirectory| breaker.pass(ldap.authenticate(login, password)).await;
        let principal = match &self.sources {
            Sources::Ldap(ldap) => ask(ldap).await?,
            Sources::Local(file) => file.authenticate(name, password).await?,
            Sources::LocalFirst(file, ldap) => {
                if file.accounts()?.knows(name) {
                    file.authenticate(name, password).await?
                } else {
                    ask(ldap).await?
                }
            }
            Sources::LocalLast(ldap, file) => match ask(ldap).await {
                Ok(principal) => principal,
                Err(error) => {
                    last_resort(file, name, error)?
                        .authenticate(name, password)
                        .await?
                }
            },
            Sources::ByDomain(_, file, domain) if login.domain() == Some(domain) => {
                file.authenticate(name, password).await?
            }
            Sources::ByDomain(ldap, ..) => ask(ldap).await?,
        };
        Ok(Verified { principal })
    }

    /// What a name of the local file is challenged with: a decoy, when nobody has it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the file cannot be used, whatever the name is.
    pub(crate) fn challenge(
        &self,
        name: &str,
        decoys: &Decoys,
    ) -> Result<LocalChallenge, DirectoryError> {
        self.file()?.challenge(name, decoys)
    }

    /// Whose password was proved to be known, when the challenge was of an account.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: nobody has the name, the account was changed or refused meanwhile, or
    /// the file cannot be used.
    pub(crate) fn proven(
        &self,
        challenge: &LocalChallenge,
        _verified: ClientVerified,
    ) -> Result<Verified, DirectoryError> {
        let principal = self.file()?.challenged(challenge)?;
        Ok(Verified { principal })
    }

    fn file(&self) -> Result<&LocalFile, DirectoryError> {
        match &self.sources {
            Sources::Ldap(_) => Err(DirectoryError::NoSource),
            Sources::Local(file)
            | Sources::LocalFirst(file, _)
            | Sources::LocalLast(_, file)
            | Sources::ByDomain(_, file, _) => Ok(file),
        }
    }

    /// The entry and its groups, with the way by which each was reached. No password is needed,
    /// so the answer proves nothing about who asks.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]; also when the account's own attributes say that it may not log in.
    pub(crate) async fn look_up(&self, login: &LoginName) -> Result<Principal, DirectoryError> {
        let name = login.name();
        match &self.sources {
            Sources::Ldap(ldap) => ldap.look_up(login).await,
            Sources::Local(file) => file.look_up(name),
            Sources::LocalFirst(file, ldap) => {
                if file.accounts()?.knows(name) {
                    file.look_up(name)
                } else {
                    ldap.look_up(login).await
                }
            }
            Sources::LocalLast(ldap, file) => match ldap.look_up(login).await {
                Ok(principal) => Ok(principal),
                Err(error) => last_resort(file, name, error)?.look_up(name),
            },
            Sources::ByDomain(_, file, domain) if login.domain() == Some(domain) => {
                file.look_up(name)
            }
            Sources::ByDomain(ldap, ..) => ldap.look_up(login).await,
        }
    }

    /// What the directory says now of the person with this identifier, whatever their name is.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: [`DirectoryError::EntryGone`] and [`DirectoryError::AccountRefused`] are
    /// the directory's word; when [`DirectoryError::is_outage`], nothing is known.
    pub(crate) async fn look_up_entry(&self, id: &EntryId) -> Result<Person, DirectoryError> {
        let (ldap, file) = match &self.sources {
            Sources::Ldap(ldap) => (Some(ldap), None),
            Sources::Local(file) => (None, Some(file)),
            Sources::LocalFirst(file, ldap)
            | Sources::LocalLast(ldap, file)
            | Sources::ByDomain(ldap, file, _) => (Some(ldap), Some(file)),
        };
        let is_local = is_local(id);
        let (principal, refused_from) = match (ldap, file) {
            (_, Some(file)) if is_local => (file.look_up_entry(id)?, None),
            (Some(ldap), _) if !is_local => ldap.look_up_entry(id).await?,
            _ => return Err(DirectoryError::EntryGone { id: id.clone() }),
        };
        Ok(Person {
            principal,
            refused_from,
        })
    }

    /// Whether this identifier is of a source that is configured here.
    pub(crate) fn is_asked_about(&self, id: &EntryId) -> bool {
        let is_local = is_local(id);
        match &self.sources {
            Sources::Ldap(_) => !is_local,
            Sources::Local(_) => is_local,
            Sources::LocalFirst(..) | Sources::LocalLast(..) | Sources::ByDomain(..) => true,
        }
    }

    /// Whether an entry of the directory is a group, or may have been one.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`], when that cannot be said.
    pub(crate) async fn is_group(&self, dn: &str) -> Result<bool, DirectoryError> {
        match &self.sources {
            Sources::Ldap(ldap)
            | Sources::LocalFirst(_, ldap)
            | Sources::LocalLast(ldap, _)
            | Sources::ByDomain(ldap, ..) => ldap.is_group(dn).await,
            Sources::Local(_) => Ok(true),
        }
    }

    /// Tries every part that a login needs, for `check`.
    pub(crate) async fn probe(&self) -> Vec<crate::check::Probe> {
        match &self.sources {
            Sources::Ldap(ldap) => probe::ldap(ldap).await,
            Sources::Local(file) => vec![probe::local(file)],
            Sources::LocalFirst(file, ldap) => {
                let mut probes = vec![probe::local(file)];
                probes.extend(probe::ldap(ldap).await);
                probes
            }
            Sources::LocalLast(ldap, file) | Sources::ByDomain(ldap, file, _) => {
                let mut probes = probe::ldap(ldap).await;
                probes.push(probe::local(file));
                probes
            }
        }
    }
}

/// The file, when it may be asked after the directory said `error`: the directory does not know
/// the name or is out of reach, and the file knows it. Otherwise the directory's word stands.
fn last_resort<'a>(
    file: &'a LocalFile,
    name: &str,
    error: DirectoryError,
) -> Result<&'a LocalFile, DirectoryError> {
    let open = error.is_outage() || matches!(error, DirectoryError::UnknownLogin);
    if !open {
        return Err(error);
    }
    match file.accounts() {
        Ok(accounts) if accounts.knows(name) => Ok(file),
        Ok(_) => Err(error),
        Err(unusable) => {
            tracing::warn!(error = %unusable, "the local file could not be asked");
            Err(error)
        }
    }
}

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
