//! Cgroups that a test makes for itself, and removes: version 2 only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::through;
use crate::scratch::is_running;
use crate::wait::wait_regardless;

/// How long processes may take to end after the kernel was told to end them.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Every cgroup is called `postern-test-<pid of its owner>-<number>`.
const PREFIX: &str = "postern-test-";

/// A cgroup; it, those in it and their processes go away with this.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the root of all.
    ///
    /// Those of processes that no longer run are removed first.
    ///
    /// # Errors
    /// If we are not root, or cgroup2 is not mounted.
    pub fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let root = mount_point()?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_stale(&root);
        }
        let path = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a cgroup in this one, unless it is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn child(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // There is nobody to tell; what is left behind is removed by the next run.
        let _ = remove(&self.path);
    }
}

/// The same command in the cgroup of a folder.
#[must_use]
pub fn within(folder: &Path, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    // The shell moves itself and then becomes the program.
    shell.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]);
    shell.arg(folder.join("cgroup.procs"));
    through(shell, command)
}

/// Ends what runs in a cgroup, and removes it with those in it.
///
/// # Errors
/// If a process does not end, or the kernel refuses.
pub fn remove(path: &Path) -> Result<()> {
    fs::write(path.join("cgroup.kill"), "1")?;
    wait_regardless("the cgroup is empty", END_LIMIT, || {
        let events = fs::read_to_string(path.join("cgroup.events"))?;
        Ok(events.contains("populated 0"))
    })?;
    remove_folders(path)
}

fn remove_folders(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_folders(&entry.path())?;
        }
    }
    fs::remove_dir(path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes the cgroups of runs that were killed.
fn remove_stale(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner);
        if owner.is_some_and(|pid| !is_running(pid)) {
            // Another run may be removing the same; the one that loses has nothing to do.
            let _ = remove(&entry.path());
        }
    }
}

/// The process id in the name of something that is called as cgroups and pins are.
pub(crate) fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Where cgroup2 is mounted, by proc_pid_mountinfo(5).
fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let point = mounts.lines().find_map(cgroup2_of);
    point.map(PathBuf::from).context("cgroup2 is not mounted")
}

/// The mount point of a line, if it is one of cgroup2.
fn cgroup2_of(line: &str) -> Option<&str> {
    let (mount, kind) = line.split_once(" - ")?;
    let is_cgroup2 = kind.split(' ').next() == Some("cgroup2");
    mount.split(' ').nth(4).filter(|_| is_cgroup2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    #[test]
    fn cgroup2_is_found_beside_the_controllers_of_version_1() {
        let first = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755";
        let old = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let new = "41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_of(first), None);
        assert_eq!(cgroup2_of(old), None);
        assert_eq!(cgroup2_of(new), Some("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_cgroup_takes_its_processes_with_it() -> Result<()> {
        if !needs::is_root() {
            needs::skip("a_cgroup_takes_its_processes_with_it", "it takes root");
            return Ok(());
        }
        let cgroup = Cgroup::new()?;
        let inner = cgroup.child("inner")?;
        let mut sleep = Command::new("sleep");
        let mut child = within(&inner, sleep.arg("60")).spawn()?;
        let events = inner.join("cgroup.events");
        crate::wait_until("the process is in it", END_LIMIT, || {
            Ok(fs::read_to_string(&events)?.contains("populated 1"))
        })?;
        let path = cgroup.path().to_owned();
        drop(cgroup);
        assert!(!child.wait()?.success());
        assert!(!path.exists());
        Ok(())
    }
}
