//! What the system says of a process, and what a series of times comes to.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use postern_tests::Postern;
use postern_tests::process::run;
use serde_json::Value;

/// Clock ticks of `/proc/PID/stat` a second, on every Linux there is (proc(5), `USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// The memory that a process has in use, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let number = line.and_then(|it| it.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}

/// The time that a process has kept processors busy.
pub(crate) fn busy(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may have anything in it; the fields after it are counted from the state.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let mut ticks = fields.split(' ').skip(11).take(2);
    let mut next = || anyhow::Ok(ticks.next().context("no times")?.parse::<u64>()?);
    let ticks = next()? + next()?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// What the kernel holds on a port of 127.0.0.1 that its process has not read, in bytes.
pub(crate) fn unread(port: u16) -> Result<u64> {
    let local = format!("0100007F:{port:04X}");
    let mut bytes = 0;
    for line in fs::read_to_string("/proc/net/tcp")?.lines() {
        let mut fields = line.split_whitespace().skip(1);
        if fields.next() == Some(&local) {
            let queues = fields.nth(2).and_then(|it| it.split_once(':'));
            let (_, received) = queues.context("no queues")?;
            bytes += u64::from_str_radix(received, 16)?;
        }
    }
    Ok(bytes)
}

/// How many file descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// How much of a limit is used, by `postern show limits`.
pub(crate) fn used(postern: &Postern, limit: &str) -> Result<u64> {
    let json = run(&mut postern.command(&["show", "limits", "--json"])?)?;
    let rows: Vec<Value> = serde_json::from_str(&json)?;
    let row = rows.iter().find(|it| it["limit"] == limit);
    let used = row.and_then(|it| it["used"].as_u64());
    used.with_context(|| format!("{limit} is not in {json}"))
}

/// The time that 99 of 100 are not above.
pub(crate) fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let place = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}
