//! What runs the guest's instructions: the processor itself (KVM), or a translator (TCG).
//!
//! Where this machine is a guest itself, KVM may be there and still start no kernel. So that is
//! tried once, with the image that is to be started.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use postern_tests::{Scratch, Server, wait_until};

use super::guest;

/// How long the trial may take; the image shows its page within seconds where KVM works.
const TRIAL_LIMIT: Duration = Duration::from_secs(20);
/// What KVM is, for whoever may use it.
const DEVICE: &str = "/dev/kvm";
/// What QEMU says when KVM stops a guest for good.
const STOPPED: &str = "KVM internal error";
/// A processor of the x86-64-v2 level, with a source of random numbers: what later ones have more,
/// wide vectors above all, takes longer when it is translated than what it replaces.
const TRANSLATED: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand";
/// The beginning of the console's page.
const PAGE: &[u8] = b"\x1b[H\x1b[2J\n  version";

static CHOSEN: OnceLock<Accelerator> = OnceLock::new();

/// What runs a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Tcg,
}

impl Accelerator {
    /// What starts an image on this machine; KVM is tried the first time.
    ///
    /// # Errors
    /// If no folder can be made, or QEMU is not installed.
    pub(super) fn for_image(image: &Path) -> Result<Self> {
        if let Some(chosen) = CHOSEN.get() {
            return Ok(*chosen);
        }
        let found = match fs::File::options().read(true).write(true).open(DEVICE) {
            Ok(_) => try_kvm(image)?,
            Err(error) => {
                println!("{DEVICE}: {error}: the guest is translated (TCG)");
                Self::Tcg
            }
        };
        Ok(*CHOSEN.get_or_init(|| found))
    }

    /// The arguments of QEMU that choose it, and a processor that it can have.
    pub(super) fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", TRANSLATED],
        }
    }

    /// Its name, for a person.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        }
    }
}

/// Starts the image without settings by KVM, which has to come as far as the console's page.
fn try_kvm(image: &Path) -> Result<Accelerator> {
    let scratch = Scratch::new()?;
    let folder = scratch.path();
    let console = folder.join("console");
    let log = folder.join("qemu.log");
    guest::copy_disk(folder, image)?;
    let mut command = guest::machine(folder, Accelerator::Kvm)?;
    command.args(["-display", "none", "-monitor", "none", "-no-reboot"]);
    command
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    let mut qemu = Server::spawn("QEMU", command, &log, Signal::SIGKILL)?;
    let mut shows_page = false;
    // It may take too long; then it does not work as far as anybody can tell.
    let waited = wait_until("a page by KVM", TRIAL_LIMIT, || {
        let said = fs::read(&console).unwrap_or_default();
        shows_page = said.windows(PAGE.len()).any(|it| it == PAGE);
        let stopped = fs::read_to_string(&log)?.contains(STOPPED);
        Ok(shows_page || stopped || !qemu.is_running()?)
    });
    qemu.kill().context("QEMU")?;
    Ok(if waited.is_ok() && shows_page {
        Accelerator::Kvm
    } else {
        println!("KVM is there, but does not start the image: the guest is translated (TCG)");
        Accelerator::Tcg
    })
}
