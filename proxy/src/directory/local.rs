//! The local file of accounts: the directory of development, and the way in when the real one is
//! gone.
//!
//! ```toml
//! [[account]]
//! name = "alice"
//! id = "0d8f1c9e-..."       # any text that no other account ever has
//! verifier = "SCRAM-SHA-256$4096:...$...:..."
//! groups = ["db-readers"]
//! disabled = false
//!
//! [[group]]
//! name = "db-all"
//! members = ["db-readers"]  # groups whose members are members of this one too
//! ```

mod challenge;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use postern_core::directory::account::AccountRefusal;
use postern_core::limits::SCRAM_ITERATIONS_MAX;
use postern_core::principal::{EntryId, Group, Principal};
use postern_core::scram::{Shape, Verifier};
use postern_core::secret::Secret;
use serde::{Deserialize, Serialize};

pub(crate) use self::challenge::LocalChallenge;
use self::challenge::version_of;
use super::error::{DirectoryError, LocalError};
use crate::limits::{DIRECTORY_FILE_BYTES_MAX, NESTED_DEPTH_MAX};

/// What the identifiers of its accounts begin with.
const LOCAL: &str = "local:";

/// Whether an entry is of the local file, whose accounts the directory does not know.
pub(crate) fn is_local(id: &EntryId) -> bool {
    id.as_str().starts_with(LOCAL)
}

/// The file, read again whenever it has changed.
pub(crate) struct LocalFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Arc<Accounts>)>>,
}

/// What tells that a file has changed: inode, length, and time of change with nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl LocalFile {
    /// The file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be used now; later troubles are errors of the login that meets them.
    pub(crate) fn new(path: &Path) -> Result<Self, LocalError> {
        let file = Self {
            path: path.to_owned(),
            last: Mutex::new(None),
        };
        file.accounts()?;
        Ok(file)
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The accounts as the file has them now.
    ///
    /// # Errors
    ///
    /// [`LocalError`]; an old content is not used in place of one that cannot be read, because an
    /// account may have been disabled since.
    pub(super) fn accounts(&self) -> Result<Arc<Accounts>, LocalError> {
        let metadata = fs::metadata(&self.path).map_err(|e| file_error(&self.path, &e))?;
        let stamp = (
            metadata.ino(),
            metadata.len(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        );
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, accounts)) = &*last
            && *seen == stamp
        {
            return Ok(Arc::clone(accounts));
        }
        *last = None;
        let accounts = File::read(&self.path)?.check();
        let accounts = Arc::new(accounts.map_err(|why| content_error(&self.path, why))?);
        *last = Some((stamp, Arc::clone(&accounts)));
        Ok(accounts)
    }

    /// Checks a password.
    ///
    /// An unknown name costs as much time as a known one, and whether an account is disabled is
    /// told only to who knows its password.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: unknown, wrong, refused, or the file cannot be used.
    pub(super) async fn authenticate(
        &self,
        name: &str,
        password: &Secret<Vec<u8>>,
    ) -> Result<Principal, DirectoryError> {
        let accounts = self.accounts()?;
        let account = accounts.find(name);
        let Some(verifier) = account
            .map(|a| &a.verifier)
            .or(accounts.decoy.as_ref())
            .cloned()
        else {
            return Err(DirectoryError::UnknownLogin);
        };
        let password = password.clone();
        // Milliseconds of hashing must not hold up the other logins of this thread.
        let right = tokio::task::spawn_blocking(move || verifier.check(password.expose())).await;
        match (account, right) {
            (None, _) => Err(DirectoryError::UnknownLogin),
            (Some(account), Ok(true)) => accounts.principal(account),
            (Some(_), Ok(false) | Err(_)) => Err(DirectoryError::WrongPassword),
        }
    }

    /// The account and its groups, without a password.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: unknown, refused, or the file cannot be used.
    pub(super) fn look_up(&self, name: &str) -> Result<Principal, DirectoryError> {
        let accounts = self.accounts()?;
        accounts.principal(accounts.find(name).ok_or(DirectoryError::UnknownLogin)?)
    }

    /// The account with this identifier and its groups, whatever it is called now.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: gone, refused, or the file cannot be used.
    pub(crate) fn look_up_entry(&self, id: &EntryId) -> Result<Principal, DirectoryError> {
        let accounts = self.accounts()?;
        let own = id.as_str().strip_prefix(LOCAL);
        let mut all = accounts.accounts.values();
        let found = all.find(|account| own == Some(account.id.as_str()));
        let gone = || DirectoryError::EntryGone { id: id.clone() };
        accounts.principal(found.ok_or_else(gone)?)
    }
}

/// The content of the file, checked.
#[derive(Debug)]
pub(super) struct Accounts {
    /// By name in lower case: two names must differ by more than case, as in a directory.
    accounts: HashMap<String, Account>,
    /// By the name of a group, the groups that it is a member of.
    parents: HashMap<String, Vec<String>>,
    /// An unknown name's password is checked against this, for the time that it takes.
    decoy: Option<Verifier>,
    /// What verifiers look like, each shape once and in order.
    shapes: Vec<Shape>,
}

#[derive(Debug)]
struct Account {
    name: String,
    id: String,
    verifier: Verifier,
    groups: Vec<String>,
    disabled: bool,
}

impl Accounts {
    /// Whether the file has an account of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// How many accounts there are.
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    fn find(&self, name: &str) -> Option<&Account> {
        self.accounts.get(&name.to_lowercase())
    }

    fn principal(&self, account: &Account) -> Result<Principal, DirectoryError> {
        if account.disabled {
            return Err(DirectoryError::AccountRefused(AccountRefusal::Disabled));
        }
        Ok(Principal {
            id: EntryId::new(format!("{LOCAL}{}", account.id)),
            dn: format!("{LOCAL}{}", account.name),
            name: account.name.clone(),
            groups: self.groups(&account.groups),
            version: Some(version_of(&account.verifier)),
        })
    }

    /// The groups of `direct` and all above them, each once, with the shortest way to it.
    fn groups(&self, direct: &[String]) -> Vec<Group> {
        let mut seen = HashSet::new();
        let mut groups = Vec::new();
        let mut level: Vec<(&str, Vec<String>)> = direct
            .iter()
            .map(|name| (name.as_str(), Vec::new()))
            .collect();
        for depth in 0..=NESTED_DEPTH_MAX {
            let mut next = Vec::new();
            for (name, path) in level {
                if !seen.insert(name) {
                    continue;
                }
                let mut way_up = path.clone();
                way_up.push(name.to_owned());
                for parent in self.parents.get(name).into_iter().flatten() {
                    next.push((parent.as_str(), way_up.clone()));
                }
                let (name, dn) = (name.to_owned(), format!("{LOCAL}{name}"));
                groups.push(Group {
                    name,
                    dn,
                    path,
                    direct: depth == 0,
                });
            }
            level = next;
        }
        groups.sort_unstable();
        groups
    }
}

/// What is kept of an account's password, if the file can be read and has the account.
pub(crate) fn verifier_of(path: &Path, name: &str) -> Option<Verifier> {
    let accounts = LocalFile::new(path).ok()?.accounts().ok()?;
    accounts.find(name).map(|it| it.verifier.clone())
}

/// Sets the password of an account, which is made if there is none; everything else in the file
/// stays, apart from comments.
///
/// `groups` replaces the account's groups when given; `id` is used for a new account only.
/// Disabled accounts stay disabled.
///
/// # Errors
///
/// [`LocalError`] when the file cannot be read or written.
pub(crate) fn set_password(
    path: &Path,
    name: &str,
    groups: Option<&[String]>,
    verifier: &Verifier,
    id: &str,
) -> Result<(), LocalError> {
    let mut file = if path.exists() {
        File::read(path)?
    } else {
        File::default()
    };
    let known = file
        .account
        .iter_mut()
        .find(|a| a.name.to_lowercase() == name.to_lowercase());
    if let Some(account) = known {
        account.verifier = verifier.to_string();
        if let Some(groups) = groups {
            account.groups = groups.to_vec();
        }
    } else {
        file.account.push(FileAccount {
            name: name.to_owned(),
            id: id.to_owned(),
            verifier: verifier.to_string(),
            groups: groups.unwrap_or_default().to_vec(),
            disabled: false,
        });
    }
    file.write(path)
}

/// Removes an account; its name may be given to somebody else then, who gets another identifier.
///
/// # Errors
///
/// [`LocalError::NoAccount`] when there is none, and when the file cannot be read or written.
pub(crate) fn remove(path: &Path, name: &str) -> Result<(), LocalError> {
    let mut file = File::read(path)?;
    let before = file.account.len();
    file.account
        .retain(|a| a.name.to_lowercase() != name.to_lowercase());
    if file.account.len() == before {
        return Err(LocalError::NoAccount {
            path: path.to_owned(),
            name: name.to_owned(),
        });
    }
    file.write(path)
}

/// The file as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    account: Vec<FileAccount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    group: Vec<FileGroup>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAccount {
    name: String,
    id: String,
    verifier: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGroup {
    name: String,
    #[serde(default)]
    members: Vec<String>,
}

impl File {
    fn read(path: &Path) -> Result<Self, LocalError> {
        let mut file = fs::File::open(path).map_err(|e| file_error(path, &e))?;
        let metadata = file.metadata().map_err(|e| file_error(path, &e))?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(LocalError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        if !metadata.is_file() || metadata.len() > DIRECTORY_FILE_BYTES_MAX {
            let why = format!("is not a file of at most {DIRECTORY_FILE_BYTES_MAX} bytes");
            return Err(content_error(path, why));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|e| file_error(path, &e))?;
        toml::from_str(&text).map_err(|e| content_error(path, e.to_string()))
    }

    fn check(self) -> Result<Accounts, String> {
        let mut accounts = HashMap::new();
        let mut ids = HashSet::new();
        let mut decoy = None;
        for FileAccount {
            name,
            id,
            verifier,
            groups,
            disabled,
        } in self.account
        {
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(format!("account {name:?}: not a name"));
            }
            if id.is_empty() || !ids.insert(id.clone()) {
                return Err(format!(
                    "account {name}: its id is empty, or another account's too"
                ));
            }
            let checked: Verifier = verifier
                .parse()
                .map_err(|error| format!("account {name}: {error}"))?;
            if iterations(&verifier).is_none_or(|n| n > SCRAM_ITERATIONS_MAX) {
                return Err(format!(
                    "account {name}: verifier: over {SCRAM_ITERATIONS_MAX} iterations"
                ));
            }
            decoy.get_or_insert_with(|| checked.clone());
            let key = name.to_lowercase();
            let account = Account {
                name: name.clone(),
                id,
                verifier: checked,
                groups,
                disabled,
            };
            if accounts.insert(key, account).is_some() {
                return Err(format!(
                    "account {name}: is there twice (case does not count)"
                ));
            }
        }
        let mut parents: HashMap<String, Vec<String>> = HashMap::new();
        for group in self.group {
            for member in group.members {
                parents.entry(member).or_default().push(group.name.clone());
            }
        }
        let shapes = accounts.values().map(|it: &Account| it.verifier.shape());
        let shapes: BTreeSet<Shape> = shapes.collect();
        Ok(Accounts {
            shapes: shapes.into_iter().collect(),
            accounts,
            parents,
            decoy,
        })
    }

    /// Replaces the file in one step: a reader sees the old content or the new one, and a crash
    /// leaves one of them.
    fn write(self, path: &Path) -> Result<(), LocalError> {
        let text = toml::to_string(&self).map_err(|e| content_error(path, e.to_string()))?;
        self.check().map_err(|why| content_error(path, why))?;
        // A link stays a link: what it points to is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        super::replace::replace_file(&target, text.as_bytes()).map_err(|e| file_error(path, &e))
    }
}

/// The iterations of a verifier in text form, `SCRAM-SHA-256$<iterations>:...`.
fn iterations(verifier: &str) -> Option<u32> {
    verifier.split('$').nth(1)?.split(':').next()?.parse().ok()
}

fn file_error(path: &Path, error: &std::io::Error) -> LocalError {
    LocalError::File {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn content_error(path: &Path, why: String) -> LocalError {
    LocalError::Content {
        path: path.to_owned(),
        why,
    }
}
