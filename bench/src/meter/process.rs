//! What the kernel says of single processes.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

/// As in the machine's own counters.
const TICKS_PER_S: f64 = 100.0;

/// CPU time of processes and their children so far, in seconds. A process that has ended counts
/// nothing.
///
/// # Errors
/// If the list of processes cannot be read.
pub fn cpu_s(pids: &[u32]) -> Result<f64> {
    let pids: Vec<u32> = family(pids)?.into_iter().collect();
    Ok(sum_cpu_s(&pids))
}

/// CPU time of these processes and of no others so far, in seconds.
pub(super) fn sum_cpu_s(pids: &[u32]) -> f64 {
    pids.iter().copied().filter_map(process_cpu_s).sum()
}

/// Processes and all their descendants.
///
/// # Errors
/// If the list of processes cannot be read.
pub fn family(pids: &[u32]) -> Result<BTreeSet<u32>> {
    let mut family: BTreeSet<u32> = pids.iter().copied().collect();
    if family.is_empty() {
        return Ok(family);
    }
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|it| it.parse().ok());
        parents.extend(pid.and_then(|pid| Some((pid, parent(pid)?))));
    }
    loop {
        let before = family.len();
        let children = parents.iter().filter(|(_, parent)| family.contains(parent));
        let children: Vec<u32> = children.map(|&(pid, _)| pid).collect();
        family.extend(children);
        if family.len() == before {
            return Ok(family);
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    // A process may end while the list is read.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields(&stat).nth(1)?.parse().ok()
}

/// CPU time of one process so far, in seconds: exact where the scheduler keeps it, or else in
/// hundredths of a second.
pub(super) fn process_cpu_s(pid: u32) -> Option<f64> {
    threads_cpu_s(pid).or_else(|| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat_cpu_s(&stat)
    })
}

fn threads_cpu_s(pid: u32) -> Option<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // A thread that ends meanwhile takes its time with it: proxies keep theirs.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else {
            continue;
        };
        sum += text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9;
    }
    // A kernel that does not keep it has the files, with zeros.
    (sum > 0.0).then_some(sum)
}

/// Time in user space and in the kernel.
fn stat_cpu_s(stat: &str) -> Option<f64> {
    let mut times = fields(stat).skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

/// The fields after the command's name, which is in parentheses and may itself hold some; the
/// first is the state, <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    let after = stat.rsplit_once(')').map_or("", |it| it.1);
    after.split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_the_children() -> Result<()> {
        let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
        let family = family(&[std::process::id()]);
        child.kill()?;
        child.wait()?;
        assert!(family?.contains(&child.id()));
        assert_eq!(cpu_s(&[])?, 0.0);
        Ok(())
    }

    #[test]
    fn the_time_stands_after_a_name_with_parentheses() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0";
        assert_eq!(stat_cpu_s(stat), Some(2.0));
        assert_eq!(fields(stat).nth(1), Some("1"));
        assert_eq!(stat_cpu_s("42 (cut"), None);
    }
}
