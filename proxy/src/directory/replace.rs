//! Replacing a file in one step.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

/// Writes `content` to a new file beside `path`, makes it durable, and renames it over `path`.
///
/// A file that is replaced keeps its owner and its group's right to read; a new one has mode 0600.
/// The owner can be kept only by root or by the owner; for anybody else it is an error.
///
/// # Errors
///
/// The operating system's; the old file is as it was then.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let old = fs::metadata(path).ok();
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        if let Some(old) = &old {
            let new = file.metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(0o600 | (old.mode() & 0o040)))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    })();
    if result.is_err() {
        // The trouble to report is the first one; a leftover is harmless.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Makes the rename durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
