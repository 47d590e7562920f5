//! Folders for pinned BPF objects that a test makes for itself, and removes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::cgroup::owner;
use crate::process::run;
use crate::scratch::is_running;

/// Where the BPF file system belongs.
const ROOT: &str = "/sys/fs/bpf";

/// A folder on the BPF file system that is not there yet; what is pinned in it goes away with
/// this, and with it what nothing else holds.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
}

impl Pins {
    /// Chooses a folder, and mounts the file system if it is not.
    ///
    /// Folders of processes that no longer run are removed first.
    ///
    /// # Errors
    /// If we are not root.
    pub fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        mount()?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            remove_stale();
        }
        let name = format!("postern-test-{}-{number}", std::process::id());
        Ok(Self {
            path: Path::new(ROOT).join(name),
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.path.exists() {
            // There is nobody to tell; what is left behind is removed by the next run.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn mount() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut lines = mounts.lines().map(|it| it.split(' '));
    if lines.any(|mut it| it.nth(1) == Some(ROOT)) {
        return Ok(());
    }
    let mut command = Command::new("mount");
    run(command.args(["-t", "bpf", "bpf", ROOT])).context("cannot mount the BPF file system")?;
    Ok(())
}

/// Removes the pins of runs that were killed.
fn remove_stale() {
    for entry in fs::read_dir(ROOT).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(owner);
        if owner.is_some_and(|pid| !is_running(pid)) {
            // Another run may be removing the same; the one that loses has nothing to do.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
