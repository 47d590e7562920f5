//! Cargo, run by a program that cargo itself has started.

use std::process::Command;

use anyhow::{Context, Result};

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
