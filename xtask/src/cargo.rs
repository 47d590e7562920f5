//! Cargo, run by a program that cargo itself has started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// What the workspace's path becomes in programs that are delivered.
const SOURCES: &str = "/usr/src/postern";
/// What the path of the libraries' sources becomes.
const LIBRARIES: &str = "/usr/src/cargo";
/// Between the words of `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: char = '\u{1f}';

/// The cargo that started us, with arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    // Cargo tells us of our own package by variables that must not reach another build.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Flags of the compiler with which no path of this machine is in what it makes: that of the
/// workspace, and that of the libraries' sources. As `CARGO_ENCODED_RUSTFLAGS` has them, with
/// more that are given.
///
/// # Errors
/// If there is no home folder.
pub(crate) fn flags_without_paths(root: &Path, more: &[&str]) -> Result<String> {
    let moved =
        places(root)?.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let moved = moved.iter().map(String::as_str);
    let flags: Vec<&str> = moved.chain(more.iter().copied()).collect();
    Ok(flags.join(&SEPARATOR.to_string()))
}

/// The paths of this machine that sources are below, and what each becomes.
///
/// # Errors
/// If there is no home folder.
pub(crate) fn places(root: &Path) -> Result<[(PathBuf, &'static str); 2]> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let home = home.context("there is no home folder")?;
    Ok([(root.to_owned(), SOURCES), (home, LIBRARIES)])
}

/// What the compiler compiles for by itself, for example `x86_64-unknown-linux-gnu`.
///
/// # Errors
/// If it cannot be asked.
pub(crate) fn host() -> Result<String> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|it| it.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// What the compiler that cargo uses has to say.
///
/// # Errors
/// If it cannot be asked.
pub(crate) fn rustc(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).args(arguments).output();
    let output = output.context("rustc cannot be started")?;
    String::from_utf8(output.stdout).context("rustc does not answer with text")
}
