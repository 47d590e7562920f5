//! The kernel's counters of the whole machine.

use std::fs;

use anyhow::{Context, Result};

/// The unit of the times in /proc/stat, a second: `USER_HZ`, which is 100 on every machine that
/// Linux runs PostgreSQL on.
const TICKS_PER_S: f64 = 100.0;

/// The fields of /proc/stat that are no work of ours, from 0: idle, waiting for a disk, and taken
/// by another virtual machine, <https://man7.org/linux/man-pages/man5/proc_stat.5.html>.
const IDLE_FIELDS: [usize; 3] = [3, 4, 7];

/// Those of interrupts: the hardware's, and the rest of their work, the network's above all.
const INTERRUPT_FIELDS: [usize; 2] = [5, 6];

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Machine {
    /// Time that the cores did nothing since the start of the machine, in seconds, all together.
    pub(super) idle_s: f64,
    /// Time spent on interrupts since the start, in seconds, where the kernel does not count it as
    /// that of the process that was interrupted.
    pub(super) interrupts_s: f64,
    /// Context switches since the start.
    pub(super) switches: f64,
    /// TCP segments sent since the start, retransmitted ones included.
    pub(super) segments: f64,
}

impl Machine {
    /// Reads them.
    ///
    /// # Errors
    /// If the system does not have them.
    pub(super) fn read() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let snmp = fs::read_to_string("/proc/net/snmp")?;
        Ok(Self {
            idle_s: idle_s(&stat).context("/proc/stat has no line of all cores")?,
            interrupts_s: interrupts_s(&stat).unwrap_or(0.0),
            switches: switches(&stat).context("/proc/stat has no context switches")?,
            segments: segments(&snmp).context("/proc/net/snmp has no TCP segments")?,
        })
    }
}

fn idle_s(stat: &str) -> Option<f64> {
    seconds(stat, &IDLE_FIELDS)
}

/// A kernel that samples has never seen the first field, because interrupts do not interrupt each
/// other; it counts both as the time of the process. One that accounts for them
/// (`CONFIG_IRQ_TIME_ACCOUNTING`) has both fields and leaves them out of the process's time.
fn interrupts_s(stat: &str) -> Option<f64> {
    let hard = seconds(stat, &[INTERRUPT_FIELDS[0]])?;
    if hard == 0.0 {
        return Some(0.0);
    }
    seconds(stat, &INTERRUPT_FIELDS)
}

/// The sum of some fields of the line of all cores.
fn seconds(stat: &str, fields: &[usize]) -> Option<f64> {
    let all = stat.lines().find_map(|it| it.strip_prefix("cpu "))?;
    let times: Vec<f64> = all.split_whitespace().flat_map(str::parse).collect();
    let sum: Option<f64> = fields.iter().map(|&it| times.get(it)).sum();
    Some(sum? / TICKS_PER_S)
}

fn switches(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|it| it.strip_prefix("ctxt "))?;
    line.trim().parse().ok()
}

/// The names stand in one line, the values in the next.
fn segments(snmp: &str) -> Option<f64> {
    let mut lines = snmp.lines().filter(|it| it.starts_with("Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = columns.find(|(name, _)| *name == "OutSegs")?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_that_of_all_cores_with_waiting_and_stolen_time() {
        let stat = "cpu  593084 511062 209027 701371 277663 0 7446 950 0 0\n\
                    cpu0 285674 252191 93982 368117 146513 0 2925 472 0 0\nctxt 25620586\n";
        assert_eq!(idle_s(stat), Some(9_799.84));
        assert_eq!(switches(stat), Some(25_620_586.0));
        assert_eq!(idle_s("cpu0 1 2 3 4"), None);
    }

    #[test]
    fn interrupts_count_only_where_the_kernel_accounts_for_them() {
        assert_eq!(interrupts_s("cpu  1 2 3 4 5 0 7446 950 0 0\n"), Some(0.0));
        assert_eq!(interrupts_s("cpu  1 2 3 4 5 50 150 0 0 0\n"), Some(2.0));
    }

    #[test]
    fn segments_are_found_by_name() {
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoMin InSegs OutSegs\nTcp: 200 11 12\n";
        assert_eq!(segments(snmp), Some(12.0));
        assert_eq!(segments("Tcp: OutSegs\n"), None);
    }
}
