//! How much room the audit file takes, and how much there is for it.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::limits::{AUDIT_FREE_BYTES_AMPLE, AUDIT_FREE_BYTES_MIN};

/// The room of an audit file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// What the file has.
    pub(crate) file_bytes: u64,
    /// What this process may still write on its file system (`f_bavail`, statvfs(3)).
    pub(crate) free_bytes: u64,
    /// The whole file system.
    pub(crate) whole_bytes: u64,
}

impl Room {
    /// Looks; it may wait for the disk.
    ///
    /// # Errors
    ///
    /// The file or its file system cannot be looked at.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(file)?;
        let system = statvfs(file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.fragment_size());
        Ok(Self {
            file_bytes: metadata.len(),
            free_bytes: bytes(system.blocks_available()),
            whole_bytes: bytes(system.blocks()),
        })
    }

    /// Less than this should not be free, so that there is time to make room before logins are
    /// refused.
    pub(crate) fn wanted_bytes(self) -> u64 {
        let tenth = self.whole_bytes / 10;
        tenth.clamp(AUDIT_FREE_BYTES_MIN, AUDIT_FREE_BYTES_AMPLE)
    }

    /// Whether room has to be made soon.
    pub(crate) fn is_low(self) -> bool {
        self.free_bytes < self.wanted_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1_048_576;

    fn room(free_mib: u64, whole_mib: u64) -> Room {
        Room {
            file_bytes: 0,
            free_bytes: free_mib * MIB,
            whole_bytes: whole_mib * MIB,
        }
    }

    #[test]
    fn a_tenth_is_low_within_bounds() {
        for (whole_mib, wanted_mib) in [(200, 64), (640, 64), (5_000, 500), (1_000_000, 1_024)] {
            let wanted = room(0, whole_mib).wanted_bytes();
            assert_eq!(wanted, wanted_mib * MIB, "of {whole_mib} MiB");
            assert!(!room(wanted_mib, whole_mib).is_low(), "of {whole_mib} MiB");
            assert!(
                room(wanted_mib - 1, whole_mib).is_low(),
                "of {whole_mib} MiB"
            );
        }
    }

    #[test]
    fn the_room_is_that_of_the_file_and_of_its_disk() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("audit.jsonl");
        assert!(Room::of(&file).is_err());
        fs::write(&file, [b'x'; 4_321])?;
        let room = Room::of(&file)?;
        assert_eq!(room.file_bytes, 4_321);
        assert!(room.free_bytes < room.whole_bytes, "{room:?}");
        Ok(())
    }
}
