//! Making a ring, and saying what to do where that is not possible.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use io_uring::{IoUring, Probe, opcode};

use crate::RingConfig;
use crate::buffers::Pools;
use crate::driver::{Completion, Driver, Received, Shots};
use crate::limits::{BUFFERS_MAX, COMPLETIONS, SESSIONS_MAX, SUBMISSIONS};
use crate::token::{Op, Side, Token};
use crate::uring::Uring;

/// How long the multishot receive of the self-test may take, in milliseconds.
const SELF_TEST_MS: u64 = 1_000;

/// Why the ring could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sysctl forbids it to everybody (2) or to the unprivileged (1).
    #[error(
        "io_uring is switched off: kernel.io_uring_disabled is {value}; \
         run `sysctl -w kernel.io_uring_disabled=0`, or for the value 1 make the user a member \
         of the group in kernel.io_uring_group"
    )]
    Disabled {
        /// The value of the sysctl.
        value: String,
    },
    /// A seccomp filter, as container runtimes have one.
    #[error(
        "io_uring is forbidden here, though not by kernel.io_uring_disabled: a seccomp filter of \
         the container or of systemd blocks it; allow io_uring_setup, io_uring_enter and \
         io_uring_register in the seccomp profile (systemd: SystemCallFilter=@io-uring)"
    )]
    Forbidden,
    /// The kernel lacks something that 6.1 has.
    #[error("the kernel is too old, it lacks {what}: Linux 6.1 or newer is needed")]
    KernelTooOld {
        /// What it lacks.
        what: &'static str,
    },
    /// No memory for the rings or buffers.
    #[error(
        "no memory for the ring while {doing}: configure fewer buffers, or raise the memory limit \
         (RLIMIT_MEMLOCK, systemd: LimitMEMLOCK=)"
    )]
    Memory {
        /// What was being done.
        doing: &'static str,
    },
    /// No file descriptors left.
    #[error("no file descriptors left: raise RLIMIT_NOFILE (systemd: LimitNOFILE=)")]
    Files,
    /// A value of the configuration that cannot be.
    #[error("{key} is {value}: {range}")]
    Config {
        /// The field of [`RingConfig`].
        key: &'static str,
        /// Its value.
        value: usize,
        /// What would be valid.
        range: &'static str,
    },
    /// Anything else the kernel refused.
    #[error("{doing} failed")]
    Setup {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Checks the numbers of a configuration.
///
/// # Errors
///
/// [`StartError::Config`] for the first that is out of range.
pub(crate) fn check(config: &RingConfig) -> Result<(), StartError> {
    let buffers = usize::from(config.buffers);
    let buffer_bytes = config.buffer_bytes as usize;
    let rules = [
        (
            "workers",
            config.workers,
            0 < config.workers,
            "at least one is needed",
        ),
        (
            "sessions_max",
            config.sessions_max,
            (1..=SESSIONS_MAX).contains(&config.sessions_max),
            "between 1 and 2^28 is valid",
        ),
        (
            "buffers",
            buffers,
            config.buffers.is_power_of_two() && (8..=BUFFERS_MAX).contains(&config.buffers),
            "a power of two between 8 and 32768 is valid",
        ),
        (
            "buffer_bytes",
            buffer_bytes,
            (512..=64 * 1024).contains(&buffer_bytes),
            "between 512 and 65536 is valid",
        ),
    ];
    for (key, value, holds, range) in rules {
        if !holds {
            return Err(StartError::Config { key, value, range });
        }
    }
    Ok(())
}

/// Makes the ring of a worker, on the worker's own thread, and tries it out.
///
/// # Errors
///
/// Whatever of the kernel's features is missing, by name.
pub(crate) fn open(config: &RingConfig, wake: Arc<File>) -> Result<Uring, StartError> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .dontfork()
        .build(SUBMISSIONS)
        .map_err(refused)?;
    let features = [
        (ring.params().is_feature_nodrop(), "IORING_FEAT_NODROP"),
        (ring.params().is_feature_ext_arg(), "IORING_FEAT_EXT_ARG"),
        (
            ring.params().is_feature_skip_cqe_on_success(),
            "IORING_FEAT_CQE_SKIP",
        ),
    ];
    if let Some((_, what)) = features.into_iter().find(|(is_there, _)| !is_there) {
        return Err(StartError::KernelTooOld { what });
    }
    probe(&ring)?;
    let pool = Pools::new(config.buffers, config.buffer_bytes)
        .map_err(|source| setup("mapping the receive buffers", source))?;
    let mut uring = Uring::new(ring, pool, wake).map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => StartError::KernelTooOld {
            what: "provided-buffer rings",
        },
        _ => setup("registering the receive buffers", source),
    })?;
    try_out(&mut uring)?;
    Ok(uring)
}

fn probe(ring: &IoUring) -> Result<(), StartError> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|source| setup("asking for the opcodes", source))?;
    let needed = [
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    ];
    for (code, what) in needed {
        if !probe.is_supported(code) {
            return Err(StartError::KernelTooOld { what });
        }
    }
    Ok(())
}

/// Multishot receive is a flag, which no probe names: it is tried on a pair of sockets.
fn try_out(uring: &mut Uring) -> Result<(), StartError> {
    let pair = UnixStream::pair().map_err(|source| setup("making a pair of sockets", source));
    let (mut peer, socket) = pair?;
    let socket = OwnedFd::from(socket);
    let token = Token {
        slot: 0,
        generation: 0,
        op: Op::Receive(Side::Client),
    };
    peer.write_all(&[1])
        .map_err(|source| setup("writing to a pair of sockets", source))?;
    uring.receive(token, &socket, Shots::Multi);
    let deadline_ms = uring.now_ms() + SELF_TEST_MS;
    let mut peer = Some(peer);
    let mut completions = Vec::new();
    let mut outcome = Err(StartError::KernelTooOld {
        what: "multishot receive",
    });
    while uring.now_ms() < deadline_ms {
        uring.wait(Some(SELF_TEST_MS), &mut completions);
        for completion in completions.drain(..) {
            let Completion::Received { what, last, .. } = completion else {
                continue;
            };
            if let Received::Data(buffer) = what {
                uring.release(buffer);
                if !last {
                    outcome = Ok(());
                }
                peer = None;
            }
            if last {
                return outcome;
            }
        }
    }
    drop(peer);
    outcome
}

/// Why the kernel has not made a ring.
fn refused(source: io::Error) -> StartError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => {
            let value = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            match value.as_deref().map(str::trim) {
                Ok("0") => StartError::Forbidden,
                Ok(value) => StartError::Disabled {
                    value: value.to_owned(),
                },
                // The sysctl is younger than io_uring, so it says nothing about an old kernel.
                Err(_) if source.raw_os_error() == Some(libc::ENOSYS) => {
                    StartError::KernelTooOld { what: "io_uring" }
                }
                Err(_) => StartError::Forbidden,
            }
        }
        Some(libc::EINVAL) => StartError::KernelTooOld {
            what: "IORING_SETUP_SINGLE_ISSUER with IORING_SETUP_DEFER_TASKRUN",
        },
        _ => setup("making the ring", source),
    }
}

fn setup(doing: &'static str, source: io::Error) -> StartError {
    match source.raw_os_error() {
        Some(libc::ENOMEM) => StartError::Memory { doing },
        Some(libc::EMFILE | libc::ENFILE) => StartError::Files,
        _ => StartError::Setup { doing, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(errno: i32) -> StartError {
        refused(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_refusal_names_cause_and_cure() {
        assert!(refusal(libc::EINVAL).to_string().contains("6.1"));
        assert!(matches!(refusal(libc::ENOMEM), StartError::Memory { .. }));
        assert!(refusal(libc::EMFILE).to_string().contains("LimitNOFILE"));
        let forbidden = refusal(libc::EPERM).to_string();
        assert!(forbidden.contains("seccomp") || forbidden.contains("io_uring_disabled"));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let config = RingConfig::new(1);
        assert!(check(&config).is_ok());
        let bad = RingConfig {
            buffers: 1000,
            ..config
        };
        assert!(matches!(
            check(&bad),
            Err(StartError::Config { key: "buffers", .. })
        ));
    }
}
