//! The folder on bpffs that holds a policy, and how one set of programs follows another.
//!
//! A set is a folder with `maps`, `programs`, `links` and `record`.
//! A new one is built in `next`.
//! When the kernel has confirmed it, `next` becomes `ready` in one step: from then on it is the
//! one that counts, the old one is removed, and its parts move to where that one was.
//! Whoever finds a `next` removes it, and whoever finds a `ready` goes on from there, so that the
//! loader may be killed at any moment: one of the two is always whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::attach;
use super::error::PolicyError;
use super::hook::{Hook, Program};
use crate::limits::{POLICY_LOCK_WAIT, POLICY_POLL};

/// The parts of a set, in the order in which an old one gives way: what is attached goes first,
/// when the new one has long been attached.
const PARTS: [&str; 4] = ["links", "programs", "maps", "record"];
/// What stands behind the name of a pin that is about to take another's place.
pub(super) const NEW: &str = "~new";

/// The folder of a policy.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    root: PathBuf,
}

/// A set of programs and maps.
#[derive(Debug, Clone)]
pub(super) struct Set {
    folder: PathBuf,
}

/// What was written down when a policy was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The digest of the object that the programs are from.
    pub(super) object: String,
    /// When, in milliseconds of Unix time.
    pub(super) at_ms: u64,
}

/// The lock of a folder; it is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for what its drop does")] Flock<File>);

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The set that is in force.
    pub(super) fn current(&self) -> Set {
        Set {
            folder: self.root.clone(),
        }
    }

    /// The set that is being built.
    pub(super) fn next(&self) -> Set {
        Set {
            folder: self.root.join("next"),
        }
    }

    /// The set that has been confirmed and is about to take its place.
    fn ready(&self) -> Set {
        Set {
            folder: self.root.join("ready"),
        }
    }

    /// Whether an earlier command was cut off.
    pub(super) fn is_unfinished(&self) -> bool {
        self.next().folder.exists() || self.ready().folder.exists()
    }

    /// What was written down of the set that is in force; none if there is no such set.
    pub(super) fn record(&self) -> Option<Record> {
        let set = match self.ready().folder.join("record").symlink_metadata() {
            Ok(_) => self.ready(),
            Err(_) => self.current(),
        };
        set.record()
    }

    /// Makes the folder, and mounts bpffs below it where there is none.
    ///
    /// # Errors
    ///
    /// There is no bpffs and none may be mounted, or the folder cannot be made.
    pub(super) fn prepare(&self) -> Result<(), PolicyError> {
        let existing = self.root.ancestors().find(|it| it.exists());
        if !existing.is_some_and(is_bpffs) {
            self.mount()?;
        }
        fs::create_dir_all(&self.root)
            .map_err(|error| PolicyError::file("make the folder", &self.root, error))
    }

    fn mount(&self) -> Result<(), PolicyError> {
        let at = self.root.parent().unwrap_or(&self.root);
        let refused = |why: String| PolicyError::Bpffs {
            pins: self.root.clone(),
            at: at.to_owned(),
            why,
        };
        fs::create_dir_all(at).map_err(|error| refused(error.to_string()))?;
        let mut entries = fs::read_dir(at).map_err(|error| refused(error.to_string()))?;
        if entries.next().is_some() {
            return Err(refused(format!("{} is not empty", at.display())));
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), at, Some("bpf"), flags, Some("mode=0700"))
            .map_err(|errno| refused(format!("it cannot be mounted: {}", errno.desc())))
    }

    /// Keeps other commands out until the lock is dropped.
    ///
    /// # Errors
    ///
    /// Another one is at work for longer than [`POLICY_LOCK_WAIT`], or there is no such folder.
    pub(super) fn lock(&self) -> Result<Lock, PolicyError> {
        let until = Instant::now() + POLICY_LOCK_WAIT;
        loop {
            let folder = File::open(&self.root)
                .map_err(|error| PolicyError::file("open", &self.root, error))?;
            match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                // Whoever had it before may have removed the folder and left another one.
                Ok(lock) if self.is_folder(&lock) => return Ok(Lock(lock)),
                Ok(_) => {}
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < until => {}
                Err((folder, Errno::EWOULDBLOCK)) => {
                    return Err(PolicyError::Locked {
                        path: self.root.clone(),
                        by: holder(&folder),
                    });
                }
                Err((_, errno)) => return Err(PolicyError::file("lock", &self.root, errno)),
            }
            std::thread::sleep(POLICY_POLL);
        }
    }

    fn is_folder(&self, open: &File) -> bool {
        let (Ok(open), Ok(named)) = (open.metadata(), fs::metadata(&self.root)) else {
            return false;
        };
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }

    /// Finishes or removes what a command left behind that was killed.
    ///
    /// # Errors
    ///
    /// Something cannot be removed or moved.
    pub(super) fn recover(&self) -> Result<(), PolicyError> {
        self.next().remove()?;
        self.finish()?;
        for path in self.current().links()? {
            if name(&path).ends_with(NEW) {
                attach::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Puts the set that has been built in the place of the one that was in force, which goes.
    ///
    /// # Errors
    ///
    /// Something cannot be removed or moved; the new set is in force nonetheless.
    pub(super) fn commit(&self) -> Result<(), PolicyError> {
        rename(&self.next().folder, &self.ready().folder)?;
        self.finish()
    }

    fn finish(&self) -> Result<(), PolicyError> {
        let ready = self.ready();
        if !ready.folder.exists() {
            return Ok(());
        }
        for part in PARTS {
            let from = ready.folder.join(part);
            // What is gone from here has already taken its place.
            if from.symlink_metadata().is_ok() {
                self.current().remove_part(part)?;
                rename(&from, &self.root.join(part))?;
            }
        }
        remove_folder(&ready.folder)
    }

    /// Removes everything: the perimeter is open.
    ///
    /// # Errors
    ///
    /// Something cannot be removed.
    pub(super) fn remove(&self) -> Result<(), PolicyError> {
        self.next().remove()?;
        self.ready().remove()?;
        self.current().remove_parts()?;
        match fs::remove_dir(&self.root) {
            // Somebody gave us the folder and keeps what is above it: an empty one is no policy.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            result => unless_missing(result, &self.root),
        }
    }
}

impl Set {
    /// Makes its folders.
    ///
    /// # Errors
    ///
    /// They cannot be made.
    pub(super) fn create(&self) -> Result<(), PolicyError> {
        for part in ["links", "programs", "maps"] {
            let folder = self.folder.join(part);
            fs::create_dir_all(&folder)
                .map_err(|error| PolicyError::file("make the folder", &folder, error))?;
        }
        Ok(())
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where the maps are pinned.
    pub(super) fn maps(&self) -> PathBuf {
        self.folder.join("maps")
    }

    /// Where a program is pinned.
    pub(super) fn program(&self, program: Program) -> PathBuf {
        self.folder.join("programs").join(program.object_name())
    }

    /// Where the link of a hook is pinned, or written down.
    pub(super) fn link(&self, hook: &Hook) -> PathBuf {
        self.folder.join("links").join(hook.pin())
    }

    /// Every link.
    ///
    /// # Errors
    ///
    /// The folder cannot be read; none is no error.
    pub(super) fn links(&self) -> Result<Vec<PathBuf>, PolicyError> {
        entries(&self.folder.join("links"))
    }

    /// What was written down of it.
    pub(super) fn record(&self) -> Option<Record> {
        let text = fs::read_link(self.folder.join("record")).ok()?;
        Record::parse(text.to_str()?)
    }

    /// Writes a record down, in place of an earlier one.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), PolicyError> {
        let path = self.folder.join("record");
        let new = self.folder.join(format!("record{NEW}"));
        // bpffs has no files of one's own, but links whose text is free.
        remove_file(&new)?;
        symlink(record.text(), &new).map_err(|error| PolicyError::file("write", &new, error))?;
        rename(&new, &path)
    }

    fn remove(&self) -> Result<(), PolicyError> {
        self.remove_parts()?;
        remove_folder(&self.folder)
    }

    fn remove_parts(&self) -> Result<(), PolicyError> {
        for part in PARTS {
            self.remove_part(part)?;
        }
        remove_file(&self.folder.join(format!("record{NEW}")))
    }

    fn remove_part(&self, part: &str) -> Result<(), PolicyError> {
        let path = self.folder.join(part);
        if part == "record" {
            return remove_file(&path);
        }
        for entry in entries(&path)? {
            match part {
                "links" => attach::remove(&entry)?,
                _ => remove_file(&entry)?,
            }
        }
        remove_folder(&path)
    }
}

impl Record {
    fn text(&self) -> String {
        format!("object {} loaded {}", self.object, self.at_ms)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (Some("object"), object) = (words.next(), words.next()?) else {
            return None;
        };
        let (Some("loaded"), at_ms) = (words.next(), words.next()?) else {
            return None;
        };
        Some(Self {
            object: object.to_owned(),
            at_ms: at_ms.parse().ok()?,
        })
    }
}

/// The last name of a path.
pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Moves a pin, over another one if there is one: one step.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), PolicyError> {
    fs::rename(from, to).map_err(|error| PolicyError::file("move", from, error))
}

/// Removes a pin, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), PolicyError> {
    unless_missing(fs::remove_file(path), path)
}

fn remove_folder(path: &Path) -> Result<(), PolicyError> {
    unless_missing(fs::remove_dir(path), path)
}

fn unless_missing(result: io::Result<()>, path: &Path) -> Result<(), PolicyError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PolicyError::file("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PolicyError> {
    let failed = |error| PolicyError::file("read the folder", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let paths = entries.map(|entry| entry.map(|it| it.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|it| it.filesystem_type() == BPF_FS_MAGIC)
}

/// The process that holds the lock of a folder.
fn holder(folder: &File) -> Option<u32> {
    let facts = folder.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (major(facts.dev()), minor(facts.dev()));
    holder_in(&locks, &format!("{major:02x}:{minor:02x}:{}", facts.ino()))
}

/// The process of a lock in the lines of `/proc/locks` (proc(5)).
fn holder_in(locks: &str, file: &str) -> Option<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_held = fields.next() == Some("FLOCK");
        let (pid, of) = (fields.nth(2)?, fields.next()?);
        (is_held && of == file).then(|| pid.parse().ok())?
    };
    locks.lines().find_map(of_line)
}

#[cfg(test)]
mod tests;
