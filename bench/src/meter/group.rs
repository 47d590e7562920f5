//! CPU time of everything that the bench has started, and of nothing else.
//!
//! A control group counts it, to the microsecond and with processes that have ended, so other
//! programs of the machine do not come in. It needs the second version of control groups and the
//! right to make one, <https://docs.kernel.org/admin-guide/cgroup-v2.html>.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use postern_tests::scratch::is_running;

use super::process::process_cpu_s;

/// Every group is called `postern-bench-<pid of its owner>`.
const PREFIX: &str = "postern-bench-";

/// What these threads do is work for the network that its senders had no time for.
const KERNEL_THREADS: &str = "ksoftirqd/";

/// A control group that this process is in, and whatever it starts from now on.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
    before: PathBuf,
    kernel_threads: Vec<u32>,
}

impl Group {
    /// Makes a group inside ours and enters it.
    ///
    /// # Errors
    /// If the machine has no such groups or we may not make one.
    pub(super) fn enter() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let ours = fs::read_to_string("/proc/self/cgroup")?;
        let before = folder(&mounts, &ours).context("no control groups of the second version")?;
        remove_stale(&before);
        let folder = before.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let group = Self {
            kernel_threads: kernel_threads()?,
            folder,
            before,
        };
        enter(&group.folder)?;
        group.busy_s()?;
        Ok(group)
    }

    /// CPU time so far, in seconds, all cores together.
    ///
    /// # Errors
    /// If the system does not say.
    pub(super) fn busy_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.folder.join("cpu.stat"))?;
        let own = usage_s(&stat).context("the control group does not count CPU time")?;
        let threads = self.kernel_threads.iter().copied();
        Ok(own + threads.filter_map(process_cpu_s).sum::<f64>())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group that is left behind costs nothing, and the next run removes it.
        let _ = enter(&self.before).and_then(|()| Ok(fs::remove_dir(&self.folder)?));
    }
}

fn enter(group: &Path) -> Result<()> {
    let file = group.join("cgroup.procs");
    fs::write(&file, std::process::id().to_string()).with_context(|| file.display().to_string())
}

/// The folder of the group that we are in.
fn folder(mounts: &str, ours: &str) -> Option<PathBuf> {
    let mut mounts = mounts.lines().map(|it| it.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|it| it.get(2) == Some(&"cgroup2"))?;
    let ours = ours.lines().find_map(|it| it.strip_prefix("0::/"))?;
    Some(Path::new(mount.get(1)?).join(ours))
}

/// Removes the groups of runs that were killed.
fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|it| it.strip_prefix(PREFIX));
        let pid = owner.and_then(|it| it.parse().ok());
        if pid.is_some_and(|pid| !is_running(pid)) {
            // Another run may be removing the same; the one that loses has nothing to do.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn kernel_threads() -> Result<Vec<u32>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let entry = entry?;
        // Most entries are no process, and a process may end meanwhile.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(KERNEL_THREADS) {
            threads.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|it| it.parse::<u32>().ok()),
            );
        }
    }
    Ok(threads)
}

fn usage_s(stat: &str) -> Option<f64> {
    let usage = stat.lines().find_map(|it| it.strip_prefix("usage_usec "))?;
    Some(usage.trim().parse::<f64>().ok()? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_group_is_found_where_its_file_system_is() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        for (ours, expected) in [
            ("2:cpu:/a\n0::/\n", "/sys/fs/cgroup/unified"),
            ("0::/user.slice/b\n", "/sys/fs/cgroup/unified/user.slice/b"),
        ] {
            assert_eq!(folder(mounts, ours), Some(PathBuf::from(expected)));
        }
        assert_eq!(folder(mounts, "2:cpu:/a\n"), None);
        assert_eq!(folder("tmpfs / tmpfs rw 0 0\n", "0::/\n"), None);
    }

    #[test]
    fn usage_is_in_microseconds() {
        assert_eq!(usage_s("usage_usec 2500000\nuser_usec 1\n"), Some(2.5));
        assert_eq!(usage_s("nr_periods 0\n"), None);
    }
}
