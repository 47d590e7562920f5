//! CPU time, in nanoseconds.

use std::fs;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// Of the calling thread.
///
/// # Errors
/// If the system does not say.
pub(super) fn thread_cpu_ns() -> Result<u64> {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// What the three parties use, as all of them are threads of this process.
#[derive(Debug)]
pub(super) struct Parties {
    /// The kernel's threads that do what the network left undone when packets came too fast:
    /// otherwise it is done in the time of whoever sends.
    network_threads: Vec<u32>,
}

impl Parties {
    /// Looks for the threads of the kernel.
    ///
    /// # Errors
    /// If the list of processes cannot be read.
    pub(super) fn new() -> Result<Self> {
        let mut network_threads = Vec::new();
        for entry in fs::read_dir("/proc").context("/proc")? {
            let entry = entry?;
            // Most entries are no process, and a process may end meanwhile.
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.starts_with("ksoftirqd/") {
                let pid = entry
                    .file_name()
                    .to_str()
                    .and_then(|it| it.parse::<u32>().ok());
                network_threads.extend(pid);
            }
        }
        Ok(Self { network_threads })
    }

    /// CPU time of all threads that this process has or had, its rings' in the kernel included.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        let mut sum = read(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
        for pid in &self.network_threads {
            let file = format!("/proc/{pid}/schedstat");
            // A kernel that keeps no such statistics leaves this part out.
            let text = fs::read_to_string(file).unwrap_or_default();
            let first = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
            sum += first.unwrap_or(0);
        }
        Ok(sum)
    }
}

fn read(clock: ClockId) -> Result<u64> {
    let time = clock_gettime(clock)?;
    let seconds = u64::try_from(time.tv_sec())?;
    Ok(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}
