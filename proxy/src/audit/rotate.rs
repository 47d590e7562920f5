//! Closing an audit file and beginning the next one, so that the chain goes on.
//!
//! At every moment the file's path names a file whose chain is whole, and no record is in none:
//!
//! 1. The last record is written and made to last.
//! 2. The next file is made beside, locked, with its first record, and made to last.
//! 3. The file gets its other name (link(2), which takes no name that exists).
//! 4. The next file takes the path (rename(2)), and with it the one before loses it.
//!
//! A process that dies between two of them leaves the file where it was, with another name and a
//! next one perhaps; [`clear`] takes these away again.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// The digits of the last record's number in the name of a closed file: names sort as the chain
/// goes, for the first 10^12 records.
const NUMBER_DIGITS: usize = 12;

/// The names beside an audit file.
#[derive(Debug)]
pub(super) struct Names {
    /// That of the file when it is closed.
    pub(super) closed: PathBuf,
    /// That of the next one while it is made.
    next: PathBuf,
}

impl Names {
    /// Those of the file at `path` whose last record has the number `last`.
    pub(super) fn of(path: &Path, last: u64) -> Self {
        let beside = |end: String| {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            closed: beside(format!(".{last:0NUMBER_DIGITS$}")),
            next: beside(".next".to_owned()),
        }
    }

    /// The closed file's name without its folder, as records have it.
    pub(super) fn closed_name(&self) -> String {
        let name = self.closed.file_name().unwrap_or(OsStr::new(""));
        name.to_string_lossy().into_owned()
    }

    /// Looks whether a file can be closed under these names, before anything is written for it.
    ///
    /// # Errors
    ///
    /// It is no file, or there is one of that name.
    pub(super) fn are_free(&self, now: &File) -> io::Result<()> {
        if !now.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        match fs::symlink_metadata(&self.closed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let why = format!("there is {} already; move it away", self.closed.display());
                Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
            }
        }
    }

    /// Makes the next file with its first line, for whoever may read and write this one.
    ///
    /// # Errors
    ///
    /// It cannot be made, locked, or made to last; nothing is left of it.
    pub(super) fn make_next(&self, now: &File, first_line: &str) -> io::Result<Flock<File>> {
        let made = self.try_make_next(now, first_line);
        if made.is_err() {
            self.drop_next();
        }
        made
    }

    fn try_make_next(&self, now: &File, first_line: &str) -> io::Result<Flock<File>> {
        self.drop_next();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        let next = options.open(&self.next)?;
        let is = now.metadata()?;
        // A group that reads it goes on reading it; a process that may not give files to the group
        // keeps the next one to itself.
        if fchown(&next, None, Some(is.gid())).is_ok() {
            next.set_permissions(is.permissions())?;
        }
        // The lock comes before the name that others open.
        let locked = Flock::lock(next, FlockArg::LockExclusiveNonblock);
        let mut next = locked.map_err(|(_, errno)| io::Error::from(errno))?;
        next.write_all(first_line.as_bytes())?;
        next.sync_all()?;
        Ok(next)
    }

    /// Puts the next file in the place of the one at `path`, which keeps its other name.
    ///
    /// # Errors
    ///
    /// It cannot be: the file is where it was, under its one name.
    pub(super) fn change(&self, path: &Path) -> io::Result<()> {
        let linked = fs::hard_link(path, &self.closed);
        let outcome = match linked {
            Ok(()) => fs::rename(&self.next, path).inspect_err(|_| {
                // The same file has its own name still.
                let _ = fs::remove_file(&self.closed);
            }),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            self.drop_next();
        }
        outcome
    }

    /// A next file that never took the path: nobody was told of what is in it.
    fn drop_next(&self) {
        // Mostly there is none, and one that stays is in the way of nobody but the next try.
        let _ = fs::remove_file(&self.next);
    }
}

/// Takes away what a process left that died while it closed this file, which is locked: the other
/// name, and the next file that never took the path.
pub(super) fn clear(file: &File, path: &Path, last: u64) {
    let Ok(path) = fs::canonicalize(path) else {
        return;
    };
    let names = Names::of(&path, last);
    if is_at(file, &names.closed) {
        // It is the same file under its own name.
        let _ = fs::remove_file(&names.closed);
    }
    names.drop_next();
}

/// Whether it is this file that is at a path, or where a link there leads to.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    let (Ok(own), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    identity(own) == identity(there)
}

/// Makes the names in a folder last.
///
/// # Errors
///
/// The folder cannot be opened or synced.
pub(super) fn sync_names(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
