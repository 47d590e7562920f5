//! The tree of files that both archives hold, at the paths where they are installed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::program::CLibrary;
use super::{libraries, program};
use crate::root;

/// What of the appliance's files belongs to the program and not to the image.
const SHARED: [&str; 10] = [
    "usr/lib/systemd/system/postern.service",
    "usr/lib/systemd/system/postern.slice",
    "usr/lib/systemd/system/postern.socket",
    "usr/lib/systemd/system/postern-closed.service",
    "usr/lib/systemd/system/postern-policy.service",
    "usr/lib/systemd/system/postern-watch.service",
    "usr/lib/sysusers.d/postern.conf",
    "usr/lib/tmpfiles.d/postern.conf",
    "usr/share/postern/monitoring/alerts.yml",
    "usr/share/postern/monitoring/dashboard.json",
];
/// The guides, which the package has too.
const GUIDES: [&str; 4] = [
    "operating.md",
    "configuration.md",
    "perimeter.md",
    "what-it-is-not.md",
];

/// Where a package's own documents are.
const DOCUMENTS: &str = "usr/share/doc/postern";

const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;

/// A tree that is laid.
#[derive(Debug)]
pub(super) struct Tree {
    /// Its root.
    pub(super) folder: PathBuf,
    /// The program in it.
    pub(super) program: PathBuf,
}

impl Tree {
    /// Lays everything that goes with a program into a folder that is empty.
    pub(super) fn lay(program: &Path, folder: &Path, c_library: CLibrary) -> Result<Self> {
        let tree = Self {
            folder: folder.to_owned(),
            program: folder.join("usr/bin/postern"),
        };
        tree.put("usr/bin/postern", &fs::read(program)?)?;
        set_mode(&tree.program, PROGRAM_MODE)?;
        let default = program::printed(program, &["config", "default"])?;
        tree.put("etc/postern/postern.toml", &default)?;
        for (name, bytes) in program::manual(program)? {
            tree.put_manual(&name, &bytes)?;
        }
        tree.put_shared()?;
        tree.put_documents()?;
        if c_library == CLibrary::Within {
            tree.put_licences()?;
        }
        Ok(tree)
    }

    /// Writes a file and the folders above it.
    pub(super) fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(path);
        let above = path.parent().context("a file without a folder")?;
        fs::create_dir_all(above)?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        set_mode(&path, FILE_MODE)
    }

    /// Gives every file and folder the same time, and every folder the usual mode, whatever the
    /// umask is.
    pub(super) fn settle(&self, epoch_s: u64) -> Result<()> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch_s);
        for path in self.paths()? {
            if path.is_dir() {
                set_mode(&path, PROGRAM_MODE)?;
            }
            fs::File::open(&path)?.set_modified(time)?;
        }
        Ok(())
    }

    /// Everything below the root and the root itself, sorted, what is inside a folder before it.
    pub(super) fn paths(&self) -> Result<Vec<PathBuf>> {
        let mut paths = vec![self.folder.clone()];
        let mut open = vec![self.folder.clone()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    open.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths.sort();
        paths.reverse();
        Ok(paths)
    }

    fn put_manual(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match name {
            "postern.bash" => self.put("usr/share/bash-completion/completions/postern", bytes),
            "_postern" => self.put("usr/share/zsh/vendor-completions/_postern", bytes),
            "postern.fish" => self.put("usr/share/fish/vendor_completions.d/postern.fish", bytes),
            page => match page.rsplit_once('.') {
                Some((_, section @ ("1" | "5"))) => self.put(
                    &format!("usr/share/man/man{section}/{page}.gz"),
                    &gzip(bytes)?,
                ),
                _ => bail!("nobody knows where {page} belongs"),
            },
        }
    }

    fn put_shared(&self) -> Result<()> {
        let from = root()?.join("appliance/root");
        for path in SHARED {
            let bytes = fs::read(from.join(path)).with_context(|| path.to_owned())?;
            self.put(path, &bytes)?;
        }
        Ok(())
    }

    fn put_documents(&self) -> Result<()> {
        let root = root()?;
        for guide in GUIDES {
            let text = fs::read_to_string(root.join("docs").join(guide))?;
            self.put(
                &format!("{DOCUMENTS}/{guide}"),
                without_sources(&text).as_bytes(),
            )?;
        }
        let copyright = fs::read(root.join("appliance/debian/copyright"))?;
        self.put(&format!("{DOCUMENTS}/copyright"), &copyright)?;
        let libraries = libraries::text()?;
        self.put(
            &format!("{DOCUMENTS}/libraries.gz"),
            &gzip(libraries.as_bytes())?,
        )
    }

    /// What a Debian has anyway: our own licence; and what is said of the C library.
    fn put_licences(&self) -> Result<()> {
        let licence = fs::read(root()?.join("LICENSE"))?;
        self.put(&format!("{DOCUMENTS}/LICENSE"), &licence)?;
        let c_library = libraries::c_library()?;
        self.put(&format!("{DOCUMENTS}/c-library"), c_library.as_bytes())
    }

    /// The changelog, which only a package has.
    pub(super) fn put_changelog(&self, text: &str) -> Result<()> {
        let path = format!("{DOCUMENTS}/changelog.gz");
        self.put(&path, &gzip(text.as_bytes())?)
    }
}

/// A guide where the sources are not: a link to them becomes words, `[a](../b.md)` for example
/// `a (b.md in the sources)`.
fn without_sources(guide: &str) -> String {
    let mut parts = guide.split("](../");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let said = text.rfind('[').map(|at| text.split_off(at));
        let (path, after) = part.split_once(')').unwrap_or((part, ""));
        match said.as_deref().and_then(|it| it.strip_prefix('[')) {
            Some(said) if said != path => text.push_str(&format!("{said} ({path} in the sources)")),
            _ => text.push_str(&format!("{path} in the sources")),
        }
        text.push_str(after);
    }
    text
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).with_context(|| path.display().to_string())
}

/// As Debian wants it: as small as it gets, without a name and a time.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gzip")?;
    let mut input = gzip.stdin.take().context("gzip has no input")?;
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.write_all(bytes));
        let output = gzip.wait_with_output();
        (writer.join(), output)
    });
    let (Ok(Ok(())), Ok(output)) = written else {
        bail!("gzip does not take what it is given");
    };
    if !output.status.success() {
        bail!("gzip failed: {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guide_without_the_sources_has_no_link_to_them() {
        let guide = "See [a](b.md), [c](../c/README.md) and [D.md](../D.md).\n[e](../e) too\n";
        assert_eq!(
            without_sources(guide),
            "See [a](b.md), c (c/README.md in the sources) and D.md in the sources.\n\
             e in the sources too\n"
        );
        assert_eq!(without_sources("none\n"), "none\n");
    }
}
