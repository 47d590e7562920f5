//! Data folders that take seconds to make are made once and copied afterwards.
//!
//! The copies' originals live in cargo's target folder, so `cargo clean` removes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use crate::process::run;

/// Fills `target`, which must not exist yet, with a copy of the template `key`, or by `make`,
/// which then becomes the template.
///
/// `key` must name everything that the content depends on.
///
/// # Errors
/// If `make` fails or the copy does.
pub fn fill(key: &str, target: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let Some(templates) = target_folder().map(|it| it.join("templates")) else {
        return make(target);
    };
    // Owners are part of the copy, so root and others do not share one.
    let template = templates.join(format!("{key}-{}", geteuid()));
    if template.is_dir() {
        return copy(&template, target);
    }
    make(target)?;
    let unfinished = templates.join(format!("unfinished-{}-{key}", std::process::id()));
    fs::create_dir_all(&templates)?;
    copy(target, &unfinished)?;
    if fs::rename(&unfinished, &template).is_err() {
        // Another process was faster; its template is as good.
        fs::remove_dir_all(&unfinished)?;
    }
    Ok(())
}

/// The target folder that the running program was built in, which cargo marks with a file.
#[must_use]
pub fn target_folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let mut parents = program.ancestors();
    parents
        .find(|it| it.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned)
}

/// Copies a folder with owners, modes and extended attributes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp")
        .arg("--archive")
        .arg("--")
        .arg(from)
        .arg(to))
    .with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
