//! The guest's kernel and files, made once from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::{Scratch, Server, needs, wait_until};

/// What makes the root of a Debian system.
pub(super) const MAKER: &str = "mmdebstrap";

/// The release of Debian, whose kernel has all that Postern's ring can use.
const RELEASE: &str = "trixie";

/// What is in the guest beside what every Debian has; the kernel's package brings cpio.
const PACKAGES: &str = "linux-image-cloud-amd64,postgresql,pgbouncer,haproxy,nginx,\
                        libnginx-mod-stream,iproute2,mawk,openssl,procps";

/// What is done in the new root.
const SCRIPT: &str = include_str!("../../emulator/image.sh");

/// Packages of 200 MB, by a slow network.
const LIMIT: Duration = Duration::from_secs(1_800);

/// What a guest starts from.
#[derive(Debug)]
pub(super) struct Image {
    /// Its kernel.
    pub(super) kernel: PathBuf,
    /// All its files, as an archive.
    pub(super) root: PathBuf,
}

/// The files of an image in its folder.
const KERNEL: &str = "kernel";
const ROOT: &str = "root.cpio";
const VERSIONS: &str = "versions";
/// What the image was made from; written last, so an image with it is whole.
const RECIPE: &str = "recipe";

/// The image in a folder. It is made if there is none, or one of another recipe; packages stay as
/// they were then until the folder is removed.
///
/// # Errors
/// If it cannot be made, or we are interrupted; the message quotes what the maker said.
pub(super) fn get(folder: &Path, scratch: &Scratch) -> Result<Image> {
    let recipe = format!("{RELEASE}\n{PACKAGES}\n{SCRIPT}");
    let is_made = fs::read_to_string(folder.join(RECIPE)).is_ok_and(|it| it == recipe);
    if !is_made {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        eprintln!("         the guest of the emulator is made, once; this takes some minutes");
        make(folder, scratch)?;
        fs::write(folder.join(RECIPE), recipe)?;
    }
    Ok(Image {
        kernel: folder.join(KERNEL),
        root: folder.join(ROOT),
    })
}

/// The packages of an image and their versions.
pub(super) fn versions(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join(VERSIONS)).ok()
}

fn make(folder: &Path, scratch: &Scratch) -> Result<()> {
    let maker = needs::program(MAKER).with_context(|| format!("{MAKER} is not installed"))?;
    let script = scratch.path().join("image.sh");
    fs::write(&script, SCRIPT)?;
    let mut command = Account::own().command(&maker, "TERM");
    command
        .args(["--variant=apt", "--include", PACKAGES])
        .arg(hook(&[
            "upload",
            &script.display().to_string(),
            "/image.sh",
        ]))
        .arg("--customize-hook=chroot \"$1\" sh /image.sh");
    for name in [KERNEL, ROOT, VERSIONS] {
        let path = folder.join(name).display().to_string();
        command.arg(hook(&["download", &format!("/boot/{name}"), &path]));
    }
    // Everything of use has been downloaded from the root when it would be packed.
    command.args(["--format=null", RELEASE]);
    let log = scratch.path().join("image.log");
    let mut maker = Server::spawn(MAKER, command, &log, Signal::SIGTERM)?;
    wait_until("the guest is made", LIMIT, || Ok(!maker.is_running()?))?;
    let status = maker.stop()?;
    let is_whole = [KERNEL, ROOT, VERSIONS]
        .iter()
        .all(|it| folder.join(it).is_file());
    if !status.success() || !is_whole {
        bail!(
            "{MAKER} failed: {status}; its log ends with:\n{}",
            tail(&log)
        );
    }
    Ok(())
}

/// A step of the maker, each word quoted for its shell.
fn hook(words: &[&str]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|it| format!("'{}'", it.replace('\'', "'\\''")))
        .collect();
    // The name of a step is compared before the shell sees it.
    let step = words.first().copied().unwrap_or_default();
    let arguments = quoted.get(1..).unwrap_or_default().join(" ");
    format!("--customize-hook={step} {arguments}")
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    const LINES: usize = 25;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LINES);
    lines.get(first..).unwrap_or_default().join("\n")
}
