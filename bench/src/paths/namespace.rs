//! Network namespaces that are made for a measurement and removed after it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use postern_tests::scratch::is_running;

use crate::child;

/// What `ip` and `ethtool` take is a fraction of this.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Where `ip netns` keeps its namespaces.
const FOLDER: &str = "/run/netns";

/// Every namespace is called `postern-paths-<pid of its owner>-<number>`.
const PREFIX: &str = "postern-paths-";

static MADE: AtomicU32 = AtomicU32::new(0);

/// A namespace; it and the devices in it are removed with this.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// If the system does not let us, or has no `ip`.
    pub(super) fn new() -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        run(&["ip", "netns", "add", &name])?;
        let namespace = Self { name };
        namespace.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs a command inside.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn run(&self, command: &[&str]) -> Result<()> {
        let mut inside = vec!["ip", "netns", "exec", &self.name];
        inside.extend(command);
        run(&inside)
    }

    /// Calls something inside. It has a thread of its own, because a namespace is a thread's;
    /// sockets stay where they were made.
    ///
    /// # Errors
    /// If the namespace cannot be entered, and those of the call.
    pub(super) fn enter<T: Send>(&self, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(Path::new(FOLDER).join(&self.name)).context("the namespace")?;
        let inside = || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            call()
        };
        let outcome = thread::scope(|scope| scope.spawn(inside).join());
        outcome.map_err(|_| anyhow!("a thread in a network namespace panicked"))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left behind is removed by the next run.
        let _ = run(&["ip", "netns", "del", &self.name]);
    }
}

/// Connects two namespaces. Each end is named like the namespace on the other side.
///
/// # Errors
/// If the system refuses.
pub(super) fn connect(
    one: (&Namespace, &str, Ipv4Addr),
    other: (&Namespace, &str, Ipv4Addr),
    mtu: u32,
) -> Result<()> {
    let (mine, yours) = (one.1, other.1);
    let (at_one, at_other) = (&one.0.name, &other.0.name);
    let mut add = vec!["ip", "link", "add", yours, "netns", at_one, "type", "veth"];
    add.extend(["peer", "name", mine, "netns", at_other]);
    run(&add)?;
    for (namespace, device, address) in [(one.0, yours, one.2), (other.0, mine, other.2)] {
        let (address, mtu) = (format!("{address}/24"), mtu.to_string());
        namespace.run(&["ip", "address", "add", &address, "dev", device])?;
        namespace.run(&["ip", "link", "set", device, "mtu", &mtu, "up"])?;
    }
    Ok(())
}

/// Removes the namespaces of runs that were killed.
pub(super) fn remove_stale() {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|it| it.split('-').next());
        let pid = owner.and_then(|it| it.parse().ok());
        if pid.is_some_and(|pid| !is_running(pid)) {
            // Another run may be removing the same; the one that loses has nothing to do.
            let _ = run(&["ip", "netns", "del", name]);
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    let [program, arguments @ ..] = words else {
        bail!("no command");
    };
    let mut command = Command::new(program);
    // `ethtool` is in none of the folders of an unprivileged search path.
    command
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let ended = child::finish(&mut command, COMMAND_LIMIT)?;
    if !ended.status.success() {
        bail!("{}: {}", words.join(" "), ended.stderr.trim());
    }
    Ok(())
}
