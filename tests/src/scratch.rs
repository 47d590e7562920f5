//! A temporary folder that goes away with the object, and with the next run if this one is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use tempfile::TempDir;

/// Every scratch folder is called `postern-<pid of its owner>-<random>`.
const PREFIX: &str = "postern-";

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Makes a folder `postern-<pid>-<random>` in the system's temporary folder.
    ///
    /// Folders of processes that no longer run are removed first: a process that was killed by
    /// SIGKILL could not remove its own.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new() -> Result<Self> {
        remove_stale(&std::env::temp_dir());
        let folder = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir()
            .context("cannot make a temporary folder")?;
        // Servers run as another account and must be able to pass through; each part of the
        // folder that holds secrets has a mode of its own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a subfolder that does not exist yet: `name`, or `name-2`, `name-3` and so on.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let mut path = self.path().join(name);
        let mut number = 2;
        while path.exists() {
            path = self.path().join(format!("{name}-{number}"));
            number += 1;
        }
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file that only its owner can read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn secret_file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        write_secret(&path, text)?;
        Ok(path)
    }
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// If the file cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Removes the scratch folders in `parent` that are ours and whose process has ended.
pub fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(owner) else {
            continue;
        };
        let ours = entry
            .metadata()
            .is_ok_and(|it| it.is_dir() && it.uid() == geteuid().as_raw());
        if ours && !is_running(pid) {
            // Another run may be removing the same folder; the one that loses has nothing to do.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The process id in a scratch folder's name.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Whether a process runs; one that has ended but was not reaped does not.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The state follows the command name, which is in parentheses and may itself hold some:
    // https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.starts_with(['Z', 'X'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_dead_process_is_removed_and_a_living_one_is_kept() -> Result<()> {
        let parent = tempfile::tempdir()?;
        let mut child = std::process::Command::new("true").spawn()?;
        child.wait()?;
        let dead = parent.path().join(format!("postern-{}-abc", child.id()));
        let alive = parent
            .path()
            .join(format!("postern-{}-abc", std::process::id()));
        let foreign = parent.path().join("postern-notes");
        for folder in [&dead, &alive, &foreign] {
            fs::create_dir(folder)?;
        }
        remove_stale(parent.path());
        assert!(!dead.exists());
        assert!(alive.exists());
        assert!(foreign.exists());
        Ok(())
    }

    #[test]
    fn a_scratch_folder_is_gone_after_its_object() -> Result<()> {
        let scratch = Scratch::new()?;
        let path = scratch.path().to_owned();
        scratch.secret_file("password", "x")?;
        assert!(path.exists());
        drop(scratch);
        assert!(!path.exists());
        Ok(())
    }
}
