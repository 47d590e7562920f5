//! Why a command about the policy did not do what it should.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use postern_core::perimeter::Refused;
use postern_ebpf::abi::INTERFACE_INDEX_END;

use super::drift::Drift;
use crate::limits::POLICY_WHY_BYTES_MAX;

/// Why a command about the policy did not do what it should; says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// The process may not do what it must.
    #[error(
        "{} missing: run this as root, or give the service AmbientCapabilities=CAP_BPF \
         CAP_NET_ADMIN CAP_PERFMON",
        are(.0)
    )]
    Capabilities(Vec<&'static str>),
    /// An interface of the configuration is not there.
    #[error("perimeter.interfaces: {}; nothing was changed", list(.0))]
    Interfaces(Vec<Refused>),
    /// What its packets begin with is not known.
    #[error(
        "{name} is of a kind (ARPHRD {kind}) whose packets are not understood, so that nothing \
         could be judged there; nothing was changed"
    )]
    InterfaceKind {
        /// The interface.
        name: String,
        /// The kernel's number of its kind.
        kind: u16,
    },
    /// The kernel has numbered it too high.
    #[error(
        "{name} has number {number} in the kernel, and programs know those below \
         {INTERFACE_INDEX_END}; nothing was changed; restart the machine or its network namespace"
    )]
    InterfaceNumber {
        /// The interface.
        name: String,
        /// The kernel's number of it.
        number: u32,
    },
    /// The pins have no file system that holds them.
    #[error(
        "{} is not on bpffs: {why}; mount it: mount -t bpf bpf {}",
        pins.display(),
        at.display()
    )]
    Bpffs {
        /// The folder of the policy.
        pins: PathBuf,
        /// Where to mount.
        at: PathBuf,
        /// Why that was not done.
        why: String,
    },
    /// A file or a folder.
    #[error("cannot {what} {}: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        error: io::Error,
    },
    /// Another command is at work.
    #[error(
        "another command is changing the policy in {}{}; try again when it has ended",
        path.display(),
        by.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The folder of the policy.
        path: PathBuf,
        /// Its process, where the kernel tells.
        by: Option<u32>,
    },
    /// There is nothing to replace, to show or to watch.
    #[error("no policy is loaded in {}: postern policy load", .0.display())]
    NotLoaded(PathBuf),
    /// The cgroups are not as the policy needs them.
    #[error("{0}")]
    Cgroup(String),
    /// The kernel refused something.
    #[error("the kernel refused to {what}: {why}")]
    Kernel {
        /// What was asked of it.
        what: String,
        /// What it said.
        why: String,
    },
    /// The kernel refused the programs.
    #[error(
        "the kernel refused to load {what}: {why}; needed is Linux 6.1 or later with BPF_SYSCALL, \
         CGROUP_BPF, NET_CLS_BPF and NET_SCH_INGRESS"
    )]
    Load {
        /// Which part.
        what: String,
        /// What it said.
        why: String,
    },
    /// nftables is not there, or refused.
    #[error("{0}")]
    Nft(String),
    /// What the kernel has is not what was asked for.
    #[error("the kernel does not confirm the policy: {}", list(.0))]
    NotConfirmed(Vec<Drift>),
    /// Another process reads the events.
    #[error("another postern policy watch is running: the kernel hands each denial out once")]
    Watched,
    /// A question that cannot be answered.
    #[error("{0}")]
    Question(String),
    /// The user did not say yes.
    #[error("nothing was changed: say --yes to open the perimeter")]
    NotAsked,
}

impl PolicyError {
    /// Something that went wrong with a path.
    pub(super) fn file(what: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::File {
            what,
            path: path.to_owned(),
            error: error.into(),
        }
    }

    /// A part of the programs that the kernel refused.
    pub(super) fn load(what: &str, error: &dyn Error) -> Self {
        Self::Load {
            what: what.to_owned(),
            why: chain(error),
        }
    }

    /// Something that the kernel refused.
    pub(super) fn kernel(what: impl Into<String>, error: &dyn Error) -> Self {
        Self::Kernel {
            what: what.into(),
            why: chain(error),
        }
    }
}

/// An error with all that it rests on, cut to [`POLICY_WHY_BYTES_MAX`].
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat what they rest on.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let end = (0..=POLICY_WHY_BYTES_MAX)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

fn list<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}
