//! A tree of files as a Debian package and as a tarball, the same bytes for the same files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use postern_tests::process::run;

use super::files::{Tree, set_mode};
use super::{VERSION, program};
use crate::root;

/// Debian's name of what both programs are for.
pub(super) const ARCHITECTURE: &str = "amd64";
/// Maintainer scripts, and their mode.
const SCRIPTS: [&str; 3] = ["postinst", "postrm", "prerm"];
const SCRIPT_MODE: u32 = 0o755;

/// How hard to press.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packing {
    /// As small as Debian's own packages.
    Small,
    /// Not at all, for tests.
    Quick,
}

/// Makes `postern_VERSION_amd64.deb` in a folder.
pub(super) fn debian_package(
    tree: &Tree,
    folder: &Path,
    epoch_s: u64,
    packing: Packing,
) -> Result<PathBuf> {
    versioned_package(tree, folder, epoch_s, (VERSION, packing))
}

/// The same under another version, for tests of upgrades.
pub(super) fn versioned_package(
    tree: &Tree,
    folder: &Path,
    epoch_s: u64,
    (version, packing): (&str, Packing),
) -> Result<PathBuf> {
    let date = run(Command::new("date")
        .args(["--utc", "--rfc-email", "--date"])
        .arg(format!("@{epoch_s}"))
        .env("LC_ALL", "C"))?;
    let fill = |text: String| {
        text.replace("@VERSION@", version)
            .replace("@ARCHITECTURE@", ARCHITECTURE)
            .replace("@DATE@", date.trim())
    };
    tree.put_changelog(&fill(source("changelog")?))?;
    // They are counted and hashed before what describes them is among them.
    let described = tree.folder.join("DEBIAN");
    if described.exists() {
        fs::remove_dir_all(&described)?;
    }
    let (sums, size_kib) = (sums(tree)?, size_kib(tree)?);
    let control = fill(source("control")?)
        .replace("@SIZE@", &size_kib.to_string())
        .replace("@LIBRARIES@", &program::needed(&tree.program)?);
    tree.put("DEBIAN/control", control.as_bytes())?;
    tree.put("DEBIAN/conffiles", source("conffiles")?.as_bytes())?;
    tree.put("DEBIAN/md5sums", sums.as_bytes())?;
    for script in SCRIPTS {
        let path = format!("DEBIAN/{script}");
        tree.put(&path, source(script)?.as_bytes())?;
        set_mode(&tree.folder.join(path), SCRIPT_MODE)?;
    }
    tree.settle(epoch_s)?;
    let file = folder.join(format!("postern_{version}_{ARCHITECTURE}.deb"));
    let mut pack = Command::new("dpkg-deb");
    pack.arg("--root-owner-group").args(match packing {
        // Several threads would cut the data into other pieces.
        Packing::Small => ["-Zxz", "--threads-max=1"],
        Packing::Quick => ["-Znone", "--uniform-compression"],
    });
    pack.env("SOURCE_DATE_EPOCH", epoch_s.to_string());
    run(pack.arg("--build").arg(&tree.folder).arg(&file))?;
    Ok(file)
}

/// Makes `NAME.tar.xz` in a folder, where the name is that of the tree's own folder.
pub(super) fn tarball(tree: &Tree, folder: &Path, epoch_s: u64) -> Result<PathBuf> {
    tree.settle(epoch_s)?;
    let name = tree.folder.file_name().context("a tree without a name")?;
    let above = tree.folder.parent().context("a tree without a folder")?;
    let file = folder.join(format!("{}.tar.xz", name.to_string_lossy()));
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--format=ustar",
        "--owner=0",
        "--group=0",
    ]);
    tar.args(["--numeric-owner", "--use-compress-program=xz -T1", "--file"]);
    run(tar.arg(&file).arg("--directory").arg(above).arg(name))?;
    Ok(file)
}

fn source(name: &str) -> Result<String> {
    let path = root()?.join("appliance/debian").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Every file's MD5, as dpkg wants it: against accidents only.
fn sums(tree: &Tree) -> Result<String> {
    let mut md5sum = Command::new("md5sum");
    let mut files = files(tree)?;
    files.sort();
    run(md5sum.args(&files).current_dir(&tree.folder))
}

/// What the files take, each in whole KiB and each folder as one.
fn size_kib(tree: &Tree) -> Result<u64> {
    let mut size_kib = 0;
    for path in tree.paths()? {
        size_kib += match path.is_dir() {
            true => 1,
            false => fs::metadata(&path)?.len().div_ceil(1_024),
        };
    }
    Ok(size_kib)
}

/// Every file below the root, relative to it.
fn files(tree: &Tree) -> Result<Vec<PathBuf>> {
    let paths = tree.paths()?.into_iter().filter(|it| it.is_file());
    let relative = paths.map(|it| Ok(it.strip_prefix(&tree.folder)?.to_owned()));
    relative.collect()
}
