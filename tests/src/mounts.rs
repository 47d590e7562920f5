//! The program with mounts of its own, which nobody else sees and which go with the process.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::postern::binary;
use crate::scratch::Scratch;

/// A path for [`Postern::start_as`](crate::Postern::start_as): what is there runs commands of a
/// shell in a mount namespace of its own, which needs root, and becomes the program.
///
/// # Errors
/// If it cannot be written, or the program is not built.
pub fn program_after(commands: &str, scratch: &Scratch) -> Result<PathBuf> {
    let path = scratch.subfolder("mounts")?.join("postern");
    let program = binary()?;
    let text = format!(
        "#!/bin/sh -e\n\
         if [ \"$1\" != inside ]; then exec unshare --mount \"$0\" inside \"$@\"; fi\n\
         shift\n\
         {commands}\n\
         exec {} \"$@\"\n",
        program.display()
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Where a file that such a process sees can be seen from outside.
#[must_use]
pub fn seen_by(pid: u32, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    root.join(path.strip_prefix("/").unwrap_or(path))
}
