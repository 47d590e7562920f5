//! The local file of accounts, which tells nobody when it changes.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::limits::LOCAL_FILE_INTERVAL;

/// Looks now and then whether the file is another one.
pub(super) struct FileWatch {
    path: PathBuf,
    seen: Option<Stamp>,
    /// When it is looked at next.
    pub(super) at: Instant,
}

/// What differs between two versions of a file: the inode, the length, the time of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, (i64, i64));

impl FileWatch {
    pub(super) fn new(path: PathBuf) -> Self {
        let mut watch = Self {
            path,
            seen: None,
            at: Instant::now(),
        };
        watch.has_changed();
        watch
    }

    /// Whether it has changed since the last time.
    pub(super) fn has_changed(&mut self) -> bool {
        self.at = Instant::now() + LOCAL_FILE_INTERVAL;
        let found = std::fs::metadata(&self.path).ok();
        let stamp = found.map(|it| Stamp(it.ino(), it.len(), (it.mtime(), it.mtime_nsec())));
        let before = std::mem::replace(&mut self.seen, stamp);
        before != stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_a_change_and_the_same_is_none() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("accounts.toml");
        let mut watch = FileWatch::new(path.clone());
        assert!(!watch.has_changed());
        std::fs::write(&path, "a")?;
        assert!(watch.has_changed() && !watch.has_changed());
        std::fs::write(&path, "ab")?;
        assert!(watch.has_changed());
        std::fs::remove_file(&path)?;
        assert!(watch.has_changed() && !watch.has_changed());
        Ok(())
    }
}
