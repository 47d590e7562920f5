//! Postern's own file of accounts, filled by `postern local passwd`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::config_file::ConfigFile;
use crate::directory::{DirectoryServer, Member};
use crate::postern;
use crate::process::{run, run_with_input};
use crate::scratch::Scratch;

/// The file, and what is in it.
#[derive(Debug)]
pub struct Local {
    file: PathBuf,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    passwords: BTreeMap<String, String>,
    /// The groups that a person or a group is directly in.
    parents: BTreeMap<String, BTreeSet<String>>,
}

impl Local {
    /// An empty file.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let folder = scratch.subfolder("local")?;
        Ok(Self {
            file: folder.join("accounts.toml"),
            accounts: Mutex::default(),
        })
    }

    /// The file of accounts.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        // A test that panicked meanwhile left the maps whole.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one person with all groups; the file itself knows no groups of groups.
    fn write(&self, accounts: &Accounts, login: &str) -> Result<()> {
        let password = accounts.passwords.get(login);
        let password = password.with_context(|| format!("{login} is not in the file"))?;
        let mut command = Command::new(postern::binary()?);
        command.args(["local", "passwd", "--file"]).arg(&self.file);
        command.arg(login);
        for group in accounts.groups(login) {
            command.args(["--group", &group]);
        }
        let output = run_with_input(&mut command, &format!("{password}\n"))?;
        if !output.status.success() {
            bail!(
                "postern local passwd: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    fn write_all(&self, accounts: &Accounts) -> Result<()> {
        let mut logins = accounts.passwords.keys();
        logins.try_for_each(|login| self.write(accounts, login))
    }

    fn change_member(
        &self,
        group: &str,
        member: Member<'_>,
        change: impl FnOnce(&mut BTreeSet<String>, &str),
    ) -> Result<()> {
        let mut accounts = self.accounts();
        let (Member::Person(name) | Member::Group(name)) = member;
        change(accounts.parents.entry(name.to_owned()).or_default(), group);
        match member {
            Member::Person(login) => self.write(&accounts, login),
            Member::Group(_) => self.write_all(&accounts),
        }
    }
}

impl Accounts {
    /// The groups of a person, those of groups included.
    fn groups(&self, login: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![login.to_owned()];
        while let Some(name) = open.pop() {
            for group in self.parents.get(&name).into_iter().flatten() {
                if found.insert(group.clone()) {
                    open.push(group.clone());
                }
            }
        }
        found
    }
}

impl DirectoryServer for Local {
    fn name(&self) -> &'static str {
        "the local file"
    }

    fn add_person(&self, login: &str, password: &str) -> Result<()> {
        self.set_password(login, password)
    }

    fn remove_person(&self, login: &str) -> Result<()> {
        self.accounts().passwords.remove(login);
        let mut command = Command::new(postern::binary()?);
        command.args(["local", "remove", login, "--file"]);
        run(command.arg(&self.file))?;
        Ok(())
    }

    fn set_password(&self, login: &str, password: &str) -> Result<()> {
        let mut accounts = self.accounts();
        accounts
            .passwords
            .insert(login.to_owned(), password.to_owned());
        self.write(&accounts, login)
    }

    fn add_group(&self, _group: &str) -> Result<()> {
        // A group is there as soon as somebody is in it.
        Ok(())
    }

    fn add_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member(group, member, |groups, name| {
            groups.insert(name.to_owned());
        })
    }

    fn remove_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member(group, member, |groups, name| {
            groups.remove(name);
        })
    }

    fn binds(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn configure(&self, config: &mut ConfigFile) {
        config
            .set("directory", "kind", "local")
            .set("local", "file", &self.file);
    }
}
