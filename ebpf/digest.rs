//! A digest of the programs' sources: what was built, and what is here now, are compared by it.
//!
//! Included by the command that builds them and by the build script of the program that carries
//! them, which has no dependencies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the object is, from the workspace's folder.
pub(crate) const OBJECT: &str = "target/ebpf/postern-programs";
/// Where the digest of its sources is.
pub(crate) const OBJECT_SOURCES: &str = "target/ebpf/postern-programs.sources";
/// What builds the object, and with which flags.
pub(crate) const BUILDER: &str = "xtask/src/ebpf.rs";

/// The digest (FNV-1a of 64 bits: against mistakes, not against malice) of the names and contents
/// of everything that the object is made of, in the workspace's folder: what builds it, too.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn of_sources(root: &Path) -> io::Result<String> {
    let mut files = vec![root.join("ebpf/Cargo.toml"), root.join(BUILDER)];
    collect(&root.join("ebpf/src"), &mut files)?;
    files.sort();
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file);
        let content = fs::read(&file)?;
        for byte in name.to_string_lossy().bytes().chain([0]).chain(content) {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(format!("{digest:016x}"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
