//! Network namespaces that a test makes for itself, and removes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

use crate::process::{run, through};
use crate::scratch::is_running;

/// The longest that a command inside may take, in seconds: `ip` needs a fraction of one.
const COMMAND_LIMIT_S: u32 = 20;

/// Where `ip netns` keeps its namespaces.
const FOLDER: &str = "/run/netns";

/// Every namespace is called `postern-net-<pid of its owner>-<number>-<role>`.
const PREFIX: &str = "postern-net-";

/// A namespace; it and the devices in it go away with this.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one whose loopback is up. `role` is for people who look at the list of all.
    ///
    /// Namespaces of processes that no longer run are removed first: a process that was killed
    /// could not remove its own.
    ///
    /// # Errors
    /// If we are not root, or the system has no `ip`.
    pub fn new(role: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_stale();
        }
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        ip(&["-netns", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// The same command, inside.
    ///
    /// It is `nsenter` and not `ip netns exec`: that one mounts another /sys, in which neither
    /// the pins of BPF objects nor the cgroups of the machine are seen.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        inside(&self.file(), command)
    }

    /// Runs a program inside, and returns what it writes.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let [program, arguments @ ..] = words else {
            bail!("no command");
        };
        run(&mut self.inside(limited(program).args(arguments)))
            .with_context(|| format!("in {}: {}", self.name, words.join(" ")))
    }

    /// Runs `ip` for the devices of this namespace.
    ///
    /// # Errors
    /// If it fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-netns", &self.name], arguments].concat())
    }

    /// Calls something inside. It has a thread of its own, because a namespace is a thread's;
    /// sockets stay where they were made.
    ///
    /// # Errors
    /// If the namespace cannot be entered, and those of the call.
    pub fn enter<T: Send>(&self, call: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.file()).context("the namespace")?;
        let inside = || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
            call()
        };
        let outcome = thread::scope(|scope| scope.spawn(inside).join());
        outcome.map_err(|_| anyhow!("a thread in a network namespace panicked"))?
    }

    /// Changes a setting below /proc/sys/net: `ipv4/ip_forward`.
    ///
    /// # Errors
    /// If the kernel has no such setting.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys/net").join(setting);
        self.enter(|| fs::write(&file, value).with_context(|| file.display().to_string()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // There is nobody to tell; what is left behind is removed by the next run.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// One end of a link: the device of that name in a namespace, and its addresses with the lengths
/// of their prefixes (`10.0.0.1/24`).
#[derive(Debug)]
pub struct End<'a> {
    /// Where the device is.
    pub namespace: &'a Namespace,
    /// What it is called there.
    pub device: &'a str,
    /// Its hardware address; without one the kernel makes one up.
    pub hardware: Option<[u8; 6]>,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// Connects two namespaces by a pair of virtual devices, and sets both up.
///
/// # Errors
/// If a device of that name is there already.
pub fn link(one: &End<'_>, other: &End<'_>) -> Result<()> {
    let [mine, yours] = [one, other].map(|it| it.hardware.map(hardware_text));
    let mut add = vec!["link", "add", one.device, "netns", &one.namespace.name];
    add.extend(mine.iter().flat_map(|it| ["address", it]));
    add.extend(["type", "veth", "peer", "name", other.device]);
    add.extend(["netns", &other.namespace.name]);
    add.extend(yours.iter().flat_map(|it| ["address", it]));
    ip(&add)?;
    for end in [one, other] {
        for address in &end.addresses {
            let mut arguments = vec!["address", "add", address, "dev", end.device];
            if address.contains(':') {
                // Nobody else can have it; asking around would take a second.
                arguments.push("nodad");
            }
            end.namespace.ip(&arguments)?;
        }
        end.namespace.ip(&["link", "set", end.device, "up"])?;
    }
    Ok(())
}

/// The same command in the namespace that a file stands for.
#[must_use]
pub fn inside(namespace: &Path, command: &Command) -> Command {
    let mut enter = Command::new("nsenter");
    enter.arg(format!("--net={}", namespace.display()));
    enter.arg("--");
    through(enter, command)
}

/// A hardware address as `ip` writes it.
fn hardware_text(address: [u8; 6]) -> String {
    address.map(|it| format!("{it:02x}")).join(":")
}

/// Removes the namespaces of runs that were killed.
fn remove_stale() {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name).is_some_and(|pid| !is_running(pid)) {
            // Another run may be removing the same; the one that loses has nothing to do.
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

/// The process id in a namespace's name.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn ip(arguments: &[&str]) -> Result<String> {
    run(limited("ip").args(arguments)).with_context(|| format!("ip {}", arguments.join(" ")))
}

/// A program that is ended when it takes too long.
fn limited(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(COMMAND_LIMIT_S.to_string()).arg(program);
    // `ip` and others are in none of the folders of an unprivileged search path.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    #[test]
    fn the_owner_of_a_namespace_is_in_its_name() {
        assert_eq!(owner("postern-net-812-0-proxy"), Some(812));
        assert_eq!(owner("postern-net-x-0-proxy"), None);
        assert_eq!(owner("somebody-elses"), None);
    }

    #[test]
    fn a_namespace_is_gone_after_its_object_and_one_of_a_dead_process_at_the_next_start()
    -> Result<()> {
        if !needs::is_root() {
            needs::skip("a_namespace_is_gone", "it takes root");
            return Ok(());
        }
        // It ends only then: another run may be looking for those of dead processes.
        let mut owner = Command::new("sleep").arg("60").spawn()?;
        let dead = format!("{PREFIX}{}-0-dead", owner.id());
        let made = ip(&["netns", "add", &dead]);
        owner.kill()?;
        owner.wait()?;
        made?;
        let namespace = Namespace::new("alive")?;
        remove_stale();
        let file = namespace.file();
        assert!(file.exists());
        assert!(!Path::new(FOLDER).join(dead).exists());
        drop(namespace);
        assert!(!file.exists());
        Ok(())
    }

    #[test]
    fn a_namespace_is_gone_also_when_its_owner_panics() -> Result<()> {
        if !needs::is_root() {
            needs::skip("a_namespace_is_gone_also", "it takes root");
            return Ok(());
        }
        let namespace = Namespace::new("panic")?;
        let file = namespace.file();
        let panicked = thread::spawn(move || {
            let _held = namespace;
            std::panic::resume_unwind(Box::new("as a failing test does"));
        });
        assert!(panicked.join().is_err());
        assert!(!file.exists());
        Ok(())
    }
}
