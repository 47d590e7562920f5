//! Postern's own file of accounts, filled by `postern local passwd`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::config_file::ConfigFile;
use crate::directory::{DirectoryServer, Member};
use crate::postern;
use crate::process::{run, run_with_input};
use crate::scratch::{Scratch, write_secret};

/// A group that everybody is in and that does not count. With none at all, `postern local passwd`
/// would leave an account in the groups that it had.
const EVERYBODY: &str = "everybody";

/// The file, and what is in it.
#[derive(Debug)]
pub struct Local {
    file: PathBuf,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    passwords: BTreeMap<String, String>,
    /// The groups of each person.
    groups: BTreeMap<String, BTreeSet<String>>,
    /// The groups that are members of each group.
    nested: BTreeMap<String, BTreeSet<String>>,
}

impl Local {
    /// An empty file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let file = scratch.subfolder("local")?.join("accounts.toml");
        write_secret(&file, "")?;
        Ok(Self {
            file,
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

    /// Writes one person, as an administrator does.
    fn write_person(&self, accounts: &Accounts, login: &str) -> Result<()> {
        let password = accounts.passwords.get(login);
        let password = password.with_context(|| format!("{login} is not in the file"))?;
        let mut command = Command::new(postern::binary()?);
        command.args(["local", "passwd", "--file"]).arg(&self.file);
        command.args([login, "--group", EVERYBODY]);
        for group in accounts.groups.get(login).into_iter().flatten() {
            command.args(["--group", group]);
        }
        let output = run_with_input(&mut command, &format!("{password}\n"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("postern local passwd: {said}");
        }
        Ok(())
    }

    /// Writes the groups of groups, for which there is no command.
    fn write_nested(&self, accounts: &Accounts) -> Result<()> {
        let text = fs::read_to_string(&self.file)?;
        let mut in_group = false;
        let others = text.lines().filter(|line| {
            if line.starts_with("[[") {
                in_group = line.starts_with("[[group]]");
            }
            !in_group
        });
        let mut text = others.collect::<Vec<_>>().join("\n");
        for (group, members) in &accounts.nested {
            let members: Vec<String> = members.iter().map(|it| format!("\"{it}\"")).collect();
            let members = members.join(", ");
            text += &format!("\n[[group]]\nname = \"{group}\"\nmembers = [{members}]\n");
        }
        write_secret(&self.file, &text)
    }

    fn change_member(
        &self,
        group: &str,
        member: Member<'_>,
        change: impl FnOnce(&mut BTreeSet<String>, String),
    ) -> Result<()> {
        let mut accounts = self.accounts();
        match member {
            Member::Person(login) => {
                let groups = accounts.groups.entry(login.to_owned()).or_default();
                change(groups, group.to_owned());
                self.write_person(&accounts, login)
            }
            Member::Group(name) => {
                let members = accounts.nested.entry(group.to_owned()).or_default();
                change(members, name.to_owned());
                self.write_nested(&accounts)
            }
        }
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
        self.write_person(&accounts, login)
    }

    fn add_group(&self, _group: &str) -> Result<()> {
        // A group is there as soon as somebody is in it.
        Ok(())
    }

    fn add_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member(group, member, |groups, name| {
            groups.insert(name);
        })
    }

    fn remove_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member(group, member, |groups, name| {
            groups.remove(&name);
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
