//! The perimeter, by its commands: `postern policy load`, `status` and so on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::account::Account;
use crate::config_file::ConfigFile;
use crate::network::Namespace;
use crate::network::namespace::inside;
use crate::pins::Pins;
use crate::postern::binary;
use crate::process::{Server, run_any, through};
use crate::scratch::Scratch;

/// The longest that a command may take, in seconds: far above what any needs.
const COMMAND_LIMIT_S: u32 = 30;

/// A policy that belongs to one machine: its configuration, and the commands on it. What is
/// loaded is unloaded with this.
#[derive(Debug)]
pub struct Policy {
    namespace: PathBuf,
    config: PathBuf,
    pins: Pins,
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    /// With what it ended.
    pub code: i32,
    /// What it wrote for programs or people.
    pub stdout: String,
    /// What it wrote beside that.
    pub stderr: String,
}

impl Policy {
    /// Writes the configuration of the machine that a namespace stands for; `[perimeter]` gets a
    /// folder for its pins. Nothing is loaded.
    ///
    /// # Errors
    /// If we are not root, or the file cannot be written.
    pub fn new(scratch: &Scratch, namespace: &Namespace, config: &ConfigFile) -> Result<Self> {
        let policy = Self {
            namespace: namespace.file(),
            config: scratch.subfolder("policy")?.join("postern.toml"),
            pins: Pins::new()?,
        };
        policy.configure(config)?;
        Ok(policy)
    }

    /// Writes another configuration; the folder of the pins stays.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, config: &ConfigFile) -> Result<()> {
        let mut config = config.clone();
        config.set("perimeter", "pins", self.pins.path());
        config.set("perimeter", "state_file", self.state_file().as_path());
        fs::write(&self.config, config.to_string())?;
        Ok(())
    }

    /// A command of `postern policy`, on the machine.
    ///
    /// # Errors
    /// If the program is not built.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        Ok(self.finished(Command::new(binary()?), words))
    }

    /// Starts a command that goes on, as `watch` does; it ends with us.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, words: &[&str], log: &Path) -> Result<Server> {
        let command = Account::own().command(&binary()?, "KILL");
        let command = self.finished(command, words);
        Server::spawn("postern policy", command, log, Signal::SIGTERM)
    }

    fn finished(&self, mut command: Command, words: &[&str]) -> Command {
        command.arg("policy").args(words);
        command.arg("--config").arg(&self.config);
        inside(&self.namespace, &command)
    }

    /// Runs a command to its end, whatever that is.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, words: &[&str]) -> Result<Said> {
        said(&self.command(words)?)
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub fn must(&self, words: &[&str]) -> Result<Said> {
        let said = self.run(words)?;
        ensure!(said.code == 0, "policy {}: {said:?}", words.join(" "));
        Ok(said)
    }

    /// Loads it, or replaces what is loaded; then `status` must find nothing amiss.
    ///
    /// # Errors
    /// If that fails.
    pub fn load(&self) -> Result<()> {
        self.must(&["load"])?;
        self.must(&["status"])?;
        Ok(())
    }

    /// Opens the perimeter.
    ///
    /// # Errors
    /// If that fails.
    pub fn unload(&self) -> Result<()> {
        self.must(&["unload", "--yes"])?;
        Ok(())
    }

    /// What `status --json` says, and with what it ends.
    ///
    /// # Errors
    /// If it is no JSON.
    pub fn status(&self) -> Result<(i32, Value)> {
        let said = self.run(&["status", "--json"])?;
        let status = serde_json::from_str(&said.stdout);
        Ok((said.code, status.with_context(|| format!("{said:?}"))?))
    }

    /// How many packets or calls had a verdict, by the name of its reason.
    ///
    /// # Errors
    /// If `status` does not say.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>> {
        let (_, status) = self.status()?;
        let mut counts = BTreeMap::new();
        for list in ["passed", "dropped"] {
            let list = status[list].as_object();
            for (reason, count) in list.with_context(|| format!("no counts in {status}"))? {
                counts.insert(reason.clone(), count.as_u64().unwrap_or_default());
            }
        }
        Ok(counts)
    }

    /// How many packets or calls had a verdict for a reason, by its name.
    ///
    /// # Errors
    /// If `status` does not say.
    pub fn count(&self, reason: &str) -> Result<u64> {
        let counts = self.counts()?;
        let count = counts.get(reason).copied();
        count.with_context(|| format!("no count of {reason} in {counts:?}"))
    }

    /// Where a watch leaves what the kernel says.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.config.with_file_name("state.json")
    }

    /// The folder of its pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        self.pins.path()
    }

    /// Its configuration.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.pins().exists() {
            // There is nobody to tell; the pins are removed in any case.
            let _ = self.run(&["unload", "--yes"]);
        }
    }
}

/// Runs a command to its end, but for a limit, and reads what it says.
///
/// # Errors
/// If it cannot be started.
pub fn said(command: &Command) -> Result<Said> {
    let mut limited = Command::new("timeout");
    limited.arg(COMMAND_LIMIT_S.to_string());
    let output = run_any(&mut through(limited, command))?;
    Ok(Said {
        code: output.status.code().context("ended by a signal")?,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
