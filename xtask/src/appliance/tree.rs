//! The files of the image: Debian's packages and ours, packed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use postern_tests::archive::Archive;
use postern_tests::process::run;

use super::tool::tool;
use crate::dist::libraries;
use crate::root;

/// The release of Debian.
const RELEASE: &str = "trixie";

/// What the image is made of, a line a package with its reason.
const PACKAGES: &str = include_str!("../../../appliance/packages");

/// What the root and the boot files are made of.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Fetches and unpacks the packages and puts our files over them, in an empty folder.
    ///
    /// # Errors
    /// If a package cannot be fetched or a file cannot be written.
    pub(super) fn make(folder: &Path, program: &Path, version: &str) -> Result<Self> {
        let appliance = root()?.join("appliance");
        fs::write(folder.join("libraries"), libraries::text()?)?;
        let quoted = |it: &Path| format!("'{}'", it.display().to_string().replace('\'', "'\\''"));
        let hook = format!(
            "sh {} \"$1\" {} {} {} {version}",
            quoted(&appliance.join("finish.sh")),
            quoted(program),
            quoted(&appliance),
            quoted(folder)
        );
        let mut command = tool("mmdebstrap");
        command
            .args(["--variant=extract", "--include", &wanted().join(",")])
            .arg(format!("--extract-hook={hook}"))
            // What the package manager leaves behind is taken away with the rest.
            .args(["--skip=cleanup", "--format=tar", RELEASE])
            .arg(folder.join("root.tar"));
        let log = folder.join("mmdebstrap.log");
        let written = File::create(&log)?;
        command.stdin(Stdio::null()).stderr(written.try_clone()?);
        let status = command.stdout(written).status();
        if !status.context("cannot start mmdebstrap")?.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            bail!("mmdebstrap failed:\n{}", last_lines(&said));
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// A file that was put beside the root.
    ///
    /// # Errors
    /// If it is not there.
    pub(super) fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Packs the root.
    ///
    /// # Errors
    /// If that fails.
    pub(super) fn pack_root(&self, wanted: &Path) -> Result<()> {
        let archive = self.folder.join("root.tar");
        let mut command = tool("mksquashfs");
        command
            .arg("-")
            .arg(wanted)
            .args(["-tar", "-quiet", "-no-progress", "-b", "131072"])
            .args(["-comp", "lz4", "-Xhc"])
            .stdin(File::open(&archive)?)
            // It notes that the archive's own folder has no name.
            .stdout(Stdio::null())
            .stderr(File::create(self.folder.join("mksquashfs.log"))?);
        let status = command.status().context("cannot start mksquashfs")?;
        if !status.success() {
            let said = String::from_utf8(self.file("mksquashfs.log")?)?;
            bail!("mksquashfs failed: {}", last_lines(&said));
        }
        fs::remove_file(archive)?;
        Ok(())
    }

    /// Packs the files that find the root.
    ///
    /// # Errors
    /// If that fails.
    pub(super) fn pack_initrd(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("initrd.cpio");
        let mut archive = Archive::new(std::io::BufWriter::new(File::create(&path)?));
        archive.tree(&self.folder.join("initrd"))?;
        archive.end()?;
        let packed = path.with_extension("cpio.zst");
        let mut command = tool("zstd");
        command.args(["-9", "--single-thread", "--quiet", "--force"]);
        run(command.arg(&path).arg("-o").arg(&packed))?;
        self.file("initrd.cpio.zst")
    }
}

/// The packages that are asked for.
fn wanted() -> Vec<&'static str> {
    let lines = PACKAGES.lines();
    let lines = lines.filter(|it| !it.starts_with(['#', '-']));
    lines
        .filter_map(|it| Some(it.split_once(": ")?.0))
        .collect()
}

fn last_lines(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LINES);
    lines.get(first..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_its_reason() {
        for line in PACKAGES.lines().filter(|it| !it.starts_with('#')) {
            let is_empty = line.is_empty();
            let has_reason = line.split_once(": ").is_some_and(|it| !it.1.is_empty());
            assert!(is_empty || has_reason, "{line}");
        }
        let readme = include_str!("../../../appliance/README.md");
        for name in wanted() {
            assert!(readme.contains(&format!("| `{name}` | ")), "{name}");
        }
        assert!(wanted().contains(&"nftables"));
        assert!(!wanted().iter().any(|it| it.contains("dbus")));
    }
}
