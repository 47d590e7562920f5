//! What the kernel has to offer: its version, io_uring, and the limits of the process.

use std::fs;
use std::num::NonZero;
use std::thread;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;

use super::{Probe, descriptors};
use crate::config::Config;
use crate::limits::{KERNEL_VERSION_MIN, MEMLOCK_BYTES_MIN};

/// Its part in the table.
pub(super) const LEG: &str = "kernel";

/// Everything about the kernel; the need for descriptors follows from the configuration.
pub(super) fn probes(config: Option<&Config>) -> Vec<Probe> {
    let mut probes = vec![version(), io_uring(), memlock()];
    // A login thread for each, as in the running process.
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    probes.extend(config.map(|config| descriptors::probe(&config.limits, threads)));
    probes
}

fn version() -> Probe {
    let what = "version";
    let cure = "use a newer kernel; Debian 12 has 6.1";
    let release = match uname() {
        Ok(name) => name.release().to_string_lossy().into_owned(),
        Err(errno) => return Probe::failed(LEG, what, errno.desc(), cure),
    };
    let (major, minor) = KERNEL_VERSION_MIN;
    match parse_version(&release) {
        Some(version) if version >= KERNEL_VERSION_MIN => Probe::ok(LEG, what, release),
        Some(_) => {
            let why = format!("{release} is older than {major}.{minor}");
            Probe::failed(LEG, what, why, cure)
        }
        None => {
            let why = format!("cannot make a number of {release}");
            Probe::warning(
                LEG,
                what,
                why,
                format!("{major}.{minor} or later is needed"),
            )
        }
    }
}

/// `6.1.0-18-amd64` is (6, 1).
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// Makes a ring. The switch of the kernel is only read to explain a refusal.
fn io_uring() -> Probe {
    let what = "io_uring";
    let error = match tokio_uring::Runtime::new(tokio_uring::builder().entries(8)) {
        Ok(_) => return Probe::ok(LEG, what, "a ring can be made"),
        Err(error) => error,
    };
    // Kernels before 6.6 have no such file, and then it is not the reason.
    let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    Probe::failed(
        LEG,
        what,
        format!("a ring cannot be made: {error}"),
        cure(switch.trim()),
    )
}

/// What to do when a ring cannot be made, by the value of `kernel.io_uring_disabled`,
/// <https://docs.kernel.org/admin-guide/sysctl/kernel.html#io-uring-disabled>.
fn cure(switch: &str) -> &'static str {
    match switch {
        "2" => "io_uring is switched off: sysctl kernel.io_uring_disabled=0",
        "1" => {
            "io_uring is for privileged processes only: sysctl kernel.io_uring_disabled=0, or put \
             the user into the group of kernel.io_uring_group"
        }
        _ => {
            "a seccomp filter may forbid it (containers do by default): allow io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
    }
}

fn memlock() -> Probe {
    let what = "locked memory";
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft >= MEMLOCK_BYTES_MIN => {
            let detail = if soft == nix::sys::resource::RLIM_INFINITY {
                "without limit".to_owned()
            } else {
                format!("{} KiB", soft / 1024)
            };
            Probe::ok(LEG, what, detail)
        }
        Ok((soft, _)) => {
            let why = format!(
                "{} KiB, under {} KiB",
                soft / 1024,
                MEMLOCK_BYTES_MIN / 1024
            );
            Probe::warning(LEG, what, why, "LimitMEMLOCK= of the service, or ulimit -l")
        }
        Err(errno) => Probe::warning(LEG, what, errno.desc(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        assert_eq!(parse_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse_version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(parse_version("5.15.0-1-generic"), Some((5, 15)));
        assert_eq!(parse_version("unknown"), None);
        assert!((5, 15) < KERNEL_VERSION_MIN);
    }
}
