//! The account that servers run as: PostgreSQL refuses to run as root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User, chown, geteuid};

/// The account that servers run as.
#[derive(Debug, Clone)]
pub struct Account {
    drop_to: Option<(Uid, Gid)>,
}

impl Account {
    /// An unprivileged account when we are root (`postgres`, or else `nobody`), our own otherwise.
    ///
    /// # Errors
    /// When we are root and the machine has neither account.
    pub fn unprivileged() -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { drop_to: None });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name)? {
                return Ok(Self {
                    drop_to: Some((user.uid, user.gid)),
                });
            }
        }
        anyhow::bail!("this machine has neither an account postgres nor nobody to run servers as")
    }

    /// Our own account, root or not.
    #[must_use]
    pub fn own() -> Self {
        Self { drop_to: None }
    }

    /// A command that runs `program` as this account and that ends by `signal` (`KILL`, `QUIT`)
    /// when the thread that spawned it ends; see [`crate::process`].
    #[must_use]
    pub fn command(&self, program: &Path, signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", signal]);
        if let Some((uid, gid)) = self.drop_to {
            command.arg("--reuid").arg(uid.to_string());
            command.arg("--regid").arg(gid.to_string());
            command.arg("--clear-groups");
        }
        command.arg("--").arg(program);
        // A server must not depend on where the tests are started, nor on a folder that its
        // account cannot enter.
        command.current_dir("/");
        command
    }

    /// The account's name.
    ///
    /// # Errors
    /// If the system does not know it.
    pub fn name(&self) -> Result<String> {
        let uid = self.drop_to.map_or_else(geteuid, |(uid, _)| uid);
        let user = User::from_uid(uid)?.with_context(|| format!("no account has the id {uid}"))?;
        Ok(user.name)
    }

    /// Gives a file or folder to this account.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn own_path(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.drop_to {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
        Ok(())
    }
}
