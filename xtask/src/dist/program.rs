//! The two programs that are packed, and what one of them needs of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use postern_tests::Scratch;
use postern_tests::process::run;

use crate::{cargo, root};

/// What both are for. It is named so that what is linked into the program is told from what runs
/// while it is built.
pub(super) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where a program has its C library from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CLibrary {
    /// The machine has it.
    Without,
    /// It is linked into the program.
    Within,
}

/// The C library within, too. It is the same one: what `tokio-uring` is made of is not to be had
/// with musl.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The folder of everything that is built, below the root.
pub(super) const FOLDER: &str = "target";
/// That of what is built with the C library within, below it.
const STATIC_FOLDER: &str = "static";

/// Builds the program that is delivered, in the package and in the image; it has its symbols yet.
///
/// # Errors
/// If it does not compile, or has paths of this machine in it.
pub(crate) fn built() -> Result<PathBuf> {
    build(Path::new(FOLDER), &[])
}

/// Where [`built`] leaves it.
///
/// # Errors
/// If the workspace is not found.
pub(crate) fn place() -> Result<PathBuf> {
    Ok(below(&root()?.join(FOLDER)))
}

/// The program as Debian's are, built in a folder below the root and stripped.
pub(super) fn dynamic(folder: &str, scratch: &Scratch) -> Result<PathBuf> {
    stripped(&build(Path::new(folder), &[])?, scratch)
}

/// The program that needs nothing, the same way.
pub(super) fn fixed(folder: &str, scratch: &Scratch) -> Result<PathBuf> {
    let folder = Path::new(folder).join(STATIC_FOLDER);
    let program = stripped(&build(&folder, &[STATIC])?, scratch)?;
    let headers = run(Command::new("objdump").arg("-p").arg(&program))?;
    ensure!(!headers.contains("NEEDED"), "it is not static: {headers}");
    Ok(program)
}

/// A copy without symbols and debugging information, under its own name.
pub(super) fn stripped(program: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let copy = scratch.subfolder("stripped")?.join("postern");
    let mut strip = Command::new("strip");
    strip.args(["--strip-all", "--enable-deterministic-archives", "-o"]);
    run(strip.arg(&copy).arg(program))?;
    Ok(copy)
}

/// Builds the program in a folder below the root, with more flags for the compiler: other flags
/// build everything anew, so that each has its own. Cargo's for the target is another one than
/// that of `cargo build --release`, which has paths in what it makes.
fn build(folder: &Path, flags: &[&str]) -> Result<PathBuf> {
    let root = root()?;
    let folder = root.join(folder);
    let build = ["build", "--release", "--locked", "--package", "postern"];
    let status = cargo::command(&build)
        .args(["--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            cargo::flags_without_paths(&root, flags)?,
        )
        .current_dir(&root)
        .status()?;
    if !status.success() {
        bail!("the program cannot be built");
    }
    let program = below(&folder);
    let scratch = Scratch::new()?;
    let delivered = fs::read(stripped(&program, &scratch)?)?;
    for (place, _) in cargo::places(&root)? {
        ensure!(
            !has_path(&delivered, &place),
            "{} is in the program, which is to have no path of this machine; the programs for \
             the kernel in target/ebpf may be older than this rule: remove them, and build again",
            place.display()
        );
    }
    Ok(program)
}

/// Where cargo leaves a program.
fn below(folder: &Path) -> PathBuf {
    folder.join(TARGET).join("release/postern")
}

/// Whether a program names a file below a folder; and not one of the same name elsewhere.
fn has_path(program: &[u8], folder: &Path) -> bool {
    let wanted = format!("{}/", folder.display());
    let mut before = b' ';
    let mut rest = program;
    while let Some((first, after)) = rest.split_first() {
        let is_inner = before.is_ascii_alphanumeric() || b"-_./".contains(&before);
        if !is_inner && rest.starts_with(wanted.as_bytes()) {
            return true;
        }
        (before, rest) = (*first, after);
    }
    false
}

/// The packages of Debian that a program needs, as `Depends:` has them.
pub(super) fn needed(program: &Path) -> Result<String> {
    let headers = run(Command::new("objdump").arg("-p").arg(program))?;
    packages(&headers)
}

/// The same from what objdump says: every library has to be one that is known.
fn packages(headers: &str) -> Result<String> {
    let libraries = headers
        .lines()
        .filter_map(|it| it.trim().strip_prefix("NEEDED"));
    let mut packages = Vec::new();
    for library in libraries.map(str::trim) {
        match library {
            "libc.so.6" | "libm.so.6" | "ld-linux-x86-64.so.2" => {}
            "libgcc_s.so.1" => packages.push("libgcc-s1".to_owned()),
            other => bail!("no package is known for {other}"),
        }
    }
    let versions = headers
        .split_whitespace()
        .filter_map(|it| it.strip_prefix("GLIBC_"));
    let numbers = versions.filter_map(|it| {
        let (major, minor) = it.split_once('.')?;
        let minor = minor.split('.').next()?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let (major, minor) = numbers.max().context("it needs no C library")?;
    packages.insert(0, format!("libc6 (>= {major}.{minor})"));
    Ok(packages.join(", "))
}

/// Runs a program and returns what it prints, as bytes of a file.
pub(super) fn printed(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    Ok(run(Command::new(program).args(arguments))?.into_bytes())
}

/// What a program writes into a folder of its own, by the names of the files.
pub(super) fn manual(program: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let scratch = Scratch::new()?;
    run(Command::new(program).arg("manual").arg(scratch.path()))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(scratch.path())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.push((name, fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_builders_is_found_and_no_other() {
        let has = |program: &[u8]| has_path(program, Path::new("/postern"));
        assert!(has(b"\0/postern/proxy/src/main.rs"));
        assert!(has(b"/postern/proxy"));
        assert!(!has(
            b"/usr/src/postern/proxy/src/main.rs /var/log/postern/audit.jsonl"
        ));
        assert!(!has(b"/postern.slice /postern"));
        assert!(!has(b""));
    }

    #[test]
    fn the_newest_symbol_decides_which_c_library_is_needed() -> Result<()> {
        let headers = "Dynamic Section:\n  NEEDED  libgcc_s.so.1\n  NEEDED  libc.so.6\n\
            Version References:\n  required from libc.so.6:\n\
            \x20   0x09691a75 0x00 05 GLIBC_2.2.5\n    0x069691b4 0x00 03 GLIBC_2.34\n\
            \x20   0x069691b9 0x00 03 GLIBC_2.9\n";
        assert_eq!(packages(headers)?, "libc6 (>= 2.34), libgcc-s1");
        let strange = "  NEEDED  libssl.so.3\n  GLIBC_2.34\n";
        assert!(packages(strange).is_err());
        assert!(packages("").is_err());
        Ok(())
    }
}
